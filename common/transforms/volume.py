"""Deterministic, invertible geometry of a volume, and the checks of what a user's files hold.

Preprocessing of the experiments of Chaitanya et al., NeurIPS 2020, arXiv 2006.10511, section 4.1 and supplement: every
slice is resampled to a fixed in-plane spacing; slices stay apart, their distance is never changed. Intensities are left
to MONAI's percentile scaling and to `n4`, crop and pad to MONAI's `ResizeWithPadOrCropd`.

Shapes: C channels, X and Y the in-plane axes, Z the slices. Axis names are nibabel's: the letter is the direction in
which the voxel index grows (L left, R right, P posterior, A anterior, S superior, I inferior).
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
from monai.transforms import (
    BorderPad,
    GaussianSmooth,
    InvertibleTransform,
    MapTransform,
    Orientation,
    Resize,
    SpatialCrop,
    generate_spatial_bounding_box,
)
from monai.utils import TraceKeys, ensure_tuple_rep

from .outliers import replace_outliers

logger = logging.getLogger(__name__)

_AXIS_LABELS = (("L", "R"), ("P", "A"), ("I", "S"))
_THICK_SLICE_RATIO = 1.5
_SLICE_AXES = ("thickest", "fixed")
_BODY_FRACTION = 0.1
_BLOCK_VOXELS = 2**22
_RESIZE_MODES = {"bilinear": "trilinear", "nearest": "nearest-exact"}


class VolumeError(ValueError):
    """An image or label that cannot be used. The message begins with the name of the file."""


def volume_name(volume: MetaTensor) -> str:
    """Return the file that a volume was loaded from, or "volume" where that is not known."""
    return str(volume.meta.get("filename_or_obj", "volume"))


def voxel_spacing(volume: MetaTensor) -> np.ndarray:
    """Return the voxel size in mm along each of the three spatial axes, from the affine.

    Args:
        volume: (C, X, Y, Z).

    Returns:
        (3,) float64; 0 where the affine is degenerate.

    Raises:
        TypeError: if the volume is a tensor without metadata.
    """
    return np.linalg.norm(_affine(volume)[:3, :3], axis=0)


def _affine(volume: MetaTensor) -> np.ndarray:
    if not isinstance(volume, MetaTensor):
        raise TypeError(f"volume must be a MetaTensor, got {type(volume).__name__}; load it with LoadImaged.")
    return np.asarray(volume.affine.cpu(), dtype=np.float64)


class SelectChanneld(MapTransform):
    """Take one channel of an image that has several, such as one sequence of a multi-parametric examination.

    An image of one channel, that is a 3-D file, is taken as it is for channel 0.

    Args:
        keys: keys of the images, (C, X, Y, Z) as `LoadImaged(ensure_channel_first=True)` gives them.
        channel: index of the channel, from 0.

    Raises:
        ValueError: if `channel` is negative.
        VolumeError: if an image has no such channel.
    """

    def __init__(self, keys: KeysCollection, channel: int) -> None:
        super().__init__(keys)
        if channel < 0:
            raise ValueError(f"channel must be an index from 0, got {channel!r}.")
        self.channel = int(channel)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with images of one channel, (1, X, Y, Z)."""
        d = dict(data)
        for key in self.key_iterator(d):
            image = d[key]
            if self.channel >= image.shape[0]:
                raise VolumeError(
                    f"{volume_name(image)} must have the channel {self.channel}, counted from 0, but its channels are "
                    f"{', '.join(map(str, range(image.shape[0])))} ({listed(image.shape[1:])} voxels each). Set "
                    "channel to the one that is wanted, or replace the file by one that has it."
                )
            if image.shape[0] > 1:
                # A copy, so that the other channels do not stay in memory.
                d[key] = image[self.channel : self.channel + 1].clone()
        return d


