"""Affine maps of images and labels: exactness, directions, and what is drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from common.transforms.spatial_views.affine import (
    RandomSpatial,
    RandomStrongSpatial,
    SpatialParameters,
    affine_matrices,
    apply_affine,
)

from .made_up import smooth_images


def _matrices(angle: float = 0.0, scale: float = 1.0, flip: bool = False, num_images: int = 1) -> torch.Tensor:
    angles = torch.full((num_images,), angle, dtype=torch.float64)
    return affine_matrices(
        SpatialParameters(angles, torch.full_like(angles, scale), torch.full((num_images,), flip, dtype=torch.bool))
    )


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
    images = smooth_images(30, 48, 48, generator)
    mapped_images, mapped_labels = RandomSpatial()(images, (images[:, 0] > 0.5).byte(), generator)
    agreement = (mapped_images[:, 0] > 0.5) == mapped_labels.bool()
    assert agreement.flatten(1).double().mean(dim=1).min() > 0.97


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
    images = smooth_images(16, 48, 48, generator)
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
