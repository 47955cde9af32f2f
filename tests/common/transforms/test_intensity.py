"""The range of intensities, beside what MONAI makes of the same volume."""

from __future__ import annotations

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import ScaleIntensityRangePercentilesd

from common.transforms import ScalePercentilesd


def test_percentiles_become_0_and_1_and_nothing_is_clipped():
    volume = torch.from_numpy(np.random.default_rng(0).gamma(2.0, 300.0, (1, 40, 50, 9))).float()
    affine = torch.diag(torch.tensor([1.5, 1.5, 8.0, 1.0], dtype=torch.float64))
    data = {"image": MetaTensor(volume, affine=affine)}
    scaled = ScalePercentilesd("image")(data)["image"]
    np.testing.assert_allclose(np.percentile(scaled.numpy(), [1, 99]), [0, 1], atol=1e-6)
    assert scaled.min() < 0 and scaled.max() > 1 and scaled.dtype == torch.float32
    assert torch.equal(scaled.affine, affine) and torch.equal(data["image"].as_tensor(), volume)
    theirs = ScaleIntensityRangePercentilesd("image", 1, 99, 0.0, 1.0)(data)["image"]
    torch.testing.assert_close(scaled.as_tensor(), theirs.as_tensor(), rtol=0, atol=1e-6)
