"""Random crops in the image's own proportions, stretched to its size: views of photographs, also with labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Crops(NamedTuple):
    """Boxes of B images, in shares of their sides."""

    shares: Tensor
    """(B,) float32, side of a box."""
    corners: Tensor
    """(B, 2) float32, row and column of the upper left corner."""
    flips: Tensor
    """(B,) bool, whether the columns are reversed."""


class RandomZoom:
    """A random box of every image, of its proportions, stretched to its size; some are reversed from left to right.

    Nothing outside the image is seen, and nothing is turned: what is up on a photograph stays up.

    Args:
        share: smallest and largest side of the box, in shares of the image's, drawn uniformly; its place is any.
        flip: how many of the images have their columns reversed, from 0 to 1.

    Raises:
        ValueError: ``share`` is not an ordered pair above 0 and up to 1, or ``flip`` not from 0 to 1.
    """

    def __init__(self, share: Sequence[float] = (0.5, 1.0), flip: float = 0.5) -> None:
        if len(share) != 2 or not 0 < share[0] <= share[1] <= 1:
            raise ValueError(f"crop_share must be (smallest, largest) with 0 < smallest <= largest <= 1, got {share!r}")
        if not 0 <= flip <= 1:
            raise ValueError(f"flip must be from 0 to 1, got {flip!r}")
        self.share = share
        self.flip = flip

    def draw(self, num_images: int, generator: torch.Generator) -> Crops:
        """Draw the boxes of ``num_images`` images from a CPU generator."""
        uniforms = torch.rand(4, num_images, generator=generator)
        low, high = self.share
        shares = low + (high - low) * uniforms[0]
        return Crops(shares, uniforms[1:3].T * (1 - shares[:, None]), uniforms[3] < self.flip)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return a random box of every image (B, C, H, W) float32, in the image's size."""
        grid = _grid(self.draw(len(images), generator), images)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


class RandomLabelledZoom(RandomZoom):
    """The same for images and their label maps (fine-tuning)."""

    def __call__(  # type: ignore[override]  # takes the labels as well
        self, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return images (B, C, H, W) float32 and labels (B, H, W) integer, up to 2^24, each pair mapped alike."""
        grid = _grid(self.draw(len(images), generator), images)
        zoomed = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
        maps = F.grid_sample(labels[:, None].float(), grid, mode="nearest", padding_mode="border", align_corners=False)
        return zoomed, maps[:, 0].to(labels.dtype)


def _grid(crops: Crops, images: Tensor) -> Tensor:
    """Return the positions (B, H, W, 2) of the pixels of the boxes, as `grid_sample` takes them."""
    centres = 2 * crops.corners + crops.shares[:, None] - 1  # -1 to 1
    signs = torch.where(crops.flips, -1.0, 1.0)
    matrices = torch.zeros(len(crops.shares), 2, 3)
    matrices[:, 0, 0], matrices[:, 0, 2] = crops.shares * signs, centres[:, 1]
    matrices[:, 1, 1], matrices[:, 1, 2] = crops.shares, centres[:, 0]
    size = [len(images), 1, *images.shape[-2:]]
    return F.affine_grid(matrices.to(images.device, non_blocking=True), size, align_corners=False)
