"""Volumes cut down to the body.

Shapes: C channels, X and Y the in-plane axes, Z the slices.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import (
    BorderPad,
    InvertibleTransform,
    MapTransform,
    SpatialCrop,
    generate_spatial_bounding_box,
)
from monai.utils import TraceKeys

from .labels import UNLABELLED
from .volume import volume_name, voxel_spacing

logger = logging.getLogger(__name__)

BODY_BOX = "body_box"
"""Key of a trimmed volume's metadata: the box that was kept, in voxels of the volume before."""

_BODY_FRACTION = 0.1


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
            (1, X', Y', Z'), with the affine of the box, and its first and behind its last voxel, int64 (2, 3), in the
            metadata under `BODY_BOX`.
        """
        low, high = np.percentile(volume.as_tensor().cpu().numpy(), [1, 99])
        least = float(low + _BODY_FRACTION * (high - low))
        margin = np.ceil(self.margin_mm / voxel_spacing(volume)).astype(int).tolist()
        start, end = generate_spatial_bounding_box(volume, lambda voxels: voxels >= least, None, margin, True)
        trimmed = SpatialCrop(roi_start=start, roi_end=end)(volume).clone()  # a view would keep the whole in memory
        trimmed.meta[BODY_BOX] = np.array([start, end])
        self.push_transform(trimmed, replace=True)
        return trimmed

    def inverse(self, volume: MetaTensor) -> MetaTensor:
        """Put (C, X', Y', Z') back where it was in the volume of the forward pass; C may differ."""
        trace = self.pop_transform(volume)[TraceKeys.EXTRA_INFO]
        pad = BorderPad(trace[TraceKeys.EXTRA_INFO]["cropped"])
        with pad.trace_transform(False):
            return pad(volume)


class TrimToBodyd(MapTransform, InvertibleTransform):
    """Dictionary version of `TrimToBody`, for images; a label is trimmed like its image by `TrimLikeImaged`.

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


class TrimLikeImaged(MapTransform):
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
        box = d[self.reference].meta.get(BODY_BOX)
        if box is None:
            return d
        start, end = np.asarray(box)
        for key in self.key_iterator(d):
            label = d[key]
            d[key] = SpatialCrop(roi_start=start, roi_end=end)(label)
            if lost := _structures(label) - _structures(d[key]):
                logger.warning(
                    f"{volume_name(label)} loses {lost} labelled voxels, which lie outside the body as its image "
                    "shows it. If they are more than a few, take a larger margin, or do not trim."
                )
        return d


def _structures(label: MetaTensor) -> int:
    """Count the voxels of structures."""
    return int(((label != 0) & (label != UNLABELLED)).sum())