class CheckVolumed(MapTransform):
    """Refuse images that the preprocessing cannot treat, saying what is wrong and what to do about it.

    An image must be one 3-D volume of finite intensities that differ (its 1st and 99th percentile define the
    normalisation), with a spacing that is known. A few voxels far outside these percentiles are brought to them, see
    `replace_outliers`.

    Args:
        keys: keys of the images, (1, X, Y, Z) as `LoadImaged(ensure_channel_first=True)` gives them.

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


def is_oriented(volume: MetaTensor) -> bool:
    """Return whether the file of a volume as loaded says how it lies: qform or sform has a code above 0."""
    return any(int(volume.meta.get(code, 1)) != 0 for code in ("qform_code", "sform_code"))


def _checked_axcodes(axcodes: str) -> str:
    if len(axcodes) != 3 or any(sum(code in pair for code in axcodes) != 1 for pair in _AXIS_LABELS):
        raise ValueError(f"axcodes must have one letter of each pair L/R, P/A, I/S, got {axcodes!r}; try 'LPS'.")
    return axcodes


def listed(values: Sequence[float] | np.ndarray | torch.Size) -> str:
    """Return sizes for a message, as in "160 x 160 x 4"."""
    return " x ".join(f"{float(value):g}" for value in values)


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
        target = self._target(_affine(volume), volume.shape[1:])
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


class TrimToBody(InvertibleTransform):
    """Cut off what lies around the body: air, and what a scanner or a program has filled with a constant.

    A voxel is body if its intensity is at least a tenth of the way from the 1st to the 99th percentile of the volume.
    What is kept is the box around all of these voxels and a margin, as far as there are voxels.

    The inverse puts zeros where something was cut off.

    Args:
        margin_mm: width of the margin in mm, rounded up to whole voxels in each axis.

    Raises:
        ValueError: if `margin_mm` is negative or infinite.
    """

    def __init__(self, margin_mm: float) -> None:
        if not 0 <= margin_mm < float("inf"):
            raise ValueError(f"margin_mm must be a number of at least 0 in mm, got {margin_mm!r}.")
        self.margin_mm = float(margin_mm)

    def __call__(self, volume: MetaTensor) -> MetaTensor:
        """Return the box.

        Args:
            volume: (1, X, Y, Z).

        Returns:
            (1, X', Y', Z'), with the affine of the box.
        """
        low, high = np.percentile(volume.as_tensor().cpu().numpy(), [1, 99])
        least = float(low + _BODY_FRACTION * (high - low))
        margin = np.ceil(self.margin_mm / voxel_spacing(volume)).astype(int).tolist()
        start, end = generate_spatial_bounding_box(volume, lambda voxels: voxels >= least, None, margin, True)
        trimmed = SpatialCrop(roi_start=start, roi_end=end)(volume).clone()  # a view would keep the whole in memory
        self.push_transform(trimmed, replace=True)
        return trimmed

    def inverse(self, volume: MetaTensor) -> MetaTensor:
        """Put (C, X', Y', Z') back where it was in the volume of the forward pass; C may differ."""
        trace = self.pop_transform(volume)[TraceKeys.EXTRA_INFO]
        pad = BorderPad(trace[TraceKeys.EXTRA_INFO]["cropped"])
        with pad.trace_transform(False):
            return pad(volume)


class TrimToBodyd(MapTransform, InvertibleTransform):
    """Dictionary version of `TrimToBody`, for images; a label is trimmed like its image by `RepeatTrimd`.

    Args:
        keys: keys of the volumes.
        margin_mm: width of the margin in mm.
        allow_missing_keys: do not raise if a key is missing.
    """

    def __init__(self, keys: KeysCollection, margin_mm: float, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self._trim = TrimToBody(margin_mm)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with the volumes trimmed."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self._trim(d[key])
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with the volumes in their former size."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self._trim.inverse(d[key])
        return d


class RepeatTrimd(MapTransform):
    """Trim labels to the box that their image was trimmed to; do nothing if it was not trimmed.

    Args:
        keys: keys of the labels, in the size and orientation that the image had before it was trimmed.
        reference: key of the image, which may have been through more transforms, or come from the cache.
    """

    def __init__(self, keys: KeysCollection, reference: str) -> None:
        super().__init__(keys)
        self.reference = reference

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with the labels trimmed; the log says where one loses labelled voxels by that."""
        d = dict(data)
        trims = [
            operation[TraceKeys.EXTRA_INFO]
            for operation in d[self.reference].applied_operations
            if operation[TraceKeys.CLASS_NAME] == TrimToBody.__name__
        ]
        for trim in trims:
            cut = np.reshape(trim[TraceKeys.EXTRA_INFO]["cropped"], (3, 2))
            for key in self.key_iterator(d):
                label = d[key]
                ends = np.subtract(label.shape[1:], cut[:, 1])
                trimmed = SpatialCrop(roi_start=cut[:, 0], roi_end=ends)(label)
                if lost := int(label.count_nonzero()) - int(trimmed.count_nonzero()):
                    logger.warning(
                        f"{volume_name(label)} loses {lost} labelled voxels, which lie outside the body as its image "
                        "shows it. If they are more than a few, take a larger margin, or do not trim."
                    )
                d[key] = trimmed
        return d


class ResampleInPlane(InvertibleTransform):
    """Resample every slice to a given pixel size; the slice axis, the last one, is left alone.

    The new size is round(size * spacing / spacing_mm), at least 1, in each in-plane axis. Voxel centres are mapped with
    the half-pixel convention. Before an image shrinks it is smoothed with a Gaussian of max(0, (in / out - 1) / 2)
    pixels, as scikit-image does, in-plane only; a label never is. The way back is not smoothed either.

    Args:
        spacing_mm: pixel size in mm, one for both axes or one for each.
        mode: "bilinear" for images and probabilities, "nearest" for labels.

    Raises:
        ValueError: if a spacing is not positive or the mode is unknown.
    """

    def __init__(self, spacing_mm: float | Sequence[float], mode: str = "bilinear") -> None:
        self.spacing_mm = tuple(float(value) for value in ensure_tuple_rep(spacing_mm, 2))
        if not all(0 < value < float("inf") for value in self.spacing_mm):
            raise ValueError(f"spacing_mm must be positive numbers in mm, got {spacing_mm!r}.")
        if mode not in _RESIZE_MODES:
            raise ValueError(f"mode must be one of {list(_RESIZE_MODES)}, got {mode!r}.")
        self.mode = mode

    def __call__(self, volume: MetaTensor) -> MetaTensor:
        """Return the resampled volume in float32.

        Args:
            volume: (C, X, Y, Z).

        Returns:
            (C, X', Y', Z), with the affine of the new grid.
        """
        spacing = voxel_spacing(volume)
        size = [
            max(1, round(length * old / new))
            for length, old, new in zip(volume.shape[1:3], spacing, self.spacing_mm, strict=False)
        ]
        # Plain "nearest" of torch takes the lower corner of a voxel and so shifts labels by up to half a voxel.
        resize = Resize((*size, -1), mode=_RESIZE_MODES[self.mode])
        resampled = resize(_smooth_in_plane(volume, size) if self.mode == "bilinear" else volume)
        self.push_transform(resampled, replace=True)
        return resampled

    def inverse(self, volume: MetaTensor) -> MetaTensor:
        """Bring (C, X', Y', Z) back to the grid of the forward pass; C may differ."""
        trace = self.pop_transform(volume)[TraceKeys.EXTRA_INFO]
        return Resize(-1).inverse_transform(volume, trace)


def _smooth_in_plane(volume: MetaTensor, size: Sequence[int]) -> MetaTensor:
    """Smooth an image (C, X, Y, Z) for shrinking to `size` in the plane; an axis that grows is left as it is.

    This is what MONAI's `Resize` does with `anti_aliasing`, but some slices at a time, since the filter needs twenty
    times the memory of what it is applied to.
    """
    factors = torch.tensor(volume.shape[1:3]) / torch.tensor(size)
    if not (factors > 1).any():
        return volume
    smooth = GaussianSmooth(sigma=[*((factors - 1) / 2).clamp(min=0).tolist(), 0.0])
    smoothed = volume.to(torch.float32, copy=True)
    num_slices = max(1, _BLOCK_VOXELS // volume[..., 0].numel())
    for start in range(0, volume.shape[-1], num_slices):
        block = slice(start, start + num_slices)
        smoothed[..., block] = smooth(smoothed.as_tensor()[..., block])
    return smoothed


class ResampleInPlaned(MapTransform, InvertibleTransform):
    """Dictionary version of `ResampleInPlane`.

    Args:
        keys: keys of the volumes.
        spacing_mm: pixel size in mm, one for both axes or one for each.
        mode: "bilinear" or "nearest", one for all keys or one for each.
        allow_missing_keys: do not raise if a key is missing.
    """

    def __init__(
        self,
        keys: KeysCollection,
        spacing_mm: float | Sequence[float],
        mode: str | Sequence[str] = "bilinear",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self._resample = [ResampleInPlane(spacing_mm, each) for each in ensure_tuple_rep(mode, len(self.keys))]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with the volumes resampled."""
        d = dict(data)
        for key, resample in self.key_iterator(d, self._resample):
            d[key] = resample(d[key])
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with the volumes on their former grids."""
        d = dict(data)
        for key, resample in self.key_iterator(d, self._resample):
            d[key] = resample.inverse(d[key])
        return d
