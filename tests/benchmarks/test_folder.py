"""The benchmark of a folder on a phantom: what it runs, that its numbers follow from one another, and its clock."""

from __future__ import annotations

import pytest

from benchmarks import folder
from benchmarks.folder import AHEAD, DEFAULT, HERE, NETWORK, PICTURES, PREPROCESSING, REST, Case, measure, steady
from benchmarks.inference import COMPUTED, LEFT_OUT
from tests.benchmarks.test_inference import SETTINGS

FILES = 4
CASES = [(COMPUTED, "yes"), (COMPUTED, "no"), (LEFT_OUT, "no")]


@pytest.fixture(scope="module")
def seen():
    """How many processes each run wanted, and the names of the files that it segmented."""
    return []


@pytest.fixture(scope="module")
def outcome(seen):
    segment = folder._segment

    def watched(case, num_workers):
        took, written = segment(case, num_workers)
        names = [item["id"] for item in case.parser.get_parsed_content("dataset").data]
        seen.append((num_workers, names, len(written), took))
        assert 0 < written[-1] - written[0] < took
        return took, written

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder, "_segment", watched)
        return measure(
            num_files=FILES, repetitions=1, num_workers=0, num_candidates=1, size=(64, 72), settings=SETTINGS
        )


def test_every_contender_segments_every_file(outcome, seen):
    names = [f"{number}_patient001_frame01" for number in range(FILES)]
    assert [run[:3] for run in seen] == [(workers, names, FILES) for _ in CASES for workers in (None, 0, 0)]


def test_rows(outcome):
    alone = [f"{part} alone, in this process" for part in (PREPROCESSING, NETWORK, PICTURES, REST)]
    expected = [
        (n4, pictures, name)
        for n4, pictures in CASES
        for name in (DEFAULT, HERE, AHEAD, *alone, f"{PREPROCESSING} alone, 0 processes")
        if pictures == "yes" or name != alone[2]
    ]
    assert [(row["N4"], row["pictures"], row["contender"]) for row in outcome["rows"]] == expected
    assert all(row["low"] == row["high"] == row["s a volume"] > 0 for row in outcome["rows"])


def test_parts_of_a_run_in_this_process_sum_up(outcome, seen):
    for (n4, pictures), (_, _, _, took) in zip(CASES, seen[1::3], strict=True):
        rows = [row for row in outcome["rows"] if (row["N4"], row["pictures"]) == (n4, pictures)]
        seconds = {row["contender"]: row["s a volume"] for row in rows}
        parts = sum(value for name, value in seconds.items() if name.endswith("alone, in this process"))
        assert parts == pytest.approx(took / FILES)
        assert [row["contender"] for row in rows if row.get("start-up, s") is not None] == [DEFAULT]


def test_targets_compare_with_the_slowest_part(outcome):
    for (n4, pictures), target, note in zip(CASES, outcome["targets"], outcome["notes"], strict=False):
        rows = [row for row in outcome["rows"] if (row["N4"], row["pictures"]) == (n4, pictures)]
        default, *_ = rows
        assert target["measured"] == default["times slowest part"] and target["at_most"] == 1.15
        assert f"the default takes {default['s a volume']:.3f} s" in note
        named = note.split("'")[1]
        assert any(row["contender"].startswith(f"{named} alone") and row["times slowest part"] == 1 for row in rows)
    assert "a phantom, 4 times" in outcome["notes"][-1]


def test_of_preprocessing_the_faster_way_counts():
    case = Case(COMPUTED, False, None)
    for part, seconds in ((PREPROCESSING, 0.4), (NETWORK, 0.2), (PICTURES, 0.0), (REST, 0.1)):
        case.parts[part] = [seconds, seconds, 100.0]
    case.pool = [0.3, 0.3, 0.3]
    assert case.alone() == {PREPROCESSING: 0.3, NETWORK: 0.2, PICTURES: 0.0, REST: 0.1}
    case.pool = [0.5]
    assert case.alone()[PREPROCESSING] == 0.4


@pytest.mark.parametrize(
    ("times", "seconds"),
    [
        ([0.0, 10.0, 12.0, 14.0], 2.0),  # what comes before the second half does not count
        ([5.0, 6.0], 1.0),
        ([0.0, 1.0, 20.0, 23.0, 26.0], 3.0),
    ],
)
def test_the_second_half_of_a_run_is_timed(times, seconds):
    assert steady(times) == seconds


def test_too_few_files():
    with pytest.raises(ValueError, match="num_files must be at least 4, got 3: the second half"):
        measure(num_files=3)
