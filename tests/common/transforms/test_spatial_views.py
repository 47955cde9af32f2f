from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage

from common.transforms.spatial_views import (
    RandomCropResize,
    RandomElastic,
    RandomSpatial,
    RandomStrongSpatial,
    SpatialParameters,
    affine_matrices,
    apply_affine,
    crop_and_resize,
    elastic_fields,
    elastic_warp,
)


def _smooth_images(num_images: int, height: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """Images whose level sets are large blobs, in 0..1."""
    coarse = torch.rand(num_images, 1, 5, 5, generator=generator)
    return F.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0.0, 1.0)


def _matrices(angle: float = 0.0, scale: float = 1.0, flip: bool = False, num_images: int = 1) -> torch.Tensor:
    angles = torch.full((num_images,), angle, dtype=torch.float64)
    return affine_matrices(
        SpatialParameters(angles, torch.full_like(angles, scale), torch.full((num_images,), flip, dtype=torch.bool))
    )


# ------------------------------------------------------------------------------------------------- crops


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


# ------------------------------------------------------------------------------------------- affine maps


@pytest.mark.parametrize("size", [24, 25, 160, 192])
@pytest.mark.parametrize("quarter_turns", range(8))
def test_quarter_turns_are_exact(size, quarter_turns, generator) -> None:
    images = torch.randn(2, 1, size, size, generator=generator)
    labels = torch.randint(0, 200, (2, size, size), generator=generator, dtype=torch.uint8)
    turned_images, turned_labels = apply_affine(images, labels, _matrices(angle=90.0 * quarter_turns, num_images=2))
    assert torch.equal(turned_images, torch.rot90(images, quarter_turns, dims=(2, 3)))
    assert torch.equal(turned_labels, torch.rot90(labels, quarter_turns, dims=(1, 2)))


@pytest.mark.parametrize(
    ("arguments", "flipped_axes"),
    [({}, []), ({"flip": True}, [-1]), ({"angle": 180.0}, [-1, -2]), ({"angle": 180.0, "flip": True}, [-2])],
    ids=["identity", "columns reversed", "half turn", "rows reversed"],
)
def test_identity_and_flips_are_exact_on_any_canvas(arguments, flipped_axes, generator) -> None:
    images = torch.randn(1, 3, 21, 34, generator=generator)
    labels = torch.randint(0, 4, (1, 21, 34), generator=generator, dtype=torch.uint8)
    mapped_images, mapped_labels = apply_affine(images, labels, _matrices(**arguments))
    assert torch.equal(mapped_images, images.flip(flipped_axes))
    assert torch.equal(mapped_labels, labels.flip(flipped_axes))
    assert mapped_labels.dtype == torch.uint8


@pytest.mark.parametrize("quarter_turns", range(4))
def test_a_flip_comes_before_the_rotation(quarter_turns, generator) -> None:
    images = torch.randn(1, 1, 24, 24, generator=generator)
    labels = torch.randint(0, 4, (1, 24, 24), generator=generator, dtype=torch.uint8)
    mapped_images, mapped_labels = apply_affine(images, labels, _matrices(angle=90.0 * quarter_turns, flip=True))
    assert torch.equal(mapped_images, torch.rot90(images.flip(3), quarter_turns, dims=(2, 3)))
    assert torch.equal(mapped_labels, torch.rot90(labels.flip(2), quarter_turns, dims=(1, 2)))


@pytest.mark.parametrize("angle", [-15.0, -3.7, 8.2, 45.0, 135.0, 315.0])
def test_rotations_agree_with_scipy(angle, generator) -> None:
    # With an odd size no position lies midway between two pixels, where a label could go either way.
    images = torch.rand(1, 1, 41, 41, generator=generator)
    labels = torch.randint(0, 4, (1, 41, 41), generator=generator, dtype=torch.uint8)
    rotated_images, rotated_labels = apply_affine(images, labels, _matrices(angle=angle))
    inside = (slice(7, 34), slice(7, 34))
    expected = ndimage.rotate(images[0, 0].double().numpy(), angle, reshape=False, order=1)
    np.testing.assert_allclose(rotated_images[0, 0].numpy()[inside], expected[inside], atol=1e-5)
    expected = ndimage.rotate(labels[0].numpy(), angle, reshape=False, order=0)
    np.testing.assert_array_equal(rotated_labels[0].numpy()[inside], expected[inside])


@pytest.mark.parametrize("scale", [0.95, 0.98, 1.05])
def test_scalings_agree_with_scipy(scale, generator) -> None:
    images = torch.rand(1, 1, 41, 41, generator=generator)
    labels = torch.randint(0, 4, (1, 41, 41), generator=generator, dtype=torch.uint8)
    scaled_images, scaled_labels = apply_affine(images, labels, _matrices(scale=scale))
    matrix, offset = np.eye(2) / scale, 20 - 20 / scale
    inside = (slice(2, 39), slice(2, 39))
    expected = ndimage.affine_transform(images[0, 0].double().numpy(), matrix, offset, order=1)
    np.testing.assert_allclose(scaled_images[0, 0].numpy()[inside], expected[inside], atol=1e-5)
    expected = ndimage.affine_transform(labels[0].numpy(), matrix, offset, order=0)
    np.testing.assert_array_equal(scaled_labels[0].numpy()[inside], expected[inside])


