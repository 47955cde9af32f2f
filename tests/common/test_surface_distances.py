"""Distances of surfaces: by hand, by definition, and on the grid of the file."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance
from scipy.ndimage import binary_erosion

from common.surface_distances import surface_distances

CLASSES = ["background", "RV", "Myo"]
SPACING = (1.5, 2.0, 8.0)


def label_map(array, spacing=SPACING):
    return MetaTensor(torch.as_tensor(array, dtype=torch.float32)[None], affine=np.diag([*spacing, 1.0]))


def single_voxels(*places, shape=(9, 8, 7), value=1):
    array = np.zeros(shape)
    for place in places:
        array[place] = value
    return label_map(array)


@pytest.mark.parametrize(
    ("move", "expected"), [((2, 0, 0), 3.0), ((0, 3, 0), 6.0), ((0, 0, 1), 8.0), ((2, 2, 0), 5.0), ((0, 0, 0), 0.0)]
)
def test_one_voxel_moved(move, expected):
    place = (3, 2, 4)
    moved = tuple(np.add(place, move))
    found = surface_distances(single_voxels(moved), single_voxels(place), CLASSES)
    assert found == {"RV": (pytest.approx(expected), pytest.approx(expected)), "Myo": (None, None)}


def test_an_oblique_affine_gives_the_same():
    rotation = np.array([[0.6, 0, 0.8], [0, -1, 0], [0.8, 0, -0.6]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag(SPACING)
    label = MetaTensor(single_voxels((3, 2, 4)).as_tensor(), affine=affine)
    assert surface_distances(single_voxels((5, 4, 4)), label, CLASSES)["RV"][0] == pytest.approx(5.0)


def blobs(seed, shape=(12, 10, 6)):
    """Two label maps of two structures, some at the border of the volume."""
    generator = np.random.default_rng(seed)
    maps = []
    for _ in range(2):
        array = np.zeros(shape)
        for value in (1, 2):
            low = np.add(generator.integers(0, 4, 3), [6 * (value - 1), 0, 0])
            high = np.minimum(low + generator.integers(2, 8, 3), [6 * value, *shape[1:]])
            array[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = value
        maps.append(array)
    return maps


def by_definition(prediction, label, value, spacing):
    points = []
    for array in (prediction, label):
        mask = array == value
        points.append(np.argwhere(mask & ~binary_erosion(mask)) * spacing)
    apart = np.linalg.norm(points[0][:, None] - points[1], axis=-1)
    there, back = apart.min(axis=1), apart.min(axis=0)
    return max(np.percentile(there, 95), np.percentile(back, 95)), np.concatenate([there, back]).mean()


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_the_definition_and_with_monai_on_whole_maps(seed):
    prediction, label = blobs(seed)
    found = surface_distances(label_map(prediction), label_map(label), CLASSES)
    for value, name in enumerate(CLASSES[1:], start=1):
        assert found[name] == pytest.approx(by_definition(prediction, label, value, SPACING), rel=1e-5)
        pair = [torch.as_tensor(array == value)[None, None] for array in (prediction, label)]
        options = {"include_background": True, "spacing": list(SPACING)}
        hausdorff = compute_hausdorff_distance(*pair, percentile=95, **options)
        mean = compute_average_surface_distance(*pair, symmetric=True, **options)
        assert found[name] == (float(hausdorff), float(mean))


@pytest.mark.parametrize("axis", range(3))
def test_a_single_slice_is_compared_in_its_plane(axis):
    """A disc in a larger disc: in space all voxels would be surface, and most of them would touch."""
    x, y = np.mgrid[:21, :21] - 10
    radius = np.hypot(x, y)
    spacing = np.roll([9.0, 1.0, 1.0], axis)
    maps = [label_map(np.expand_dims((radius < limit).astype(float), axis), spacing) for limit in (4.5, 9.5)]
    hausdorff, mean = surface_distances(*maps, CLASSES)["RV"]
    assert 4.5 < mean < 5.5 and 4.5 < hausdorff < 6


@pytest.mark.parametrize("swap", [False, True])
def test_what_is_missing_cannot_be_measured_and_warns_of_nothing(swap):
    maps = [single_voxels((1, 1, 1)), single_voxels(shape=(9, 8, 7))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert surface_distances(*maps[:: -1 if swap else 1], CLASSES) == {"RV": (None, None), "Myo": (None, None)}
