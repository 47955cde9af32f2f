"""Views of dense strategies: moved by themselves, with the places that both of a slice show."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from common.strategies import make_layout
from common.transforms.dense_views import DenseViews
from common.transforms.intensity_views import RandomIntensity
from common.transforms.views import ContrastiveViews, local_views

SIDE = 64


@pytest.fixture
def slices(generator: torch.Generator) -> Tensor:
    """Six smooth slices (6, 1, 64, 64)."""
    return F.interpolate(torch.rand(6, 1, 6, 6, generator=generator), size=(SIDE, SIDE), mode="bicubic")


def keep(images: Tensor, _: torch.Generator) -> Tensor:
    return images


@pytest.mark.parametrize("strategy", ["LE", "LX"])
def test_points_of_both_views_show_the_same_place(strategy, slices, generator) -> None:
    layout = make_layout(strategy, 12, 2)
    images, points = DenseViews(layout, 6 * 30 + 5, intensity=keep)(slices, None, generator)
    assert images.shape == (12, 1, SIDE, SIDE) and points.shape == (12, 30, 2)
    values = F.grid_sample(images, points[:, :, None], align_corners=False)[:, 0, :, 0]
    assert (values[:6] - values[6:]).abs().max() < 0.1 * slices.std()
    assert not torch.equal(images[:6], images[6:])
    # The pixels are those of the slice that was drawn, not of another one.
    assert (values[:6] - values[6:].roll(1, dims=0)).abs().mean() > 0.3 * slices.std()


def test_views_differ_in_their_intensities(slices, generator) -> None:
    images, points = DenseViews(make_layout("LE", 12), 6 * 30)(slices, None, generator)
    values = F.grid_sample(images, points[:, :, None], align_corners=False)[:, 0, :, 0]
    assert images.isfinite().all()
    assert ((values[:6] - values[6:]).abs().mean(dim=1) > 0.05).float().mean() > 0.5


def test_the_generator_decides_and_the_slices_are_left_alone(slices) -> None:
    kept = slices.clone()
    make_views = DenseViews(make_layout("LE", 12), 60)
    first, again, other = (make_views(slices, None, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(slices, kept)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0]) and not torch.equal(first[1], other[1])


def test_no_value_is_read_back_from_the_device(generator) -> None:
    # A meta tensor has no values: reading one, or mixing devices, is an error.
    slices = torch.empty(6, 1, SIDE, SIDE, device="meta")
    images, points = DenseViews(make_layout("LE", 12), 60, intensity=RandomIntensity())(slices, None, generator)
    assert images.shape == (12, 1, SIDE, SIDE) and points.device.type == "meta"


def test_pixels_that_a_later_step_might_not_have_are_refused_at_once(slices, generator) -> None:
    make_views = DenseViews(make_layout("LE", 12), 6 * 121)
    make_views(slices, None, generator)
    message = (
        r"num_pixels must be at most 726 for batches of 6 slices of 64 x 64 pixels, of which two views may have only "
        r"121 in common, got 732; take fewer, or a larger batch_size"
    )
    with pytest.raises(ValueError, match=message):
        DenseViews(make_layout("LE", 12), 6 * 122)(slices, None, generator)


@pytest.mark.parametrize(
    ("strategy", "num_pixels", "message"),
    [
        ("LR", 1000, "strategy must be one of LE, LX, got 'LR'"),
        ("LE", 19, "num_pixels must be at least 20, one for each slice of a batch, got 19"),
    ],
)
def test_wrong_arguments(strategy, num_pixels, message) -> None:
    with pytest.raises(ValueError, match=message):
        DenseViews(make_layout(strategy), num_pixels)


def test_local_views_are_those_of_the_kind_of_the_strategy() -> None:
    regions = local_views(make_layout("LD"), 1000)
    assert isinstance(regions, ContrastiveViews) and isinstance(regions.augmentation, RandomIntensity)
    pixels = local_views(make_layout("LX"), 400)
    assert isinstance(pixels, DenseViews) and pixels.pixels_per_slice == 20
