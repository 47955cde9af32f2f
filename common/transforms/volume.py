"""What a loaded volume says of itself: its file, its voxel sizes, whether it has an orientation.

Axis names are nibabel's: the letter is the direction in which the voxel index grows (L left, R right, P posterior, A
anterior, S superior, I inferior).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.data import MetaTensor


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
    return np.linalg.norm(affine_of(volume)[:3, :3], axis=0)


def affine_of(volume: MetaTensor) -> np.ndarray:
    """Return the affine as (4, 4) float64.

    Raises:
        TypeError: if the volume is a tensor without metadata.
    """
    if not isinstance(volume, MetaTensor):
        raise TypeError(f"volume must be a MetaTensor, got {type(volume).__name__}; load it with LoadImaged.")
    return np.asarray(volume.affine.cpu(), dtype=np.float64)


def is_oriented(volume: MetaTensor) -> bool:
    """Return whether the file of a volume as loaded says how it lies: qform or sform has a code above 0."""
    return any(int(volume.meta.get(code, 1)) != 0 for code in ("qform_code", "sform_code"))


def listed(values: Sequence[float] | np.ndarray | torch.Size) -> str:
    """Return sizes for a message, as in "160 x 160 x 4"."""
    return " x ".join(f"{float(value):g}" for value in values)
