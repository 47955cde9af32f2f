"""Labels as they are stored, checked and put on the grid of their image."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapLabelValue, MapTransform

from .volume import VolumeError, is_oriented, listed, volume_name

logger = logging.getLogger(__name__)

UNLABELLED = 255
"""The value in all of a slice that nobody has labelled, unless it is a class."""
_MOST_OFFSET_VOXELS = 0.5


def class_indices(values: Sequence[int] | Mapping[Any, int]) -> dict[int, int]:
    """Return the class index of each value that label files may have.

    Args:
        values: class indices, or for each value (a number or its digits) the class index that it stands for.
    """
    mapping = dict(values) if isinstance(values, Mapping) else dict(zip(values, values, strict=True))
    return {int(value): int(index) for value, index in mapping.items()}


class MatchLabeld(MapTransform):
    """Check a label against its image, put it on the image's grid, and turn its values into class indices.

    A label whose axes are permuted or reversed against those of the stored image is turned to them, where the affines
    of both describe one grid: the centres of all voxels coincide within half a voxel. Otherwise equal sizes are taken
    to mean the same grid, since labels are often stored with a header that disagrees with that of the image; a warning
    is logged if the axes point elsewhere by that. A header that does not say how the label lies is not compared. The
    label gets the affine that the image was stored with. The image itself may already be preprocessed.

    Where several values are of one class, the first is the proper one. The others are known slips in the files; the log
    says in how many voxels they occur.

    Args:
        keys: keys of the labels, (1, three spatial axes) as loaded.
        reference: key of the image, which must have been loaded by `LoadImaged`.
        values: the values that may occur, whole numbers: class indices, or for each value (a number or its digits, as
            JSON has no other keys) the class index that it stands for.
        unlabelled: also take `UNLABELLED`, and leave it as it is.

    Raises:
        VolumeError: if the label has another size than the stored image, or other values than the given ones.
    """

    def __init__(
        self,
        keys: KeysCollection,
        reference: str,
        values: Sequence[int] | Mapping[Any, int],
        unlabelled: bool = False,
    ) -> None:
        super().__init__(keys)
        self.reference = reference
        self.values = class_indices(values)
        self._allowed = self.values
        if unlabelled and UNLABELLED not in self.values:
            self._allowed = {**self.values, UNLABELLED: UNLABELLED}
        self._map = MapLabelValue(list(self._allowed), list(self._allowed.values()), torch.float32)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with each label in float32 and with the affine of the stored image."""
        d = dict(data)
        image = d[self.reference]
        for key in self.key_iterator(d):
            label = _turned_to_image(d[key], image)
            _check_label_shape(label, image)
            _check_label_values(label, tuple(self._allowed), tuple(self.values))
            self._report_slips(label)
            label = self._map(label)
            label.affine = torch.as_tensor(image.meta["original_affine"])
            label.meta["original_affine"] = image.meta["original_affine"]
            d[key] = label
        return d

    def _report_slips(self, label: MetaTensor) -> None:
        proper: dict[int, int] = {}
        for value, index in self.values.items():
            if proper.setdefault(index, value) != value and (count := int((label == value).sum())):
                logger.warning(
                    f"{volume_name(label)} has {count} voxels of {value}, which are taken for {proper[index]}."
                )


def _turned_to_image(label: MetaTensor, image: MetaTensor) -> MetaTensor:
    """Return a label (C, three axes) with the axes of its stored image if both are one grid, else as it is."""
    if label.ndim != 4 or not is_oriented(label):
        return label
    size = [int(length) for length in image.meta["spatial_shape"]]
    image_affine = np.asarray(image.meta["original_affine"], dtype=np.float64)
    label_affine = np.asarray(label.affine.cpu(), dtype=np.float64)
    between = np.linalg.inv(image_affine) @ label_affine  # from indices of the label to indices of the image
    turn = nib.io_orientation(between)
    if np.isnan(turn).any() or np.array_equal(turn, [[0, 1], [1, 1], [2, 1]]):
        return label
    turned = label.permute(0, *(1 + np.argsort(turn[:, 0])).tolist())
    turned = turned.flip([1 + int(axis) for axis, direction in turn if direction < 0])
    ends = [(0, length - 1) for length in turned.shape[1:]]
    corners = np.array([[*corner, 1] for corner in itertools.product(*ends)])
    moved = corners @ (between @ nib.orientations.inv_ornt_aff(turn, label.shape[1:])).T - corners
    if list(turned.shape[1:]) == size and np.abs(moved).max() <= _MOST_OFFSET_VOXELS:
        return turned
    if list(label.shape[1:]) == size:
        codes = ["".join(nib.aff2axcodes(affine)) for affine in (label_affine, image_affine)]
        logger.warning(
            f"{volume_name(label)} has axes that point to {codes[0]}, those of its image {volume_name(image)} to "
            f"{codes[1]}, and their headers do not describe one grid. Taken as it lies, as if it had the header of the "
            "image: check that it fits."
        )
    return label


def _check_label_shape(label: MetaTensor, image: MetaTensor) -> None:
    expected = [1, *(int(length) for length in image.meta["spatial_shape"])]
    if list(label.shape) != expected:
        raise VolumeError(
            f"{volume_name(label)} has {label.shape[0]} x {listed(label.shape[1:])} voxels (channels first), but its "
            f"image {volume_name(image)} has {listed(expected)}. A label must have one class index for each voxel of "
            "its image: check that the two files belong together."
        )


def _check_label_values(label: MetaTensor, allowed: tuple[int, ...], values: tuple[int, ...]) -> None:
    found = label.as_tensor().unique()
    unknown = found[~torch.isin(found, torch.tensor(allowed, dtype=found.dtype, device=found.device))].tolist()
    if unknown:
        listed = ", ".join(f"{value:g}" for value in unknown[:10]) + (", ..." if len(unknown) > 10 else "")
        remark = f" ({UNLABELLED} says that a slice is not labelled, which only volumes to train on may have.)"
        raise VolumeError(
            f"{volume_name(label)} has {len(unknown)} values that are no class index: {listed}. Allowed are "
            f"{', '.join(map(str, values))}: map the values of the file to these, or correct the list of classes."
            f"{remark if UNLABELLED in unknown else ''}"
        )
