"""Dictionary transforms for volumes, and random views of whole batches of slices.

The volume transforms are re-exported here; the views are imported from their modules.
"""

from __future__ import annotations

from .labels import MatchLabeld as MatchLabeld
from .n4 import N4BiasFieldCorrection as N4BiasFieldCorrection
from .n4 import N4BiasFieldCorrectiond as N4BiasFieldCorrectiond
from .pseudo_labels import PredictLabeld as PredictLabeld
from .volume import AssumeOrientationd as AssumeOrientationd
from .volume import CheckVolumed as CheckVolumed
from .volume import OrientSlices as OrientSlices
from .volume import OrientSlicesd as OrientSlicesd
from .volume import RepeatTrimd as RepeatTrimd
from .volume import ResampleInPlane as ResampleInPlane
from .volume import ResampleInPlaned as ResampleInPlaned
from .volume import SelectChanneld as SelectChanneld
from .volume import TrimToBody as TrimToBody
from .volume import TrimToBodyd as TrimToBodyd
from .volume import VolumeError as VolumeError
