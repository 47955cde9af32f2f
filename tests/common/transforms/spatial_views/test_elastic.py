"""Smooth deformations: fields, warping, and what is drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage

from common.transforms.spatial_views.elastic import RandomElastic, RandomFineElastic, elastic_fields, elastic_warp

from .made_up import smooth_images


@pytest.mark.parametrize(
    ("num_points", "height", "width"), [(3, 48, 48), (3, 31, 50), (2, 20, 20), (6, 40, 40)], ids=str
)
def test_fields_agree_with_scipy_splines(num_points, height, width, generator) -> None:
    grids = 5 * torch.randn(4, 2, num_points, num_points, generator=generator)
    fields = elastic_fields(grids, height, width)
    assert fields.shape == (4, 2, height, width)
    rows = (np.arange(height) + 0.5) * num_points / height - 0.5
    columns = (np.arange(width) + 0.5) * num_points / width - 0.5
    positions = np.stack(np.meshgrid(rows, columns, indexing="ij"))
    for grid, field in zip(grids.flatten(0, 1).double().numpy(), fields.flatten(0, 1).numpy(), strict=True):
        expected = ndimage.map_coordinates(grid, positions, order=3, mode="reflect")
        # SciPy's own mode "reflect" is off by some 1e-3 for so few points: it misses even the points themselves.
        np.testing.assert_allclose(field, expected.clip(grid.min(), grid.max()), atol=0.01)
        # Mirrored by hand far enough it is accurate.
        expected = ndimage.map_coordinates(np.pad(grid, 30, mode="symmetric"), positions + 30, order=3)
        np.testing.assert_allclose(field, expected.clip(grid.min(), grid.max()), atol=1e-5)


def test_fields_pass_through_the_grid_points(generator) -> None:
    grids = 5 * torch.randn(4, 2, 3, 3, generator=generator)
    # 15 pixels to a grid point: the middle one lies on it.
    torch.testing.assert_close(elastic_fields(grids, 45, 45)[:, :, 7::15, 7::15], grids, atol=1e-5, rtol=0)


def test_fields_are_clipped_to_the_range_of_their_grid() -> None:
    grid = torch.zeros(1, 2, 3, 3)
    grid[0, 0, 1, 1] = 7.0
    grid[0, 1, 0, 0] = -4.0
    fields = elastic_fields(grid, 60, 60)
    assert fields[0, 0].min() == 0 and 6.9 < fields[0, 0].max() <= 7
    assert fields[0, 1].max() == 0 and fields[0, 1].min() == -4  # the spline overshoots at the corner


@pytest.mark.parametrize(("height", "width"), [(32, 32), (24, 37)], ids=["square", "oblong"])
def test_warping_agrees_with_scipy_up_to_the_edges(height, width, generator) -> None:
    images = torch.rand(3, 2, height, width, generator=generator)
    fields = elastic_fields(5 * torch.randn(3, 2, 3, 3, generator=generator), height, width)
    warped = elastic_warp(images, fields)
    rows, columns = np.mgrid[:height, :width]
    for image, field, result in zip(images.double().numpy(), fields.double().numpy(), warped.numpy(), strict=True):
        positions = (rows - field[0], columns - field[1])
        for channel, result_channel in zip(image, result, strict=True):
            expected = ndimage.map_coordinates(channel, positions, order=1, mode="nearest")
            np.testing.assert_allclose(result_channel, expected, atol=2e-5)


def test_positive_displacements_move_content_down_and_right() -> None:
    image = torch.zeros(1, 1, 16, 16)
    image[0, 0, 5, 6] = 1.0
    field = torch.tensor([2.0, 3.0]).view(1, 2, 1, 1).expand(1, 2, 16, 16)
    expected = torch.zeros(1, 1, 16, 16)
    expected[0, 0, 7, 9] = 1.0
    torch.testing.assert_close(elastic_warp(image, field), expected, atol=1e-5, rtol=0)


def test_the_first_deformed_image_is_uniform_from_1_to_2_before_the_end(generator) -> None:
    draws = [RandomElastic().draw(20, generator) for _ in range(3600)]
    counts = torch.bincount(torch.tensor([first for first, _ in draws]), minlength=20)
    assert counts[0] == 0 and counts[19] == 0
    assert (counts[1:19] - 200).abs().max() < 5 * 200**0.5
    assert all(grids.shape == (20 - first, 2, 3, 3) for first, grids in draws)


@pytest.mark.parametrize(("sigma", "grid"), [(5.0, 3), (2.0, 4)])
def test_grid_points_are_normal_with_the_given_deviation(sigma, grid, generator) -> None:
    _, grids = RandomElastic(sigma=sigma, grid=grid).draw(2000, generator)
    assert grids.shape[1:] == (2, grid, grid)
    assert grids.std().item() == pytest.approx(sigma, rel=0.05)
    assert abs(grids.mean().item()) < 0.1 * sigma


def test_images_before_the_first_are_untouched_and_the_others_deformed(generator) -> None:
    images = smooth_images(8, 32, 32, generator)
    labels = F.one_hot((images[:, 0] > 0.5).long(), 2).permute(0, 3, 1, 2).float()
    for seed in range(6):
        first, _ = RandomElastic().draw(8, torch.Generator().manual_seed(seed))
        warped_images, warped_labels = RandomElastic()(images, labels, torch.Generator().manual_seed(seed))
        assert torch.equal(warped_images[:first], images[:first])
        assert torch.equal(warped_labels[:first], labels[:first])
        deformed = (warped_images[first:] - images[first:]).abs().flatten(1).amax(dim=1)
        assert deformed.min() > 0.05


def test_the_smallest_batch_keeps_one_image(generator) -> None:
    assert RandomElastic().draw(3, generator)[0] == 1


def test_soft_labels_sum_to_one(generator) -> None:
    labels = torch.randint(0, 4, (10, 33, 40), generator=generator)
    one_hot = F.one_hot(labels, 4).permute(0, 3, 1, 2).float()
    _, soft = RandomElastic()(torch.rand(10, 1, 33, 40, generator=generator), one_hot, generator)
    torch.testing.assert_close(soft.sum(dim=1), torch.ones(10, 33, 40), atol=1e-6, rtol=0)
    assert soft.min() >= 0 and soft.max() <= 1 + 1e-6
    assert ((soft > 0.01) & (soft < 0.99)).any()


def test_elastic_moves_image_and_label_together(generator) -> None:
    images = smooth_images(12, 64, 64, generator)
    foreground = (images > 0.5).float()
    warped_images, warped_labels = RandomElastic()(images, torch.cat([1 - foreground, foreground], dim=1), generator)
    agreement = (warped_images[:, 0] > 0.5) == (warped_labels[:, 1] > 0.5)
    assert agreement.flatten(1).double().mean(dim=1).min() > 0.98


@pytest.mark.parametrize(("height", "width", "grid"), [(192, 192, 12), (64, 64, 4), (48, 96, 6), (8, 8, 2)])
def test_fine_elastic_has_a_point_every_so_many_pixels(height, width, grid, generator) -> None:
    images, labels = torch.rand(5, 1, height, width, generator=generator), torch.ones(5, 1, height, width)
    seeds = [torch.Generator().manual_seed(7) for _ in range(2)]
    fine, expected = (
        RandomFineElastic(3.0, 16.0)(images, labels, seeds[0]),
        RandomElastic(3.0, grid)(images, labels, seeds[1]),
    )
    assert torch.equal(fine[0], expected[0]) and torch.equal(fine[1], expected[1])


def test_fine_elastic_changes_the_thickness_of_a_wall(generator) -> None:
    """Of one as thick as a myocardium, at the place where a row crosses it."""
    columns = torch.arange(192)
    wall = ((columns > 92) & (columns <= 100)).float().expand(200, 1, 192, -1)
    spreads = []
    for deform in (RandomElastic(), RandomFineElastic()):
        warped = deform(wall, wall, torch.Generator().manual_seed(0))[1][1:]
        spreads.append(warped[:, 0, 96].sum(dim=1).std().item())
    assert spreads[1] > 1.0 and spreads[1] > 2 * spreads[0]


@pytest.mark.parametrize("arguments", [{"sigma": 0.0}, {"spacing": 0.0}, {"spacing": -1.0}])
def test_bad_fine_elastic_arguments(arguments) -> None:
    with pytest.raises(ValueError, match="must be above 0 pixels"):
        RandomFineElastic(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sigma": 0.0}, r"sigma must be above 0 pixels, got 0\.0"),
        ({"grid": 1}, "grid must be at least 2 points per axis, got 1"),
    ],
    ids=["no deviation", "one point"],
)
def test_bad_elastic_arguments(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        RandomElastic(**arguments)


def test_too_small_a_batch_for_elastic_deformation(generator) -> None:
    with pytest.raises(ValueError, match=r"images must be at least 3, .* got 2; use a larger batch"):
        RandomElastic()(torch.zeros(2, 1, 8, 8), torch.zeros(2, 2, 8, 8), generator)
