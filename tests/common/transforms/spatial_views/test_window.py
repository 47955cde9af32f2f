"""Windows on slices: which places they show, and the pixels that two of them have in common."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from common.transforms.spatial_views.affine import SpatialParameters, affine_matrices, apply_affine, move_images
from common.transforms.spatial_views.window import RandomWindow, Window, common_pixels

from .made_up import smooth_images


def window_of(angle: float = 0.0, scale: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)) -> Window:
    values = [torch.tensor([value], dtype=torch.float64) for value in (angle, scale)]
    return Window(affine_matrices(SpatialParameters(*values, torch.tensor([False]))), torch.tensor([shift]))


def read(images: Tensor, points: Tensor) -> Tensor:
    """Return images (B, 1, H, W) at places (B, K, 2): (B, K)."""
    return F.grid_sample(images, points[:, :, None], align_corners=False)[:, 0, :, 0]


def pixels_of(points: Tensor, height: int, width: int) -> Tensor:
    """Turn places into (column, row) in pixels."""
    return (points + 1) * torch.tensor([width, height]) / 2 - 0.5


# ---- moving images


def test_without_offsets_images_are_mapped_as_with_labels(generator) -> None:
    images = torch.rand(5, 1, 24, 33, generator=generator)
    matrices = RandomWindow().draw(5, 24, 33, generator).matrices
    expected, _ = apply_affine(images, torch.zeros(5, 24, 33, dtype=torch.uint8), matrices)
    assert torch.equal(move_images(images, matrices, torch.zeros(5, 2)), expected)


@pytest.mark.parametrize("size", [(24, 24), (21, 34)])
def test_whole_pixels_are_moved_exactly(size, generator) -> None:
    images = torch.rand(1, 2, *size, generator=generator)
    moved = move_images(images, *window_of(shift=(3.0, -2.0)))
    assert torch.equal(moved[:, :, :-3, 2:], images[:, :, 3:, :-2])
    assert not moved[:, :, -3:].any() and not moved[:, :, :, :2].any()


def test_the_centre_shows_the_offset(generator) -> None:
    images = torch.rand(1, 1, 25, 25, generator=generator)
    moved = move_images(images, *window_of(angle=30.0, scale=1.3, shift=(4.0, 6.0)))
    torch.testing.assert_close(moved[0, 0, 12, 12], images[0, 0, 16, 18])


# ---- what two windows have in common


def test_common_pixels_show_the_same_place_in_both(generator) -> None:
    images = smooth_images(12, 64, 64, generator)
    draw = RandomWindow()
    first, second = (draw.draw(12, 64, 64, generator) for _ in range(2))
    points = common_pixels(first, second, 64, 64, 40, generator)
    assert points.shape == (2, 12, 40, 2) and points.abs().max() < 1
    one, other = (read(move_images(images, *window), own) for window, own in zip((first, second), points, strict=True))
    # At the edge of the slice one is mixed with the nothing around it.
    assert (one - other).abs().quantile(0.98) < 0.05 * images.std()
    shuffled = other.roll(1, dims=1)
    assert (one - shuffled).abs().mean() > 0.3 * images.std()


def test_in_the_second_window_they_are_distinct_pixels_spread_over_all_common_ones(generator) -> None:
    windows = window_of(shift=(0.0, 0.0)), window_of(shift=(6.0, -4.0))
    points = common_pixels(*windows, 24, 20, 18 * 16, generator)
    pixels = pixels_of(points[1, 0], 24, 20)
    torch.testing.assert_close(pixels, pixels.round(), atol=1e-4, rtol=0)
    found = {tuple(pixel) for pixel in pixels.round().int().tolist()}
    assert found == {(column, row) for row in range(18) for column in range(4, 20)}
    torch.testing.assert_close(pixels_of(points[0, 0], 24, 20), pixels + torch.tensor([-4.0, 6.0]))


def test_of_few_pixels_each_is_as_likely_and_none_comes_twice(generator) -> None:
    """So few that candidates are enough; 288 pixels are in common, each to be drawn in a twelfth of the slices."""
    of_first, of_second = window_of(shift=(0.0, 0.0)), window_of(shift=(6.0, -4.0))
    windows = [Window(*(values.repeat(6000, *[1] * (values.ndim - 1)) for values in w)) for w in (of_first, of_second)]
    pixels = pixels_of(common_pixels(*windows, 24, 20, 24, generator)[1], 24, 20).round().int()
    numbers = pixels[..., 1] * 20 + pixels[..., 0]
    assert all(len(row.unique()) == 24 for row in numbers[:200])
    counts = numbers.flatten().bincount(minlength=480).view(24, 20)
    assert (counts[:18, 4:].double() / 500 - 1).abs().max() < 0.2 and counts.sum() == counts[:18, 4:].sum()


def test_places_outside_the_slice_do_not_count(generator) -> None:
    """Both windows show the same, of which the slice takes only a quarter."""
    windows = window_of(scale=0.5), window_of(scale=0.5)
    pixels = pixels_of(common_pixels(*windows, 32, 32, 16 * 16, generator)[1, 0], 32, 32)
    assert pixels.min() > 7.5 and pixels.max() < 23.5
    with pytest.raises(ValueError, match="have only 256 pixels in common"):
        common_pixels(*windows, 32, 32, 257, generator)


@pytest.mark.parametrize(
    ("shift", "number", "message"),
    [
        (
            (24.0, 0.0),
            1,
            "in common, got 1, but two have no pixel in common; take fewer pixels, or windows that differ",
        ),
        ((20.0, 20.0), 17, "got 17, but two have only 16 pixels in common"),
        ((0.0, 0.0), 0, "number must be at least 1 pixel of a slice, got 0"),
    ],
    ids=["no common pixel", "too few", "none wanted"],
)
def test_pixels_that_are_not_there(shift, number, message, generator) -> None:
    with pytest.raises(ValueError, match=message):
        common_pixels(window_of(), window_of(shift=shift), 24, 24, number, generator)


# ---- what is drawn


@pytest.mark.parametrize(("height", "width"), [(64, 64), (32, 32), (48, 64)])
def test_any_two_windows_have_the_pixels_that_are_promised(height, width, generator) -> None:
    draw = RandomWindow()
    promised = draw.fewest_common_pixels(height, width)
    assert promised >= 9
    for _ in range(3):
        windows = [draw.draw(150, height, width, generator) for _ in range(2)]
        common_pixels(*windows, height, width, promised, generator)


def test_the_worst_two_windows_have_the_pixels_that_are_promised(generator) -> None:
    """Both show least, as far from each other as may be."""
    draw = RandomWindow()
    for angle in (0.0, 45.0):
        shift = 0.1 * 96
        windows = window_of(angle, 1.5, (shift, shift)), window_of(angle + 45.0, 1 / 1.5, (-shift, -shift))
        common_pixels(*windows, 96, 96, draw.fewest_common_pixels(96, 96), generator)


def test_windows_are_drawn_from_their_ranges(generator) -> None:
    matrices, offsets = RandomWindow(20.0, 1.2, 0.05).draw(4000, 60, 40, generator)
    scales = matrices.double().det().abs().rsqrt()
    assert 1 / 1.2 - 1e-6 < scales.min() < 0.84 and 1.19 < scales.max() < 1.2 + 1e-6
    assert 2.9 < offsets[:, 0].abs().max() <= 3 and 1.95 < offsets[:, 1].abs().max() <= 2
    assert abs(offsets.mean(dim=0)).max() < 0.1
    assert 0.25 < (matrices.det() < 0).float().mean() < 0.35  # reversed


def test_the_generator_decides() -> None:
    first, again, other = (RandomWindow().draw(3, 8, 8, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.offsets, again.offsets) and torch.equal(first.matrices, again.matrices)
    assert not torch.equal(first.offsets, other.offsets)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_shift": -0.1}, "max_shift must be from 0 to less than 0.236 for max_scale 1.5, got -0.1"),
        ({"max_shift": 0.24}, r"got 0.24: two windows could have no common pixel; take less"),
        ({"max_scale": 4.0}, r"less than 0.088 for max_scale 4.0, got 0.1"),
        ({"max_scale": 1.0}, "max_scale must be above 1, got 1.0"),
        ({"max_angle": -1.0}, "max_angle must be at least 0 degrees, got -1.0"),
    ],
    ids=str,
)
def test_windows_that_cannot_be(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        RandomWindow(**arguments)


def test_bound_of_the_shift_is_where_circles_part() -> None:
    assert RandomWindow(max_scale=1.5, max_shift=0.2357).fewest_common_pixels(192, 192) == 0
    assert RandomWindow(max_shift=0.0).fewest_common_pixels(193, 193) == math.floor(192 / 1.5 / math.sqrt(2) / 1.5) ** 2
