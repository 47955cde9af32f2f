"""Copy-paste between two halves of a batch, so that each sees its structures in the surroundings of the other.

Bai, Chen, Li, Shen, Wang, "Bidirectional Copy-Paste for Semi-Supervised Medical Image Segmentation", CVPR 2023; there
the region is a block of fixed size, and each of the two results has a loss of its own.

Letters: P pairs of images, C channels or classes, H rows, W columns.
"""

from __future__ import annotations

import torch
from torch import Tensor


class CopyPaste:
    """Exchange a random rectangle between the two images of each pair, and between their soft labels.

    In a share of the batches every pair exchanges a rectangle of its own: a third to two thirds as high and as wide as
    the image, its place drawn from the middle half of what is possible; the others stay as they are.

    Args:
        chance: share of the batches, 0 to 1.

    Raises:
        ValueError: ``chance`` is not from 0 to 1.
    """

    sides = (1 / 3, 2 / 3)  # of the image
    places = (0.25, 0.75)  # of the room that the rectangle leaves

    def __init__(self, chance: float) -> None:
        if not 0 <= chance <= 1:
            raise ValueError(f"copy_paste must be from 0 (never) to 1 (in every batch), got {chance!r}.")
        self.chance = chance

    def draw(self, num_pairs: int, height: int, width: int, generator: torch.Generator) -> Tensor | None:
        """Draw the rectangles as masks (P, 1, H, W) bool on the CPU; None for a batch that stays as it is."""
        if torch.rand((), generator=generator).item() >= self.chance:
            return None
        uniforms = torch.rand(4, num_pairs, generator=generator)
        inside = []
        for axis, size in enumerate((height, width)):
            (smallest, largest), (lowest, highest) = self.sides, self.places
            sides = ((smallest + (largest - smallest) * uniforms[axis]) * size).int()
            starts = ((size - sides) * (lowest + (highest - lowest) * uniforms[2 + axis])).int()
            positions = torch.arange(size)
            inside.append((positions >= starts[:, None]) & (positions < (starts + sides)[:, None]))
        return (inside[0][:, :, None] & inside[1][:, None, :]).unsqueeze(1)

    @staticmethod
    def exchange(first: Tensor, second: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Exchange what masks (P, 1, H, W) cover between the first P entries of two tensors (P or more, C, H, W)."""
        number = len(masks)
        masks = masks.to(first.device, non_blocking=True)
        one, other = first[:number], second[:number]
        pasted = torch.where(masks, other, one), torch.where(masks, one, other)
        return torch.cat([pasted[0], first[number:]]), torch.cat([pasted[1], second[number:]])
