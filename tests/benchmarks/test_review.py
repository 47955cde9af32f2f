"""The benchmark of rankings, uncertainty and pages on phantoms: what is timed, and how often."""

from __future__ import annotations

import re
from functools import partial

import pytest

from benchmarks import review
from benchmarks.review import measure
from phantom import write_acdc_phantom
from tests.phantoms import PREPROCESSING


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    runs = []
    run_config = review.run_config

    def noted(bundle, name, **settings):
        runs.append((name, settings.get("uncertainty", False), settings.get("pictures", True)))
        run_config(bundle, name, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(review, "run_config", noted)
        patch.setattr(review, "write_acdc_phantom", partial(write_acdc_phantom, size=(64, 72)))
        small = {**PREPROCESSING, "spacing_mm": 2.4}
        return measure(num_ranked=4, num_segmented=2, repetitions=1, settings=small), runs


def test_each_is_run_and_named_with_its_volumes(outcome):
    result, runs = outcome
    assert (
        runs
        == [("select", False, True)] * 2
        + [
            ("inference", False, False),
            ("inference", True, False),
            ("inference", False, True),
        ]
        * 2
        + [("inference", True, False)]  # once more, to see where its time goes
    )
    assert [(row["what"], row["volumes"]) for row in result["rows"]] == [
        ("ranking", 4),
        ("segmentation", 2),
        ("uncertainty", 2),
        ("page", 2),
    ]
    assert all(0 < row["low"] <= row["seconds"] <= row["high"] for row in result["rows"])


def test_targets_are_of_these_times(outcome):
    result, _ = outcome
    seconds = {row["what"]: row["seconds"] for row in result["rows"]}
    ranking, ratio, page = (target["measured"] for target in result["targets"])
    assert ranking == seconds["ranking"] and "rank 4 volumes" in result["targets"][0]["rule"]
    assert ratio == pytest.approx(seconds["uncertainty"] / seconds["segmentation"])
    assert page == pytest.approx((seconds["page"] - seconds["segmentation"]) / 2)


def test_where_the_time_of_uncertainty_goes(outcome):
    (note,) = outcome[0]["notes"]
    whole, *parts = (float(seconds) for seconds in re.findall(r"(-?\d+\.\d+) s", note))
    assert whole == pytest.approx(sum(parts), abs=0.05) and parts[0] > 0
    assert "network" in note and "expected Dice" in note
