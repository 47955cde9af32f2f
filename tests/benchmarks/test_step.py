from __future__ import annotations

import pytest
import torch

from benchmarks.step import STAGES, make_stage, measure


@pytest.mark.parametrize("name", STAGES)
def test_measures_both_contenders(name):
    result = measure(name, batch_size=16, steps=1, repetitions=1)
    assert result["ratio_range"] == [result["ratio"]] * 2  # of one repetition
    assert 0.3 < result["ratio"] < 3
    assert result["stage"] == name and result["batch_size"] == 16 and result["peak_memory_gib"] > 0.1


@pytest.mark.parametrize(("name", "images"), [("global", 40), ("local", 40), ("fine_tuning", 40)])
def test_batches_have_the_size_that_is_stated(name, images):
    inputs, _ = make_stage(name, 40, 1, torch.device("cpu")).loader.batch(0)
    assert inputs.shape == (images, 1, 192, 192)
