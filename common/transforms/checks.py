"""The checks of what a user's image files hold, before anything is done with them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform

from .outliers import replace_outliers
from .volume import VolumeError, listed, volume_name, voxel_spacing


class CheckVolumed(MapTransform):
    """Refuse images that the preprocessing cannot treat, saying what is wrong and what to do about it.

    An image must be one 3-D volume of finite intensities that differ (its 1st and 99th percentile define the
    normalisation), with a spacing that is known. A few voxels far outside these percentiles are brought to them, see
    `replace_outliers`.

    Args:
        keys: keys of the images, (1, X, Y, Z).

    Raises:
        VolumeError: see above; the first fault found is reported.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data, unchanged but for outliers."""
        d = dict(data)
        for key in self.key_iterator(d):
            _check_shape(d[key])
            _check_spacing(d[key])
            low, high = _checked_percentiles(d[key])
            d[key] = replace_outliers(d[key], low, high, volume_name(d[key]))
        return d


def _check_shape(image: MetaTensor) -> None:
    name = volume_name(image)
    if image.numel() == 0:
        raise VolumeError(
            f"{name} has no voxels: its size is {listed(image.meta.get('spatial_shape', image.shape[1:]))}. "
            "Replace the file by a complete one."
        )
    channels, axes = image.shape[0], image.ndim - 1
    if axes == 2 and channels == 1:
        raise VolumeError(
            f"{name} is a 2-D image of {listed(image.shape[1:])} pixels, but a 3-D volume is needed. "
            "Store the slices of a patient as one volume; a single slice as a volume with one slice."
        )
    if axes != 3 or channels != 1:
        raise VolumeError(
            f"{name} must hold one 3-D volume, got {channels} channel{'s' if channels > 1 else ''} or frames of "
            f"{listed(image.shape[1:])} voxels. Extract one frame or channel into a file of its own, for example with "
            "nibabel: `nibabel.load(path).slicer[..., 0]`."
        )


def _check_spacing(image: MetaTensor) -> None:
    known = {"original_affine", "filename_or_obj"} & set(image.meta)
    if not known and torch.equal(image.affine, MetaTensor.get_default_affine()):
        raise VolumeError(
            f"{volume_name(image)} must say how large its voxels are and how they lie, but is an array without an "
            "affine. Give the name of a file or, in MONAI Deploy, an Image with the metadata that "
            "DICOMSeriesToVolumeOperator writes."
        )
    spacing = voxel_spacing(image)
    if not np.all(np.isfinite(spacing) & (spacing > 0)):
        raise VolumeError(
            f"{volume_name(image)} must have a finite and positive voxel size, got {listed(spacing)} mm. Write the "
            "true voxel size in mm into the header, for example with nibabel."
        )


def _checked_percentiles(image: MetaTensor) -> tuple[float, float]:
    """Return the 1st and the 99th percentile of the intensities."""
    name = volume_name(image)
    voxels = image.as_tensor().cpu().numpy()
    num_bad = int(np.count_nonzero(~np.isfinite(voxels)))
    if num_bad:
        raise VolumeError(
            f"{name} has {num_bad} of {voxels.size} voxels that are NaN or infinite. Find out where they come from, "
            "or replace them, for example with numpy.nan_to_num."
        )
    if not voxels.any():
        raise VolumeError(f"{name} contains only zeros. Replace the file by one with an image in it.")
    low, high = (float(value) for value in np.percentile(voxels, [1, 99]))
    if not low < high:
        raise VolumeError(
            f"{name} has a constant intensity: the 1st and the 99th percentile are both {high:g}, so intensities "
            "cannot be normalised. Check that this is an image and not a mask, and crop it to what it shows."
        )
    return low, high
