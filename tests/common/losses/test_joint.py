from __future__ import annotations

import math

import pytest
import torch

from common.losses import GlobalContrastiveLoss, JointLoss, LocalContrastiveLoss
from common.strategies import make_layout


@pytest.mark.parametrize("weight", [1.0, 1000.0])
def test_is_the_weighted_sum_of_both_losses(weight, generator) -> None:
    embeddings = torch.randn(8, 5, generator=generator)
    regions = torch.randn(6, 13, 7, generator=generator)
    parts = GlobalContrastiveLoss(make_layout("GR", 8)), LocalContrastiveLoss(make_layout("LR", 6), region_size=1)
    expected = parts[0](embeddings) + weight * parts[1](regions)
    loss = JointLoss(*parts, weight)((embeddings, regions), (None, None))
    assert loss.shape == () and loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("weight", [-1.0, 0, math.nan, math.inf])
def test_weight_must_be_positive(weight) -> None:
    with pytest.raises(ValueError, match=f"weight must be a positive number, got {weight}; the paper has 1, 10"):
        JointLoss(GlobalContrastiveLoss(make_layout("GR")), LocalContrastiveLoss(make_layout("LR")), weight)
