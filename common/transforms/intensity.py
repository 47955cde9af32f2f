"""Intensities of a volume brought to one range."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.transforms import MapTransform, ScaleIntensityRange

_LOWER, _UPPER = 1.0, 99.0


class ScalePercentilesd(MapTransform):
    """Bring the 1st percentile of a volume to 0 and the 99th to 1, without clipping.

    Chaitanya et al., NeurIPS 2020, arXiv 2006.10511, section 4.1 and supplement. MONAI's own transform for it sorts all
    voxels of a volume below a million, twice; numpy selects, in a tenth of the time. The percentiles are the same but
    for the rounding of the last bit.

    Args:
        keys: keys of the volumes.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with the volumes (C, X, Y, Z) float32 of the new range."""
        d = dict(data)
        for key in self.key_iterator(d):
            low, high = np.percentile(d[key].cpu().numpy(), [_LOWER, _UPPER])
            d[key] = ScaleIntensityRange(float(low), float(high), 0.0, 1.0)(d[key])
        return d
