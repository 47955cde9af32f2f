"""Dictionary transforms for volumes, and random views of whole batches of slices.

The volume transforms are re-exported here; the views are imported from their modules.
"""

from __future__ import annotations

from .channel import SelectChanneld as SelectChanneld
from .checks import CheckVolumed as CheckVolumed
from .intensity import ScalePercentilesd as ScalePercentilesd
from .label_maps import LargestComponentsd as LargestComponentsd
from .label_maps import MostProbabled as MostProbabled
from .labelled_slices import CheckWholeSlicesd as CheckWholeSlicesd
from .labelled_slices import FindLabelledSlicesd as FindLabelledSlicesd
from .labels import MatchLabeld as MatchLabeld
from .n4 import N4BiasFieldCorrection as N4BiasFieldCorrection
from .n4 import N4BiasFieldCorrectiond as N4BiasFieldCorrectiond
from .orientation import AssumeOrientationd as AssumeOrientationd
from .orientation import OrientSlices as OrientSlices
from .orientation import OrientSlicesd as OrientSlicesd
from .resampling import ResampleInPlane as ResampleInPlane
from .resampling import ResampleInPlaned as ResampleInPlaned
from .trimming import TrimLikeImaged as TrimLikeImaged
from .trimming import TrimToBody as TrimToBody
from .trimming import TrimToBodyd as TrimToBodyd
from .uncertainty import ExpectedDiced as ExpectedDiced
from .uncertainty import Uncertaintyd as Uncertaintyd
from .volume import VolumeError as VolumeError
