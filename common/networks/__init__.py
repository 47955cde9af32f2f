"""The U-Net of the paper and the networks of its pre-training stages."""

from __future__ import annotations

from .heads import DenseHead, GlobalHead, LocalHead
from .pretraining import GlobalPretrainingNet, JointPretrainingNet, LocalPretrainingNet
from .regions import region_starts
from .unet2d import UNet2d

__all__ = [
    "DenseHead",
    "GlobalHead",
    "GlobalPretrainingNet",
    "JointPretrainingNet",
    "LocalHead",
    "LocalPretrainingNet",
    "UNet2d",
    "region_starts",
]