@pytest.mark.parametrize(("scale", "grows"), [(1.05, True), (0.95, False)], ids=["enlarged", "shrunk"])
def test_scales_above_one_enlarge(scale, grows) -> None:
    labels = torch.zeros(1, 64, 64, dtype=torch.uint8)
    labels[:, 12:52, 12:52] = 1
    _, scaled = apply_affine(torch.ones(1, 1, 64, 64), labels, _matrices(scale=scale))
    assert (scaled.sum() > labels.sum()) == grows
    assert scaled[0, 32].sum() == 40 * scale


def test_what_comes_from_outside_is_zero() -> None:
    images, labels = apply_affine(
        torch.ones(1, 1, 32, 32), torch.ones(1, 32, 32, dtype=torch.uint8), _matrices(angle=45.0)
    )
    for corner in (0, -1):
        assert images[0, 0, corner, corner] == 0 and labels[0, corner, corner] == 0
    assert images[0, 0, 16, 16] == 1 and labels[0, 16, 16] == 1


def test_every_image_gets_its_own_map(generator) -> None:
    images = torch.randn(4, 1, 20, 20, generator=generator)
    labels = torch.randint(0, 9, (4, 20, 20), generator=generator, dtype=torch.uint8)
    angles = torch.tensor([0.0, 90.0, 180.0, 270.0], dtype=torch.float64)
    parameters = SpatialParameters(angles, torch.ones_like(angles), torch.zeros(4, dtype=torch.bool))
    mapped_images, mapped_labels = apply_affine(images, labels, affine_matrices(parameters))
    for turns in range(4):
        assert torch.equal(mapped_images[turns], torch.rot90(images[turns], turns, dims=(1, 2)))
        assert torch.equal(mapped_labels[turns], torch.rot90(labels[turns], turns, dims=(0, 1)))


def test_the_five_options_are_equally_likely(generator) -> None:
    num_images = 20_000
    angles, scales, flips = RandomSpatial().draw(num_images, generator)
    eighths = angles.remainder(45.0) == 0
    frequencies = {
        "rotation by up to 15 degrees": (~eighths).double().mean(),
        "scaling other than by 1.00": (scales != 1).double().mean(),
        "flip": flips.double().mean(),
        "rotation by 45 degrees or a multiple": (eighths & (angles != 0)).double().mean(),
    }
    expected = {
        "rotation by up to 15 degrees": 1 / 5,
        "scaling other than by 1.00": 1 / 5 * 9 / 10,  # 0.995..1.005 is a tenth of the range
        "flip": 1 / 5 * 1 / 2,
        "rotation by 45 degrees or a multiple": 1 / 5 * 7 / 8,
    }
    assert {name: value.item() for name, value in frequencies.items()} == pytest.approx(expected, abs=0.012)
    assert ((~eighths).int() + (scales != 1).int() + flips.int() + (eighths & (angles != 0)).int()).max() == 1


def test_the_parameters_fill_the_paper_ranges(generator) -> None:
    angles, scales, _ = RandomSpatial().draw(20_000, generator)
    small = angles[angles.remainder(45.0) != 0]
    assert -15 <= small.min() < -14.9 and 14.9 < small.max() <= 15 and abs(small.mean()) < 0.6
    large = angles[(angles.remainder(45.0) == 0) & (angles != 0)]
    assert torch.equal(large.unique(), 45.0 * torch.arange(1, 8, dtype=torch.float64))
    np.testing.assert_allclose(torch.bincount((large / 45).long())[1:] / len(large), 1 / 7, atol=0.03)
    hundredths = (100 * scales).round()
    torch.testing.assert_close(scales, hundredths / 100, atol=1e-12, rtol=0)
    assert hundredths.unique().tolist() == list(range(95, 106))


def test_empty_images_and_their_labels_are_untouched() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(200, 1, 16, 16, generator=generator)
    images[::2] *= 0.0005
    labels = torch.randint(0, 4, (200, 16, 16), generator=generator, dtype=torch.uint8)
    mapped_images, mapped_labels = RandomSpatial()(images, labels, generator)
    assert torch.equal(mapped_images[::2], images[::2])
    assert torch.equal(mapped_labels[::2], labels[::2])
    changed = (mapped_images[1::2] != images[1::2]).flatten(1).any(dim=1)
    assert 45 < changed.sum() < 85  # 65.5 of 100 expected


