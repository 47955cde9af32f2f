"""Volumes of structures in millilitres."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .transforms.volume import affine_of

UNIT = "ml"
_MM3_OF_ML = 1000.0


def structure_volumes(labels: Any, class_names: Sequence[str], affine: Any = None) -> dict[str, float]:
    """Compute the volume of every structure of a label map.

    Args:
        labels: class indices of any shape; a MetaTensor unless `affine` is given.
        class_names: names by class index, the background's first.
        affine: (4, 4) from voxel indices to mm; by default that of the labels.

    Returns:
        Millilitres by name, 0 for a structure that is not there.
    """
    affine = affine_of(labels) if affine is None else np.asarray(affine, np.float64)
    voxel_ml = abs(np.linalg.det(affine[:3, :3])) / _MM3_OF_ML
    counts = np.bincount(np.asarray(labels).astype(np.int64).ravel(), minlength=len(class_names))
    return {name: float(count * voxel_ml) for name, count in zip(class_names[1:], counts[1:], strict=True)}
