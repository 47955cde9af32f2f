"""The views of dense strategies: two windows on every slice, and where the same places lie in both.

Letters: B drawn slices, N = 2 B images, C channels, H rows, W columns, K sampled pixels of a slice.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..strategies import DenseStrategy, Layout, pixels_per_slice
from .intensity_views import RandomInversion, RandomStrongIntensity
from .spatial_views.affine import move_images
from .spatial_views.window import RandomWindow, common_pixels


class DenseViews:
    """Makes two views of every slice, each moved and changed in its intensities by itself, and samples common pixels.

    Args:
        layout: of a dense strategy.
        num_pixels: pixels of a batch, evenly divided among the slices.
        window: draws what a view shows.
        intensity: changes the intensities of the images of one view, (B, C, H, W) float32, with a CPU generator;
            None for `RandomStrongIntensity` and then `RandomInversion`.

    Raises:
        ValueError: the strategy is not a dense one, or there are fewer pixels than slices.
    """

    def __init__(
        self,
        layout: Layout,
        num_pixels: int = 1000,
        window: RandomWindow = RandomWindow(),  # noqa: B008, it has no state
        intensity: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    ) -> None:
        layout.strategy_as(DenseStrategy)
        self.num_pixels = num_pixels
        self.pixels_per_slice = pixels_per_slice(layout, num_pixels)
        self.window = window
        self.intensity = intensity or _strong_intensity

    def __call__(self, images: Tensor, labels: Tensor | None, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return both views of the drawn slices as `Layout` has them, and the sampled pixels.

        Args:
            images: (B, C, H, W) float32, the drawn slices.
            labels: ignored.
            generator: on the CPU.

        Returns:
            Images (N, C, H, W): the first views of all slices, then the second ones. And (N, K, 2) float32, where the
            K sampled places of a slice lie in each of its views, (column, row) as `grid_sample` takes them.

        Raises:
            ValueError: more pixels are wanted than two views of a slice are sure to have in common.
        """
        num_slices, _, height, width = images.shape
        most = self.window.fewest_common_pixels(height, width)
        # Before any step: what the windows of a later one have in common could be too little.
        if self.pixels_per_slice > most:
            raise ValueError(
                f"num_pixels must be at most {most * num_slices} for batches of {num_slices} slices of {height} x "
                f"{width} pixels, of which two views may have only {most} in common, got {self.num_pixels!r}; take "
                "fewer, or a larger batch_size"
            )
        first, second = (self.window.draw(num_slices, height, width, generator) for _ in range(2))
        points = common_pixels(first, second, height, width, self.pixels_per_slice, generator)
        views = []
        for window in (first, second):
            matrices, offsets = (values.to(images.device, non_blocking=True) for values in window)
            views.append(self.intensity(move_images(images, matrices, offsets), generator))
        return torch.cat(views), points.flatten(0, 1).to(images.device, non_blocking=True)


def _strong_intensity(images: Tensor, generator: torch.Generator) -> Tensor:
    return RandomInversion()(RandomStrongIntensity()(images, generator), generator)
