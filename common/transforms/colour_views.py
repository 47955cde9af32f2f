"""Random changes of the colours of a whole batch of photographs, on the device it lies on.

Chaitanya et al., NeurIPS 2020, arXiv 2006.10511, supplement, name brightness, contrast, saturation and hue for the
experiment on natural images, and no strengths; these are the usual ones.

Letters: B images, H rows, W columns.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

_LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue: what a colour is as a grey (ITU-R BT.601)
# From red, green and blue to luminance and two axes of colour, with the lengths that the television standard NTSC has.
_TO_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


class ColourChanges(NamedTuple):
    """What is done to the colours of B images; 1, 1, 1 and 0 leave them alone."""

    brightness: Tensor
    """(B,) float32, factor of all values."""
    contrast: Tensor
    """(B,) float32, factor of the deviation from the image's mean grey."""
    saturation: Tensor
    """(B,) float32, factor of the deviation from the pixel's own grey; 0 takes all colour away."""
    hue: Tensor
    """(B,) float32, turn of the colours about the grey axis, in turns: 1 is once around."""


def change_colours(images: Tensor, changes: ColourChanges) -> Tensor:
    """Change brightness, then contrast, saturation and hue; then cut off what is below 0 or above 1.

    All four are linear, so that one product of matrices makes them together.

    Args:
        images: (B, 3, H, W) float32, red, green and blue from 0 to 1.
        changes: of each image.

    Returns:
        (B, 3, H, W) float32, new memory.
    """
    device = images.device
    matrices = (_hue_matrices(changes.hue) @ _saturation_matrices(changes.saturation)).float()
    factors = changes.brightness * changes.contrast
    matrices = (factors[:, None, None] * matrices).to(device, non_blocking=True)
    lifts = (changes.brightness * (1 - changes.contrast)).to(device, non_blocking=True)
    # Grey stays grey under the last two, so that the mean grey, which contrast is about, needs no product.
    channels = images.mean(dim=(-2, -1)).unbind(dim=1)
    greys = sum(weight * mean for weight, mean in zip(_LUMINANCE, channels, strict=True))
    changed = torch.baddbmm((lifts * greys)[:, None, None], matrices, images.flatten(2))
    return changed.clamp_(0.0, 1.0).view_as(images)


class RandomColour:
    """Brightness, contrast, saturation and hue of every image, drawn independently.

    Args:
        brightness: largest deviation of the factor from 1.
        contrast: the same.
        saturation: the same.
        hue: largest turn either way, in turns; a half is the opposite colour.

    Raises:
        ValueError: one of the first three is not from 0 to 1, or ``hue`` not from 0 to 0.5.
    """

    def __init__(
        self, brightness: float = 0.4, contrast: float = 0.4, saturation: float = 0.4, hue: float = 0.1
    ) -> None:
        for name, value in (("brightness", brightness), ("contrast", contrast), ("saturation", saturation)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {value!r}; it is the deviation of the factor from 1")
        if not 0 <= hue <= 0.5:
            raise ValueError(f"hue must be from 0 to 0.5 turns, got {hue!r}")
        self.strengths = brightness, contrast, saturation, hue

    def draw(self, num_images: int, generator: torch.Generator) -> ColourChanges:
        """Draw the changes of ``num_images`` images from a CPU generator."""
        symmetric = 2 * torch.rand(4, num_images, generator=generator) - 1
        deviations = symmetric * torch.tensor(self.strengths)[:, None]
        brightness, contrast, saturation = 1 + deviations[:3]
        return ColourChanges(brightness, contrast, saturation, deviations[3])

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the photographs (B, 3, H, W) float32 with other colours.

        Raises:
            ValueError: the images have not three channels.
        """
        if images.shape[1] != 3:
            raise ValueError(f"images must have three channels, red, green and blue, got {images.shape[1]}")
        return change_colours(images, self.draw(len(images), generator))


def _saturation_matrices(factors: Tensor) -> Tensor:
    """Return (B, 3, 3) float64 that stretch colours about their grey."""
    grey = torch.tensor([_LUMINANCE] * 3, dtype=torch.float64)
    factors = factors.double()[:, None, None]
    return factors * torch.eye(3, dtype=torch.float64) + (1 - factors) * grey


def _hue_matrices(turns: Tensor) -> Tensor:
    """Return (B, 3, 3) float64 that turn colours about the grey axis; luminance stays."""
    to_yiq = torch.tensor(_TO_YIQ, dtype=torch.float64)
    angles = 2 * math.pi * turns.double()
    turned = torch.zeros(len(turns), 3, 3, dtype=torch.float64)
    turned[:, 0, 0] = 1
    turned[:, 1, 1] = turned[:, 2, 2] = angles.cos()
    turned[:, 1, 2], turned[:, 2, 1] = angles.sin(), -angles.sin()
    return torch.linalg.inv(to_yiq) @ turned @ to_yiq
