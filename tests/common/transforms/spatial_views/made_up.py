"""Images to be moved."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def smooth_images(num_images: int, height: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """Images whose level sets are large blobs, in 0..1."""
    coarse = torch.rand(num_images, 1, 5, 5, generator=generator)
    return F.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0.0, 1.0)
