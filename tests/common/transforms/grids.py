"""Small volumes on grids of every orientation, and the geometric part of the preprocessing for them."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    Invertd,
    LoadImaged,
    ResizeWithPadOrCropd,
    ScaleIntensityRangePercentilesd,
)

from common.data.nifti import NiftiReader
from common.transforms import (
    CheckVolumed,
    MatchLabeld,
    OrientSlicesd,
    ResampleInPlaned,
)

LABELS = (("L", "R"), ("P", "A"), ("I", "S"))
LPS_AFFINE = np.diag([-1.5, -1.5, 8.0, 1.0])

ALIGNED = [
    (permutation, signs)
    for permutation in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]
# The last four have axes exactly between two or three world axes.
ROTATIONS = [(20.0, 0.0, 0.0), (30.0, 50.0, 10.0), (45.0, 0.0, 0.0), (45.0, 45.0, 0.0), (0.0, 45.0, 45.0)]
ROTATIONS.append((45.0, float(np.rad2deg(np.arcsin(1 / np.sqrt(3)))), 0.0))


def rotation(*degrees: float) -> np.ndarray:
    """Rotate about the three world axes in turn."""
    result = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        turn = np.eye(3)
        i, j = (k for k in range(3) if k != axis)
        turn[[i, j, i, j], [i, j, j, i]] = np.cos(angle), np.cos(angle), -np.sin(angle), np.sin(angle)
        result = result @ turn
    return result


def make_affine(spacing, permutation=(0, 1, 2), signs=(1, 1, 1), degrees=(0.0, 0.0, 0.0)) -> np.ndarray:
    """Voxel axis i runs along world axis permutation[i], with signs[i]; then everything is rotated."""
    affine = np.eye(4)
    axes = np.zeros((3, 3))
    axes[list(permutation), range(3)] = np.asarray(signs) * spacing
    affine[:3, :3] = rotation(*degrees) @ axes
    affine[:3, 3] = 10.0, -20.0, 30.0
    return affine


def world(affine: np.ndarray, shape) -> np.ndarray:
    """World coordinates of all voxel centres, (*shape, 3)."""
    indices = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    return indices @ affine[:3, :3].T + affine[:3, 3]


def save(path: Path, array: np.ndarray, affine: np.ndarray = LPS_AFFINE) -> str:
    nib.save(nib.Nifti1Image(array, affine), path)
    return str(path)


def noise(shape, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(10, 100, shape).astype(np.float32)


def load(key: str = "image") -> LoadImaged:
    reader = NiftiReader(field_of_view_mm=(1, 1000))  # the volumes here are small
    return LoadImaged(keys=key, reader=reader, ensure_channel_first=True)


def make_preprocessing(spacing: float = 1.0, size: int = 20) -> Compose:
    return Compose(
        [
            load(),
            CheckVolumed(keys="image"),
            OrientSlicesd(keys="image", axcodes="LPS"),
            ScaleIntensityRangePercentilesd(keys="image", lower=1, upper=99, b_min=0, b_max=1, clip=False),
            ResampleInPlaned(keys="image", spacing_mm=spacing),
            ResizeWithPadOrCropd(keys="image", spatial_size=(size, size, -1)),
        ]
    )


def make_label_preprocessing(spacing: float, size: int, values=(0, 1, 2, 3)) -> Compose:
    return Compose(
        [
            load("label"),
            MatchLabeld(keys="label", reference="image", values=values),
            OrientSlicesd(keys="label", axcodes="LPS"),
            ResampleInPlaned(keys="label", spacing_mm=spacing, mode="nearest"),
            ResizeWithPadOrCropd(keys="label", spatial_size=(size, size, -1)),
        ]
    )


def invert(preprocessing: Compose, image: MetaTensor, pred: torch.Tensor) -> MetaTensor:
    inverter = Invertd(keys="pred", transform=preprocessing, orig_keys="image", nearest_interp=False)
    return inverter({"image": image, "pred": MetaTensor(pred)})["pred"]


def save_with_codes(path: Path, array: np.ndarray, qform: int, sform: int) -> str:
    image = nib.Nifti1Image(array, LPS_AFFINE)
    image.set_qform(LPS_AFFINE, qform)
    image.set_sform(LPS_AFFINE, sform)
    image.header["qform_code"], image.header["sform_code"] = qform, sform
    nib.save(image, path)
    assert (int(nib.load(path).header["qform_code"]), int(nib.load(path).header["sform_code"])) == (qform, sform)
    return str(path)
