"""The benchmark of segmentation on a phantom: its stages, what it compares, and the parts it is made of."""

from __future__ import annotations

import time
from types import ModuleType

import numpy as np
import pytest
import torch

from benchmarks.inference import COMPUTED, CONTENDERS, LEFT_OUT, STAGES, differing_share, measure, stopwatch

CPU = torch.device("cpu")
SETTINGS = {
    "device": "cpu",
    "image_size": [64, 64],
    "spacing_mm": 2.4,
    "precision": "float32",
    "n4_iterations": [2, 2],
}


@pytest.fixture(scope="module")
def outcome():
    return measure(repetitions=1, warm_up=1, num_candidates=1, size=(64, 72), settings=SETTINGS)


def test_rows(outcome):
    cases = [(row["N4"], row["contender"]) for row in outcome["rows"]]
    assert cases == [(n4, contender) for n4 in (COMPUTED, LEFT_OUT) for contender in CONTENDERS]


def test_stages_sum_up_to_the_total(outcome):
    for row in outcome["rows"]:
        stages = {stage: row[f"{stage}, s"] for stage in STAGES}
        assert sum(stages.values()) + row["other, s"] == pytest.approx(row["total, s"])
        assert 0 <= row["other, s"] < 0.4 * row["total, s"]
        assert row["low"] == row["high"] == row["total, s"]
        without_n4 = row["N4"] == LEFT_OUT
        for stage, seconds in stages.items():
            assert (seconds == 0) == (without_n4 and stage.startswith("N4")), (row["contender"], stage)


def test_in_one_precision_all_contenders_agree(outcome):
    # MONAI's `SaveImaged` and ours put the labels on the same grid, and the export computes the same network.
    assert [row["voxels unlike plain, %"] for row in outcome["rows"]] == [0] * 6


def test_targets_and_notes(outcome):
    whole, without_n4 = outcome["targets"]  # none about voxels: these weights are random
    assert (whole["measured"], without_n4["measured"]) == (
        outcome["rows"][0]["total, s"],
        outcome["rows"][3]["total, s"],
    )
    assert "a phantom" in outcome["notes"][0]
    assert outcome["notes"][2].startswith(f"Profile of ours: of {whole['measured']:.2f} s, ITK's N4 filter takes")
    assert outcome["notes"][3].startswith("The weights are random.")


@pytest.mark.parametrize(
    ("labels", "share"),
    [([[0, 1], [2, 3]], 0), ([[0, 1], [2, 0]], 0.25), ([[3, 2], [1, 0]], 1)],
    ids=["equal", "one of four", "all"],
)
def test_differing_share(labels, share):
    assert differing_share(np.array(labels), np.array([[0, 1], [2, 3]])) == share


def test_differing_share_of_two_shapes():
    with pytest.raises(ValueError, match=r"labels must have the shape \(2, 3\) of the reference, got \(3, 2\)"):
        differing_share(np.zeros((3, 2)), np.zeros((2, 3)))


def test_stopwatch_counts_each_function_without_those_it_calls():
    module = ModuleType("module")
    module.inner = lambda: time.sleep(0.02)

    def outer(value):
        module.inner()
        module.inner()
        time.sleep(0.01)
        return value

    module.outer = outer
    with stopwatch({(module, "inner"): "inner", (module, "outer"): "outer"}, CPU) as seconds:
        assert module.outer(5) == 5
    assert module.outer is outer
    assert seconds["inner"] >= 0.04 and 0.01 <= seconds["outer"] < seconds["inner"]
    counted = dict(seconds)
    module.inner()
    assert seconds == counted


def test_stopwatch_counts_what_fails():
    def fail():
        time.sleep(0.01)
        raise KeyError("x")

    module = ModuleType("module")
    module.fail = fail
    with pytest.raises(KeyError), stopwatch({(module, "fail"): "stage"}, CPU) as seconds:
        module.fail()
    assert seconds["stage"] >= 0.01 and module.fail is fail
