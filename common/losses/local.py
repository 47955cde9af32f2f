"""The loss of the local stage, by the kind of its strategy."""

from __future__ import annotations

from ..strategies import DenseStrategy, Layout
from .dense_contrastive import DenseContrastiveLoss
from .local_contrastive import LocalContrastiveLoss


def local_loss(
    layout: Layout, region_size: int = 3, num_pixels: int = 1000, temperature: float = 0.1
) -> LocalContrastiveLoss | DenseContrastiveLoss:
    """Make the loss of the local stage.

    Args:
        layout: of the batches.
        region_size: see `LocalContrastiveLoss`; dense strategies do not use it.
        num_pixels: see `DenseContrastiveLoss`; strategies of regions do not use it.
        temperature: τ > 0, see both.

    Raises:
        ValueError: see both.
    """
    if isinstance(layout.strategy, DenseStrategy):
        return DenseContrastiveLoss(layout, num_pixels, temperature)
    return LocalContrastiveLoss(layout, region_size, temperature)
