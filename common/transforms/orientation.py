"""The order and direction of a volume's axes, the slices along the last one.

Axis names are nibabel's, see `volume`. Shapes: C channels, X and Y the in-plane axes, Z the slices.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform, Orientation
from monai.utils import TraceKeys

from .volume import affine_of, is_oriented, volume_name, voxel_spacing

logger = logging.getLogger(__name__)

_AXIS_LABELS = (("L", "R"), ("P", "A"), ("I", "S"))
_THICK_SLICE_RATIO = 1.5
_SLICE_AXES = ("thickest", "fixed")


class AssumeOrientationd(MapTransform):
    """Give volumes whose header does not say how they lie an orientation.

    A NIfTI file with neither qform nor sform (both codes 0) has voxel sizes only; nibabel then makes up "LAS". Other
    files of the same dataset that do have an orientation would be turned against it. Such a volume is taken to be
    stored as `axcodes` says. All others are left alone.

    Args:
        keys: keys of the images, (1, X, Y, Z) as `LoadImaged` gives them.
        axcodes: three letters, the directions in which the indices of the three axes grow.

    Raises:
        ValueError: if `axcodes` is not one letter of each pair L/R, P/A, I/S.
    """

    def __init__(self, keys: KeysCollection, axcodes: str) -> None:
        super().__init__(keys)
        self.axcodes = _checked_axcodes(axcodes)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data; the affine, also the original one, of volumes without orientation is replaced."""
        d = dict(data)
        for key in self.key_iterator(d):
            image = d[key]
            if not is_oriented(image):
                image = image.clone()
                orientation = nib.orientations.axcodes2ornt(self.axcodes, labels=_AXIS_LABELS)
                affine = np.zeros((4, 4))
                affine[orientation[:, 0].astype(int), range(3)] = orientation[:, 1] * voxel_spacing(image)
                affine[3, 3] = 1.0
                image.affine = torch.as_tensor(affine)
                image.meta["original_affine"] = affine
                logger.warning(f"{volume_name(image)} does not say how it lies; taken to be {self.axcodes}.")
                d[key] = image
        return d


class OrientSlices(InvertibleTransform):
    """Bring the axes of a volume into a fixed order and direction, the slice axis last.

    The slice axis is the one with the largest voxel size if that exceeds the others at least 1.5 times, else the one
    closest to the direction of the third code; but in a volume of one slice it is the axis of length one. The two
    others follow in the order of the codes that remain, each flipped if it runs against its code; where the third
    direction lies in the plane it is turned round, so that the head is up, as in radiology. With "LPS" a sagittal stack
    of thick slices thus becomes "PIL", a coronal one "LIP", and an oblique short-axis stack of the heart is seen as
    ACDC's, which are stored as if they were axial. Without thick slices, or with thick slices across the third
    direction, the result is that of `monai.transforms.Orientation`.

    With a fixed slice axis it always is, but for a volume of one slice. That is for data of which some volumes have
    thick slices in one direction, some in another and some none, so that the slices of all of them show the same view.

    The inverse restores axes and affine exactly, also where the axes lie at 45 degrees between two directions; there
    MONAI's own inverse may choose other axes than the forward pass did.

    Args:
        axcodes: three letters, one of each pair L/R, P/A, I/S.
        slice_axis: "thickest", see above, or "fixed" for the one closest to the third code whatever the voxel sizes.

    Raises:
        ValueError: if `axcodes` or `slice_axis` is not of that form.
    """

    def __init__(self, axcodes: str, slice_axis: str = "thickest") -> None:
        self.axcodes = _checked_axcodes(axcodes)
        if slice_axis not in _SLICE_AXES:
            raise ValueError(f"slice_axis must be one of {', '.join(_SLICE_AXES)}, got {slice_axis!r}.")
        self.slice_axis = slice_axis

    def __call__(self, volume: MetaTensor) -> MetaTensor:
        """Return the volume with axes reordered and flipped, and the affine that goes with it.

        Args:
            volume: (C, three spatial axes in any order and direction).

        Returns:
            (C, X, Y, Z).
        """
        target = self._target(affine_of(volume), volume.shape[1:])
        codes = nib.orientations.ornt2axcodes(target, labels=_AXIS_LABELS)
        oriented = Orientation(axcodes="".join(codes), labels=_AXIS_LABELS)(volume)
        self.push_transform(oriented, replace=True)
        return oriented

    def inverse(self, volume: MetaTensor) -> MetaTensor:
        """Undo the reordering of a volume of (C, X, Y, Z); C may differ from that of the forward pass."""
        trace = self.pop_transform(volume)[TraceKeys.EXTRA_INFO]
        affine = np.asarray(trace[TraceKeys.EXTRA_INFO]["original_affine"], dtype=np.float64)
        target = self._target(affine, trace[TraceKeys.ORIG_SIZE])
        moves = nib.orientations.ornt_transform(nib.io_orientation(affine), target)
        restored = volume.permute(0, *(1 + int(axis) for axis in moves[:, 0]))
        restored = restored.flip([1 + axis for axis in range(3) if moves[axis, 1] < 0])
        restored.affine = torch.as_tensor(affine)
        return restored

    def _target(self, affine: np.ndarray, size: Sequence[int]) -> np.ndarray:
        """Return for each output axis the world axis and sign it follows, as nibabel's (3, 2) orientation array."""
        target = nib.orientations.axcodes2ornt(self.axcodes, labels=_AXIS_LABELS)
        slice_axis = self._evident_slice_axis(np.linalg.norm(affine[:3, :3], axis=0), size)
        if slice_axis is not None:
            is_slice = target[:, 0] == nib.io_orientation(affine)[slice_axis, 0]
            target = np.concatenate([target[~is_slice], target[is_slice]])
            if not is_slice[2]:  # the third direction lies in the plane: show it as radiology does
                target[1, 1] *= -1
        return target

    def _evident_slice_axis(self, spacing: np.ndarray, size: Sequence[int]) -> int | None:
        """Return the axis that one or thick slices lie along; None if there is none, or only one axis is wanted."""
        short = [axis for axis, length in enumerate(size) if int(length) == 1]
        if len(short) == 1:
            return short[0]
        *_, second, thickest = np.argsort(spacing)
        is_thick = self.slice_axis == "thickest" and spacing[thickest] >= _THICK_SLICE_RATIO * spacing[second]
        return int(thickest) if is_thick else None


class OrientSlicesd(MapTransform, InvertibleTransform):
    """Dictionary version of `OrientSlices`.

    Args:
        keys: keys of the volumes.
        axcodes: three letters, one of each pair L/R, P/A, I/S.
        slice_axis: "thickest" or "fixed".
        allow_missing_keys: do not raise if a key is missing.
    """

    def __init__(
        self, keys: KeysCollection, axcodes: str, slice_axis: str = "thickest", allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self._orient = OrientSlices(axcodes, slice_axis)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with the volumes oriented."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self._orient(d[key])
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with the volumes as they were."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self._orient.inverse(d[key])
        return d


def _checked_axcodes(axcodes: str) -> str:
    if len(axcodes) != 3 or any(sum(code in pair for code in axcodes) != 1 for pair in _AXIS_LABELS):
        raise ValueError(f"axcodes must have one letter of each pair L/R, P/A, I/S, got {axcodes!r}; try 'LPS'.")
    return axcodes
