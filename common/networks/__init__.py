"""The U-Net of the paper and the networks of its two pre-training stages."""

from __future__ import annotations

from .heads import GlobalHead, LocalHead
from .pretraining import GlobalPretrainingNet, LocalPretrainingNet
from .regions import region_starts
from .unet2d import UNet2d

__all__ = ["GlobalHead", "GlobalPretrainingNet", "LocalHead", "LocalPretrainingNet", "UNet2d", "region_starts"]
