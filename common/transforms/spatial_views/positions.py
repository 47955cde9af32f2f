"""Positions in an image as torch's `grid_sample` takes them."""

from __future__ import annotations

from torch import Tensor


def relative_positions(positions: Tensor, size: int) -> Tensor:
    """Turn positions along an axis of ``size`` pixels into those of `grid_sample`: -1 and 1 are the outer edges."""
    return (2.0 / size) * positions + (1.0 / size - 1.0)
