"""Photographs of one size, and label maps that fit them; a photograph is a volume of one slice.

Letters: C channels, K classes, H and W rows and columns of the file, h and w those that the network sees.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform
from monai.utils import TraceKeys

from .labels import class_indices
from .volume import VolumeError, listed, volume_name

_MOST_NAMED = 10


class ResizePhotograph(InvertibleTransform):
    """Scale a photograph until it just fits the size that the network sees, and put black around it.

    Its proportions are kept. Photographs are interpolated linearly, and smoothed when they shrink; label maps take the
    nearest value.

    Args:
        image_size: (h, w).
        is_label: whether it is a label map.
    """

    def __init__(self, image_size: Sequence[int], is_label: bool = False) -> None:
        height, width = image_size
        self.image_size = int(height), int(width)
        self.is_label = is_label

    def __call__(self, photograph: MetaTensor) -> MetaTensor:
        """Map (C, H, W, 1) uint8 to (C, h, w, 1) uint8."""
        size = photograph.shape[1:3]
        first_row, first_column, rows, columns = self.window(size)
        options: dict[str, Any] = (
            {"mode": "nearest-exact"} if self.is_label else {"mode": "bilinear", "antialias": True}
        )
        scaled = F.interpolate(photograph.as_tensor()[None, ..., 0], (rows, columns), **options)[0]
        height, width = self.image_size
        padding = (first_column, width - columns - first_column, first_row, height - rows - first_row)
        resized = MetaTensor(F.pad(scaled, padding)[..., None], meta=photograph.meta)
        self.push_transform(resized, orig_size=tuple(photograph.shape[1:]))
        return resized

    def inverse(self, photograph: MetaTensor) -> MetaTensor:
        """Bring probabilities (K, h, w, 1) back to (K, H, W, 1), interpolated linearly."""
        size = self.pop_transform(photograph)[TraceKeys.ORIG_SIZE][:2]
        first_row, first_column, rows, columns = self.window(size)
        window = photograph.as_tensor()[:, first_row : first_row + rows, first_column : first_column + columns, 0]
        scaled = F.interpolate(window[None], tuple(map(int, size)), mode="bilinear", align_corners=False)[0]
        return MetaTensor(scaled[..., None], meta=photograph.meta, applied_operations=photograph.applied_operations)

    def window(self, size: Sequence[int]) -> tuple[int, int, int, int]:
        """Return where a photograph of size (H, W) is: first row, first column, rows and columns."""
        scale = min(own / length for own, length in zip(self.image_size, size, strict=True))
        rows, columns = (max(1, round(int(length) * scale)) for length in size)
        height, width = self.image_size
        return (height - rows) // 2, (width - columns) // 2, rows, columns


class ResizePhotographd(MapTransform, InvertibleTransform):
    """Dictionary version of `ResizePhotograph`.

    Args:
        keys: keys of the photographs or label maps.
        image_size: see `ResizePhotograph`.
        is_label: see `ResizePhotograph`.
    """

    def __init__(self, keys: KeysCollection, image_size: Sequence[int], is_label: bool = False) -> None:
        super().__init__(keys)
        self._resize = ResizePhotograph(image_size, is_label)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with the photographs resized."""
        return {**data, **{key: self._resize(data[key]) for key in self.key_iterator(dict(data))}}

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with the photographs in their former sizes."""
        return {**data, **{key: self._resize.inverse(data[key]) for key in self.key_iterator(dict(data))}}


class MatchLabelMapd(MapTransform):
    """Check the label map of a photograph against it, and turn its values into class indices.

    Args:
        keys: keys of the label maps, (1, H, W, 1) uint8.
        reference: key of the photograph, which must have been loaded by `LoadImaged`.
        values: the values that may occur, 0 to 255: class indices, or for each value (a number or its digits, as JSON
            has no other keys) the class index that it stands for.

    Raises:
        VolumeError: if a label map has another size than the photograph, or other values than the given ones.
    """

    def __init__(self, keys: KeysCollection, reference: str, values: Sequence[int] | Mapping[Any, int]) -> None:
        super().__init__(keys)
        self.reference = reference
        self.values = class_indices(values)
        self._is_known = torch.zeros(256, dtype=torch.bool)
        self._index_of = torch.zeros(256, dtype=torch.uint8)
        for value, index in self.values.items():
            self._is_known[value], self._index_of[value] = True, index

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with class indices (1, H, W, 1) uint8."""
        d = dict(data)
        for key in self.key_iterator(d):
            label = d[key]
            self._check(label, d[self.reference])
            d[key] = MetaTensor(self._index_of[label.as_tensor().int()], meta=label.meta)
        return d

    def _check(self, label: MetaTensor, photograph: MetaTensor) -> None:
        size = [int(length) for length in photograph.meta["spatial_shape"]]
        if list(label.shape[1:]) != size:
            raise VolumeError(
                f"{volume_name(label)} has {listed(label.shape[1:3])} pixels (rows x columns), but its photograph "
                f"{volume_name(photograph)} has {listed(size[:2])}, turned upright. A label map must have one class id "
                "for each pixel of its photograph: check that the two files belong together."
            )
        counts = torch.bincount(label.as_tensor().flatten(), minlength=len(self._is_known))
        if unknown := ((counts > 0) & ~self._is_known).nonzero().flatten().tolist():
            named = ", ".join(map(str, unknown[:_MOST_NAMED])) + (", ..." if len(unknown) > _MOST_NAMED else "")
            raise VolumeError(
                f"{volume_name(label)} has {len(unknown)} values that stand for no class: {named}. Allowed are "
                f"{', '.join(map(str, self.values))}: take the file with the class ids, or complete label_values."
            )