def test_the_spatial_call_applies_what_is_drawn(generator) -> None:
    images = torch.rand(12, 1, 20, 20, generator=generator)
    labels = torch.randint(0, 4, (12, 20, 20), generator=generator, dtype=torch.uint8)
    matrices = affine_matrices(RandomSpatial().draw(12, torch.Generator().manual_seed(8)))
    expected_images, expected_labels = apply_affine(images, labels, matrices)
    mapped_images, mapped_labels = RandomSpatial()(images, labels, torch.Generator().manual_seed(8))
    assert torch.equal(mapped_images, expected_images) and torch.equal(mapped_labels, expected_labels)
    assert not torch.equal(RandomSpatial()(images, labels, torch.Generator().manual_seed(9))[0], mapped_images)


def test_a_batch_of_which_nothing_is_moved(monkeypatch, generator) -> None:
    images = torch.rand(3, 1, 20, 20, generator=generator)
    labels = torch.randint(0, 4, (3, 20, 20), generator=generator, dtype=torch.uint8)
    ones = torch.ones(3, dtype=torch.float64)
    monkeypatch.setattr(RandomSpatial, "draw", lambda *_: SpatialParameters(0 * ones, ones, ones < 0))
    mapped_images, mapped_labels = RandomSpatial()(images, labels, generator)
    assert torch.equal(mapped_images, images) and torch.equal(mapped_labels, labels)


def test_spatial_moves_image_and_label_together(generator) -> None:
    images = _smooth_images(30, 48, 48, generator)
    mapped_images, mapped_labels = RandomSpatial()(images, (images[:, 0] > 0.5).byte(), generator)
    agreement = (mapped_images[:, 0] > 0.5) == mapped_labels.bool()
    assert agreement.flatten(1).double().mean(dim=1).min() > 0.97


# ---------------------------------------------------------------------------------- elastic deformations


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
    images = _smooth_images(8, 32, 32, generator)
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
    images = _smooth_images(12, 64, 64, generator)
    foreground = (images > 0.5).float()
    warped_images, warped_labels = RandomElastic()(images, torch.cat([1 - foreground, foreground], dim=1), generator)
    agreement = (warped_images[:, 0] > 0.5) == (warped_labels[:, 1] > 0.5)
    assert agreement.flatten(1).double().mean(dim=1).min() > 0.98


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


# ------------------------------------------------------------------------------------------------ device


def test_no_value_is_read_back_from_the_device(generator) -> None:
    # A meta tensor has no values: reading one, or mixing devices, is an error.
    images = torch.empty(6, 1, 24, 24, device="meta")
    labels = torch.empty(6, 24, 24, dtype=torch.uint8, device="meta")
    assert RandomCropResize(crop_size=12, start=(0, 9))(images, generator).shape == images.shape
    assert [mapped.shape for mapped in RandomSpatial()(images, labels, generator)] == [images.shape, labels.shape]
    one_hot = torch.empty(6, 4, 24, 24, device="meta")
    assert [warped.shape for warped in RandomElastic()(images, one_hot, generator)] == [images.shape, one_hot.shape]


# ------------------------------------------------------------------------------------------------- strong


def test_strong_parameters_have_their_ranges_and_chances(generator) -> None:
    angles, scales, flips = RandomStrongSpatial().draw(20000, generator)
    off_quarter = (angles + 45) % 90 - 45
    assert off_quarter.abs().max() <= 30.0 and off_quarter.abs().max() > 29.9
    assert (off_quarter != 0).float().mean() == pytest.approx(0.5, abs=0.02)
    quarters = ((angles - off_quarter) / 90).round().long() % 4
    assert (quarters.bincount(minlength=4) / 20000).tolist() == pytest.approx([0.775, 0.075, 0.075, 0.075], abs=0.01)
    assert scales.max() <= 1.35 and scales.min() >= 1 / 1.35 and scales.max() / scales.min() > 1.8
    assert (scales != 1).float().mean() == pytest.approx(0.5, abs=0.02)
    assert scales.log().mean().item() == pytest.approx(0, abs=0.01)
    assert flips.float().mean() == pytest.approx(0.3, abs=0.02)


def test_strong_maps_move_images_and_labels_alike(generator) -> None:
    images = _smooth_images(16, 48, 48, generator)
    labels = (images[:, 0] > 0.5).to(torch.uint8)
    mapped, mapped_labels = RandomStrongSpatial()(images, labels, generator)
    assert mapped.shape == images.shape and mapped_labels.shape == labels.shape
    clear = (mapped[:, 0] - 0.5).abs() > 0.05
    assert ((mapped[:, 0] > 0.5) == mapped_labels.bool())[clear].float().mean() > 0.99
    assert not torch.equal(mapped, images)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"max_angle": -1.0}, "max_angle must be at least 0"), ({"max_scale": 1.0}, "max_scale must be above 1, got 1.0")],
    ids=["angle", "scale"],
)
def test_strong_limits_are_checked(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        RandomStrongSpatial(**options)
