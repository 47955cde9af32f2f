from __future__ import annotations

import math

import pytest
import torch

from common.losses import BatchLayout, GlobalContrastiveLoss, JointLoss, LocalContrastiveLoss


def pairs_of_views(num_slices: int) -> BatchLayout:
    slices, zeros = torch.arange(num_slices).repeat(2), torch.zeros(2 * num_slices, dtype=torch.int64)
    return BatchLayout(slices, zeros, zeros, torch.arange(2).repeat_interleave(num_slices))


@pytest.mark.parametrize("weight", [1.0, 1000.0])
def test_is_the_weighted_sum_of_both_losses(weight, generator) -> None:
    layouts = pairs_of_views(4), pairs_of_views(3)
    embeddings = torch.randn(8, 5, generator=generator)
    regions = torch.randn(6, 13, 7, generator=generator)
    parts = GlobalContrastiveLoss("GR"), LocalContrastiveLoss("LR", region_size=1)
    expected = parts[0](embeddings, layouts[0]) + weight * parts[1](regions, layouts[1])
    loss = JointLoss(*parts, weight)((embeddings, regions), layouts)
    assert loss.shape == () and loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("weight", [-1.0, 0, math.nan, math.inf])
def test_weight_must_be_positive(weight) -> None:
    with pytest.raises(ValueError, match=f"weight must be a positive number, got {weight}; the paper has 1, 10"):
        JointLoss(GlobalContrastiveLoss("GR"), LocalContrastiveLoss("LR"), weight)
