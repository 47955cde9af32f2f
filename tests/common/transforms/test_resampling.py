"""Pixel sizes: grids, interpolation, smoothing."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import (
    Resize,
)
from scipy.ndimage import convolve1d
from scipy.special import erf

from common.transforms import (
    ResampleInPlane,
    ResampleInPlaned,
)
from common.transforms import resampling as module

from .grids import (
    make_affine,
    noise,
    world,
)


@pytest.mark.parametrize(
    ("spacing", "target", "size"),
    [
        ((1.5, 1.5, 8.0), 1.36719, (26, 23, 3)),
        ((1.0, 2.0, 8.0), 1.36719, (18, 31, 3)),
        ((1.5, 1.5, 8.0), (3.0, 1.5), (12, 21, 3)),
        ((1.5, 1.5, 8.0), 1.5, (24, 21, 3)),
        ((0.01, 1.5, 8.0), 1.5, (1, 21, 3)),
    ],
    ids=["finer", "mixed", "two targets", "same", "never empty"],
)
def test_size_and_affine_of_the_new_grid(spacing, target, size):
    affine = make_affine(spacing, (1, 0, 2), (-1, 1, 1), (10.0, 20.0, 30.0))
    positions = world(affine, (24, 21, 3))
    volume = MetaTensor(torch.as_tensor(positions, dtype=torch.float32).permute(3, 0, 1, 2), affine=affine)
    resampled = ResampleInPlane(target)(volume)
    assert tuple(resampled.shape[1:]) == size
    new_spacing = np.linalg.norm(resampled.affine.numpy()[:3, :3], axis=0)
    assert np.allclose(new_spacing, np.multiply(spacing, (24, 21, 3)) / size)
    # Corners of the field of view stay where they were.
    for corner in itertools.product((0, 1), repeat=3):
        old = affine @ [*(c * n - 0.5 for c, n in zip(corner, (24, 21, 3), strict=True)), 1]
        new = resampled.affine.numpy() @ [*(c * n - 0.5 for c, n in zip(corner, size, strict=True)), 1]
        assert np.allclose(old, new)


@pytest.mark.parametrize("target", [1.1, 1.9], ids=["up", "down"])
def test_images_lie_where_the_affine_says(target):
    # World coordinates are linear, which neither interpolation nor a symmetric smoothing changes off the border.
    affine = make_affine((1.5, 1.5, 8.0), (0, 1, 2), (-1, -1, 1))
    positions = world(affine, (40, 36, 3))
    volume = MetaTensor(torch.as_tensor(positions, dtype=torch.float32).permute(3, 0, 1, 2), affine=affine)
    resampled = ResampleInPlane(target)(volume)
    expected = world(resampled.affine.numpy(), resampled.shape[1:])
    inner = (slice(4, -4), slice(4, -4), slice(None))
    assert np.allclose(resampled.permute(1, 2, 3, 0).numpy()[inner], expected[inner], atol=1e-3)


def bilinear_in_plane(image: np.ndarray, size) -> np.ndarray:
    """Half-pixel centres, edges repeated, axis by axis."""
    for axis, length in enumerate(size):
        at = np.clip((np.arange(length) + 0.5) * image.shape[axis] / length - 0.5, 0, image.shape[axis] - 1)
        low = np.minimum(np.floor(at).astype(int), image.shape[axis] - 2)
        weight = (at - low).reshape([-1 if i == axis else 1 for i in range(3)])
        image = np.take(image, low, axis) * (1 - weight) + np.take(image, low + 1, axis) * weight
    return image


def smooth_in_plane(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian integrated over each pixel, zeros beyond the border."""
    edges = (np.arange(-4, 6) - 0.5) / (sigma * np.sqrt(2))
    kernel = np.diff(erf(edges)) / 2
    return convolve1d(convolve1d(image, kernel, 0, mode="constant"), kernel, 1, mode="constant")


@pytest.mark.parametrize(("target", "sigma"), [(3.0, 0.5), (4.5, 1.0)], ids=str)
def test_shrinking_images_are_smoothed_in_plane_only(target, sigma):
    image = noise((24, 18, 3))
    image[:, :, 1] *= 100  # would show up in its neighbours
    volume = MetaTensor(torch.as_tensor(image)[None], affine=torch.as_tensor(make_affine((1.5, 1.5, 1.0))))
    resampled = ResampleInPlane(target)(volume)[0].numpy()
    expected = bilinear_in_plane(smooth_in_plane(image, sigma), (round(36 / target), round(27 / target)))
    assert np.allclose(resampled, expected, rtol=1e-3)


@pytest.mark.parametrize("voxels", [1, 2000, 2**22], ids=["slice by slice", "some slices", "at once"])
def test_blocks_of_slices_give_what_monai_gives_for_all(monkeypatch, voxels):
    monkeypatch.setattr(module, "_BLOCK_VOXELS", voxels)
    volume = MetaTensor(torch.as_tensor(noise((32, 30, 7)))[None], affine=torch.as_tensor(make_affine((1.0, 2.0, 3.0))))
    resampled = ResampleInPlane(1.5)(volume)
    expected = Resize((21, 40, -1), mode="trilinear", anti_aliasing=True)(volume)
    assert torch.equal(resampled.as_tensor(), expected.as_tensor())
    assert np.array_equal(volume[0].numpy(), noise((32, 30, 7)))


def test_growing_images_are_not_smoothed():
    image = noise((24, 20, 3))
    volume = MetaTensor(torch.as_tensor(image)[None], affine=torch.as_tensor(make_affine((1.5, 1.5, 8.0))))
    assert np.allclose(ResampleInPlane(1.0)(volume)[0], bilinear_in_plane(image, (36, 30)), rtol=1e-5)


@pytest.mark.parametrize("target", [1.1, 2.9], ids=["up", "down"])
def test_labels_take_the_nearest_voxel(target):
    label = np.random.default_rng(0).integers(0, 4, (24, 21, 3)).astype(np.float32)
    volume = MetaTensor(torch.as_tensor(label)[None], affine=torch.as_tensor(make_affine((1.5, 1.5, 8.0))))
    resampled = ResampleInPlane(target, "nearest")(volume)[0].numpy()
    size = resampled.shape
    nearest = [np.floor((np.arange(m) + 0.5) * n / m).astype(int) for n, m in zip(label.shape, size, strict=True)]
    assert np.array_equal(resampled, label[np.ix_(*nearest)])


def test_each_key_has_its_mode():
    label = MetaTensor(torch.randint(0, 2, (1, 9, 9, 2)).float() * 3, affine=torch.as_tensor(make_affine((1, 1, 5))))
    data = {"image": label.clone(), "label": label}
    data = ResampleInPlaned(["image", "label"], 0.7, ["bilinear", "nearest"])(data)
    assert set(data["label"].unique().tolist()) == {0, 3}
    assert len(data["image"].unique()) > 2


@pytest.mark.parametrize("spacing_mm", [0, -1.0, (1.0, float("nan")), float("inf")], ids=str)
def test_target_spacing_is_checked(spacing_mm):
    with pytest.raises(ValueError, match="spacing_mm must be positive"):
        ResampleInPlane(spacing_mm)


def test_mode_is_checked():
    with pytest.raises(ValueError, match="mode must be one of .*'nearest'.*got 'cubic'"):
        ResampleInPlaned("image", 1.0, "cubic")
