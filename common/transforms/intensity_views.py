"""Random brightness and contrast of a whole batch, on the device it lies on.

These are the intensity augmentations of the paper (Chaitanya et al., NeurIPS 2020, arXiv 2006.10511): the one that
makes the views of both contrastive stages, and the one meant for fine-tuning, which the authors' program never reaches
with its default settings. Images are expected as percentile normalisation leaves them, about 0 to 1.

Letters: B images, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def adjust_intensity(images: Tensor, brightness: float, contrast: float, clip: Sequence[float] | None = None) -> Tensor:
    """Add a constant, then stretch every channel of every image about its own spatial mean, then clip.

    Args:
        images: (B, C, H, W) float32.
        brightness: the constant added, in image units.
        contrast: factor of the deviation from the mean; 1 leaves the contrast alone.
        clip: lowest and highest value of the result, or None for no clipping.

    Returns:
        (B, C, H, W) float32, new memory.
    """
    # (x + b - mean(x + b)) * c + mean(x + b) = c * x + (1 - c) * mean(x) + b: one pass, and exact for c = 1.
    means = images.mean(dim=(-2, -1), keepdim=True)
    adjusted = (images * contrast).add_(means * (1.0 - contrast) + brightness)
    return adjusted if clip is None else adjusted.clamp_(clip[0], clip[1])


class RandomIntensity:
    """Brightness, contrast and clipping with one random strength for the whole batch, as for the contrastive views.

    Brightness and contrast are drawn independently, once per call: all images of a view change alike, two views do not.
    (In the authors' program a shared seed ties the two draws to each other; that is an accident not kept here.)

    Args:
        brightness: largest absolute value of the added constant, in image units.
        contrast: lowest and highest contrast factor.
        clip: lowest and highest value of the result, or None for no clipping.

    Raises:
        ValueError: ``brightness`` is negative, or ``contrast`` or ``clip`` is not an ordered pair, or ``contrast`` is
            negative.
    """

    def __init__(
        self,
        brightness: float = 0.3,
        contrast: Sequence[float] = (0.7, 1.3),
        clip: Sequence[float] | None = (0.0, 1.5),
    ) -> None:
        if brightness < 0:
            raise ValueError(f"brightness must be at least 0, got {brightness!r}; it is the largest absolute shift")
        if len(contrast) != 2 or not 0 <= contrast[0] <= contrast[1]:
            raise ValueError(f"contrast must be (low, high) with 0 <= low <= high, got {contrast!r}")
        if clip is not None and (len(clip) != 2 or not clip[0] < clip[1]):
            raise ValueError(f"clip must be (low, high) with low < high, or None for no clipping, got {clip!r}")
        self.brightness = brightness
        self.contrast = contrast
        self.clip = clip

    def draw(self, generator: torch.Generator) -> tuple[float, float]:
        """Draw the added constant and the contrast factor of one call from a CPU generator."""
        # Drawn on the CPU they are plain numbers at once; read back from a device they would stall it.
        uniforms = torch.rand(2, generator=generator, dtype=torch.float64)
        low, high = self.contrast
        return self.brightness * (2.0 * uniforms[0].item() - 1.0), low + (high - low) * uniforms[1].item()

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the batch (B, C, H, W) float32 with one random brightness and contrast."""
        brightness, contrast = self.draw(generator)
        return adjust_intensity(images, brightness, contrast, self.clip)


class RandomFineTuningIntensity:
    """Random contrast of the first half of a batch and random brightness of the second half, without clipping.

    One contrast factor and one added constant are drawn per call. Of an odd batch the second half is the larger one.

    Args:
        brightness: largest absolute value of the constant added to the second half, in image units.
        contrast: lowest and highest contrast factor of the first half.

    Raises:
        ValueError: as for `RandomIntensity`.
    """

    def __init__(self, brightness: float = 0.1, contrast: Sequence[float] = (0.8, 1.2)) -> None:
        self.random_contrast = RandomIntensity(brightness=0.0, contrast=contrast, clip=None)
        self.random_brightness = RandomIntensity(brightness=brightness, contrast=(1.0, 1.0), clip=None)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the batch (B, C, H, W) float32 with its two halves changed."""
        half = len(images) // 2
        return torch.cat(
            [self.random_contrast(images[:half], generator), self.random_brightness(images[half:], generator)]
        )
