"""Dictionary transforms for volumes, and random views of whole batches of slices.

The volume transforms are re-exported here; the views are imported from their modules.
"""

from __future__ import annotations

from .n4 import N4BiasFieldCorrection, N4BiasFieldCorrectiond
from .volume import (
    CheckVolumed,
    MatchLabeld,
    OrientSlices,
    OrientSlicesd,
    ResampleInPlane,
    ResampleInPlaned,
    VolumeError,
)

__all__ = [
    "CheckVolumed",
    "MatchLabeld",
    "N4BiasFieldCorrection",
    "N4BiasFieldCorrectiond",
    "OrientSlices",
    "OrientSlicesd",
    "ResampleInPlane",
    "ResampleInPlaned",
    "VolumeError",
]
