"""Images that are kept in 8 bits, as photographs are: a quarter of the memory."""

from __future__ import annotations

import torch
from torch import Tensor


def unit_range(images: Tensor) -> Tensor:
    """Return images in float32, those of 8 bits (0 to 255) with values from 0 to 1; on the device they lie on."""
    return images.float().div_(255.0) if images.dtype == torch.uint8 else images
