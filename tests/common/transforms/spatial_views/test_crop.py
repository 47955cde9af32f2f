"""Boxes cut out of images and stretched."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage

from common.transforms.spatial_views.crop import RandomCropResize, crop_and_resize


@pytest.mark.parametrize(
    ("height", "width", "crop_size", "num_channels"),
    [(24, 24, 12, 1), (20, 30, 7, 3), (16, 16, 16, 1)],
    ids=["square", "oblong, three channels", "whole image"],
)
def test_crops_agree_with_interpolating_every_crop_alone(height, width, crop_size, num_channels, generator) -> None:
    images = torch.rand(6, num_channels, height, width, generator=generator)
    rows = torch.randint(0, height - crop_size + 1, (6,), generator=generator)
    columns = torch.randint(0, width - crop_size + 1, (6,), generator=generator)
    result = crop_and_resize(images, torch.stack([rows, columns], dim=1), crop_size)
    for image, row, column, crop in zip(images, rows, columns, result, strict=True):
        box = image[None, :, row : row + crop_size, column : column + crop_size]
        expected = F.interpolate(box, size=(height, width), mode="bilinear", align_corners=False)[0]
        torch.testing.assert_close(crop, expected, atol=1e-6, rtol=0)


def test_crops_are_mirrored_at_the_edge_of_the_box(generator) -> None:
    image = torch.rand(1, 1, 32, 32, generator=generator)
    result = crop_and_resize(image, torch.tensor([[5, 9]]), crop_size=10)
    positions = (np.arange(32) + 0.5) * 10 / 32 - 0.5
    box = image[0, 0, 5:15, 9:19].double().numpy()
    expected = ndimage.map_coordinates(box, np.meshgrid(positions, positions, indexing="ij"), order=1, mode="reflect")
    np.testing.assert_allclose(result[0, 0].numpy(), expected, atol=1e-6)


def test_crops_see_nothing_outside_the_box() -> None:
    image = torch.full((1, 1, 24, 24), torch.nan)
    image[:, :, 3:15, 8:20] = 1.0
    assert torch.equal(crop_and_resize(image, torch.tensor([[3, 8]]), crop_size=12), torch.ones(1, 1, 24, 24))


def test_crop_corners_are_uniform_independent_and_anew_for_every_image(generator) -> None:
    corners = RandomCropResize().draw(12_000, 192, 192, generator)
    assert corners.shape == (12_000, 2)
    for axis in corners.T:
        counts = torch.bincount(axis, minlength=70)
        assert counts[:10].sum() == 0 and len(counts) == 70
        # 200 expected at each of the 60 positions; 5 standard deviations.
        assert (counts[10:] - 200).abs().max() < 5 * 200**0.5
    assert abs(np.corrcoef(corners.T.numpy())[0, 1]) < 0.04


def test_crop_corners_stay_inside_small_images(generator) -> None:
    corners = RandomCropResize().draw(2000, 160, 130, generator)
    assert corners.amin(dim=0).tolist() == [10, 10]
    assert corners.amax(dim=0).tolist() == [60, 30]


def test_the_crop_call_applies_what_is_drawn(generator) -> None:
    images = torch.rand(5, 1, 24, 24, generator=generator)
    transform = RandomCropResize(crop_size=12, start=(2, 9))
    corners = transform.draw(5, 24, 24, torch.Generator().manual_seed(3))
    result = transform(images, torch.Generator().manual_seed(3))
    assert torch.equal(result, crop_and_resize(images, corners, 12))
    assert not torch.equal(result, transform(images, torch.Generator().manual_seed(4)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"crop_size": 0}, "crop_size must be at least 1 pixel, got 0"),
        ({"start": (69, 10)}, r"start must be \(lowest, highest\) .* got \(69, 10\)"),
        ({"start": (-1, 10)}, r"start must be .* got \(-1, 10\)"),
        ({"start": [10]}, r"start must be .* got \[10\]"),
    ],
    ids=["no box", "reversed", "negative", "one value"],
)
def test_bad_crop_arguments(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        RandomCropResize(**arguments)


def test_crop_larger_than_the_image(generator) -> None:
    with pytest.raises(ValueError, match="crop_size must be at most the image size 120 x 96, got 100; take a smaller"):
        RandomCropResize()(torch.zeros(2, 1, 120, 96), generator)
