"""The benchmark of N4 on phantoms: its inputs, the structure of its result, and the numbers that follow from others."""

from __future__ import annotations

import pytest

from benchmarks import prepare
from benchmarks.prepare import FULL, measure, volume_files

COPIES = 2


@pytest.fixture(scope="module")
def outcome():
    # In this process: starting others takes longer than everything else here.
    return measure(
        num_volumes=2, copies=COPIES, num_workers=0, size=(40, 44), iterations=(5, 5), ours=((4, 4, 1), (5, 5))
    )


def test_rows(outcome):
    rows = outcome["rows"]
    assert [row["volumes"] for row in rows] == [
        "patient001",
        "patient002",
        "these 2",
        "4, start included",
        "100, start included",
        "any number, start excluded",
    ]
    assert [row["contender"] for row in rows] == [FULL] * 3 + ["ours, 1 process"] * 3
    assert all(row["volumes a minute"] > 0 for row in rows)


def test_rates_follow_from_one_another(outcome):
    first, second, full, pooled, hundred, any_number = (row["volumes a minute"] for row in outcome["rows"])
    assert full == pytest.approx(2 / (1 / first + 1 / second))
    assert pooled < hundred < any_number
    # seconds = start + number / rate without the start; the start from one row predicts the other
    start = 2 * COPIES * (60 / pooled - 60 / any_number)
    assert 100 * 60 / hundred == pytest.approx(start + 100 * 60 / any_number)
    assert [row["times full resolution"] for row in outcome["rows"][2:]] == pytest.approx(
        [1, pooled / full, hundred / full, any_number / full]
    )


def test_thinning_out_changes_the_result_a_little(outcome):
    first, second, *mean = (row["difference %"] for row in outcome["rows"])
    assert 0.001 < first < 2 and 0.001 < second < 2
    assert mean == [pytest.approx((first + second) / 2)] * 4


def test_targets(outcome):
    speed, difference = outcome["targets"]
    assert speed["measured"] == outcome["rows"][4]["times full resolution"] and speed["at_least"] == 30
    assert difference["measured"] == outcome["rows"][2]["difference %"] and difference["at_most"] == 1
    assert "2 phantoms (patient001, patient002)" in outcome["notes"][0]
    assert "every 4th pixel along x and every 4th along y, in 2 levels of at most 5 iterations" in outcome["notes"][2]


def test_ours_is_what_the_bundle_does(monkeypatch):
    seen = []
    cached = prepare._cached
    monkeypatch.setattr(prepare, "_cached", lambda *arguments: seen.append(arguments[:2]) or cached(*arguments))
    measure(num_volumes=1, copies=1, num_workers=0, size=(96, 100), iterations=(2,))
    assert seen[1] == ((12, 12, 1), (50, 50, 50))


def test_the_first_patients_are_taken(acdc_dir, tmp_path):
    files = volume_files(str(acdc_dir), 2, prepare.ACDC_SIZE, tmp_path / "unused")
    assert [path.name for path in files] == ["patient001_frame01.nii.gz", "patient002_frame01.nii.gz"]
    assert not (tmp_path / "unused").exists()


def test_more_volumes_than_there_are(acdc_dir, tmp_path):
    with pytest.raises(ValueError, match=r"number must be 1 to \d+, the volumes in .*, got 1000; ask for fewer"):
        volume_files(str(acdc_dir), 1000, prepare.ACDC_SIZE, tmp_path)
