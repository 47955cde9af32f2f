from __future__ import annotations

import math

import pytest
import torch

from common.transforms.mixup import Mixup, mix


def test_pairs_are_mixed_linearly() -> None:
    values = torch.tensor([1.0, 2.0, 4.0]).view(3, 1, 1, 1) * torch.ones(3, 2, 2, 3)
    pairs = torch.tensor([[0, 2, 1], [1, 0, 1]])
    mixed = mix(values, pairs, torch.tensor([0.25, 1.0, 0.3]))
    expected = torch.tensor([0.25 * 1 + 0.75 * 2, 4.0, 2.0]).view(3, 1, 1, 1).expand(3, 2, 2, 3)
    assert torch.equal(mixed, expected)  # exactly so where one share is 1, or an image meets itself


def test_images_and_labels_are_mixed_alike(generator) -> None:
    images = torch.rand(7, 1, 4, 4, generator=generator)
    labels = torch.cat([images, 1 - images], dim=1)
    mixed, soft = Mixup(0.5)(images, labels, generator)
    assert mixed.dtype == soft.dtype == torch.float32 and not torch.equal(mixed, images)
    torch.testing.assert_close(soft, torch.cat([mixed, 1 - mixed], dim=1))


@pytest.mark.parametrize("alpha", [0.1, 1.0, 8.0])
def test_shares_are_those_of_a_beta_distribution(alpha, generator) -> None:
    pairs, shares = Mixup(alpha).draw(20_000, generator)
    assert shares.dtype == torch.float32 and shares.min() >= 0 and shares.max() <= 1
    # The variance of Beta(a, a) is 1 / (4 (2 a + 1)); four standard errors of mean and variance are below .015.
    assert shares.mean().item() == pytest.approx(0.5, abs=0.015)
    assert shares.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), abs=0.005)
    assert len(shares.unique()) > 1000 and abs(torch.corrcoef(torch.stack([shares, pairs[0]]))[0, 1]) < 0.03


def test_pairs_are_drawn_uniformly_and_with_replacement(generator) -> None:
    pairs = torch.cat([Mixup().draw(8, generator)[0] for _ in range(500)], dim=1)
    counts = torch.zeros(8, 8).index_put_(tuple(pairs), torch.ones(4000), accumulate=True)
    assert counts.sum() == 4000
    # 62.5 is expected of each pair, an image with itself among them; five standard deviations are 39.
    assert counts.min() > 62.5 - 39 and counts.max() < 62.5 + 39


def test_every_draw_is_the_generators() -> None:
    first, again, other = (Mixup().draw(40, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert all(map(torch.equal, first, again)) and not any(map(torch.equal, first, other))
    generator = torch.Generator().manual_seed(1)
    assert not any(map(torch.equal, Mixup().draw(40, generator), Mixup().draw(40, generator)))


@pytest.mark.parametrize("alpha", [-0.1, 0, math.nan, math.inf])
def test_strength_must_be_positive(alpha) -> None:
    with pytest.raises(ValueError, match=f"mixup_alpha must be a positive number, got {alpha}. .* or 0 for no Mixup"):
        Mixup(alpha)
