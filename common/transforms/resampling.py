"""Slices resampled to one pixel size; they stay apart, their distance is never changed.

Preprocessing of the experiments of Chaitanya et al., NeurIPS 2020, arXiv 2006.10511, section 4.1 and supplement.
Shapes: C channels, X and Y the in-plane axes, Z the slices.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import GaussianSmooth, InvertibleTransform, MapTransform, Resize
from monai.utils import TraceKeys, ensure_tuple_rep

from .volume import voxel_spacing

_BLOCK_VOXELS = 2**22
_RESIZE_MODES = {"bilinear": "trilinear", "nearest": "nearest-exact"}


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
