"""Random crops of a whole batch, stretched to the size of the image: views of the global contrastive stage."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def crop_and_resize(images: Tensor, corners: Tensor, crop_size: int) -> Tensor:
    """Cut a square box out of every image and stretch it to the size of the image.

    Bilinear with half-pixel centres. Nothing outside the box is seen: the result reaches less than half a pixel beyond
    the centres of the outer pixels of the box, where they are repeated. For linear interpolation that is the same as
    mirroring the box at its edge.

    Args:
        images: (B, C, H, W) float32.
        corners: (B, 2) int64, row and column of the upper left pixel of every box.
        crop_size: side of the box in pixels.

    Returns:
        (B, C, H, W) float32.
    """
    rows, columns = corners.to(images.device, non_blocking=True).unbind(dim=1)
    indices = torch.arange(len(images), device=images.device)
    # A view of all boxes of all images, (B, C, H - s + 1, W - s + 1, s, s); only the chosen ones are copied.
    boxes = images.unfold(2, crop_size, 1).unfold(3, crop_size, 1)
    crops = boxes[indices, :, rows, columns]
    return F.interpolate(crops, size=images.shape[-2:], mode="bilinear", align_corners=False)


class RandomCropResize:
    """A random square box of every image, stretched to the size of the image (views of the global stage).

    Row and column of the upper left corner are independent uniform integers, for every image anew. Where a box would
    leave the image, it is moved back inside.

    Args:
        crop_size: side of the box in pixels.
        start: lowest and highest row (and column) of the upper left corner, both included.

    Raises:
        ValueError: ``crop_size`` is not positive, or ``start`` is not an ordered pair of non-negative integers.
    """

    def __init__(self, crop_size: int = 100, start: Sequence[int] = (10, 69)) -> None:
        if crop_size < 1:
            raise ValueError(f"crop_size must be at least 1 pixel, got {crop_size!r}")
        if len(start) != 2 or not 0 <= start[0] <= start[1]:
            raise ValueError(f"start must be (lowest, highest) with 0 <= lowest <= highest, got {start!r}")
        self.crop_size = crop_size
        self.start = start

    def draw(self, num_images: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """Draw the corners (num_images, 2) int64 of boxes for images of ``height`` x ``width`` pixels.

        Raises:
            ValueError: the box is larger than the images.
        """
        if self.crop_size > min(height, width):
            raise ValueError(
                f"crop_size must be at most the image size {height} x {width}, got {self.crop_size}; take a smaller box"
            )
        corners = torch.randint(self.start[0], self.start[1] + 1, (num_images, 2), generator=generator)
        return corners.minimum(torch.tensor([height - self.crop_size, width - self.crop_size]))

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return a random crop of every image, (B, C, H, W) float32.

        Raises:
            ValueError: the box is larger than the images.
        """
        corners = self.draw(len(images), images.shape[-2], images.shape[-1], generator)
        return crop_and_resize(images, corners, self.crop_size)
