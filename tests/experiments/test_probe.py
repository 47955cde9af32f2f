from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from common.data.slices import Slices
from experiments.probe import _anatomy_over_place, _probe_dice, _region_match


def coordinates(count, side):
    """Maps that tell the place: a bump function of row and column, the same in every slice."""
    line = torch.linspace(-1, 1, side)
    bumps = torch.stack([torch.exp(-((line - centre) ** 2) / 0.02) for centre in torch.linspace(-1, 1, 9)])
    maps = (bumps[:, None, :, None] * bumps[None, :, None, :]).flatten(0, 1)
    return maps.expand(count, -1, -1, -1)


def test_region_match_of_maps_that_tell_the_place_is_one_and_of_noise_is_chance():
    starts = torch.tensor([0, 8, 17, 25])
    assert _region_match(coordinates(25, 48), starts) == 1
    noise = torch.randn(25 * 40, 6, 48, 48, generator=torch.Generator().manual_seed(0))
    assert _region_match(noise, torch.arange(101) * 10) == pytest.approx(1 / 13, abs=0.02)


class Pooling(torch.nn.Module):
    """Stands in for the U-Net: maps are the pooled images, or the place whatever the image shows."""

    def __init__(self, place):
        super().__init__()
        self.place = place

    def encoder(self, images):
        return images

    def decoder(self, images, num_blocks):
        pooled = F.avg_pool2d(images, 4)
        if self.place:
            return coordinates(len(images), pooled.shape[2])
        return torch.cat([pooled**k for k in (1, 2, 3, 4)], dim=1)


@pytest.mark.parametrize(("place", "expected"), [(False, 1.0), (True, 0.0)])
def test_anatomy_over_place(place, expected):
    images = torch.rand(3, 1, 192, 192, generator=torch.Generator().manual_seed(0))
    slices = Slices(images, torch.zeros(3, 192, 192, dtype=torch.uint8), torch.tensor([0, 3]))
    network = Pooling(place)
    share = _anatomy_over_place(network, slices, network.decoder(images, 3))
    assert share == pytest.approx(expected, abs=0.02)


def test_probe_dice_is_one_where_classes_are_linear_in_the_maps():
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(4, (2, 6, 6), generator=generator)
    maps = F.one_hot(targets, 4).permute(0, 3, 1, 2).float()
    assert _probe_dice(maps, targets, maps, targets, ridge=1e-6) == 1
    noise = torch.randn(2, 4, 6, 6, generator=generator)
    assert _probe_dice(noise, targets, torch.randn(2, 4, 6, 6, generator=generator), targets) < 0.5
