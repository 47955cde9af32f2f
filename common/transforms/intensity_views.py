"""Random changes of the intensities of a whole batch, on the device it lies on.

Two are of the paper (Chaitanya et al., NeurIPS 2020, arXiv 2006.10511): one makes the views of both contrastive stages.
The other is meant for fine-tuning, but the authors' program never reaches it with its default settings. A third,
stronger one and the inversion are not the paper's. Images are expected as percentile normalisation leaves them, about 0
to 1.

Letters: B images, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import torch
import torch.nn.functional as F
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
    In the authors' program a shared seed ties the two draws to each other; that accident is not kept here.

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


class RandomStrongIntensity:
    """Noise, blur, contrast, brightness, gamma and a bias field, each for some of the images (fine-tuning).

    The kinds of change are those of nnU-Net (Isensee et al., Nature Methods 2021), the bias field is what N4 may leave.
    Each is applied to an image with the chance given, independently of the others, in this order:

    - noise (3/10): Gaussian, with a standard deviation up to 0.1;
    - blur (3/10): a Gaussian of 0.5 to 1.5 pixels;
    - contrast (1/2): stretched about the mean by 0.6 to 1.5;
    - brightness (1/2): shifted by up to 0.3 either way;
    - gamma (1/2): raised, between the least and the largest value, to a power of 0.6 to 1.65, log-uniformly;
    - bias field (3/10): multiplied by the exponential of a smooth field with standard deviation 0.2.
    """

    _BIAS_GRID = 3

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the images (B, C, H, W) float32, changed."""
        num_images, device = len(images), images.device

        def on_device(values: Tensor) -> Tensor:
            return values.view(-1, 1, 1, 1).to(device, non_blocking=True)

        chances = torch.rand(6, num_images, generator=generator)
        uniforms = torch.rand(5, num_images, generator=generator)
        # One long draw on the CPU would take longer than the rest of the batch; a seed carries the generator over.
        seed = int(torch.randint(2**63 - 1, (), generator=generator).item())
        changed = images.clone()
        noise = partial(_noise, generator=torch.Generator(device).manual_seed(seed))
        _change_some(changed, chances[0] < 0.3, noise, 0.1 * uniforms[0])
        _change_some(changed, chances[1] < 0.3, _blur, 0.5 + uniforms[1])
        contrast = on_device(torch.where(chances[2] < 0.5, 0.6 + 0.9 * uniforms[2], 1.0))
        brightness = on_device(torch.where(chances[3] < 0.5, 0.6 * uniforms[3] - 0.3, 0.0))
        means = changed.mean(dim=(-2, -1), keepdim=True)
        changed.mul_(contrast).add_(means * (1.0 - contrast) + brightness)
        _change_some(changed, chances[4] < 0.5, _gamma, torch.exp(uniforms[4] - 0.5))
        grids = 0.2 * torch.randn(num_images, 1, self._BIAS_GRID, self._BIAS_GRID, generator=generator)
        _change_some(changed, chances[5] < 0.3, _bias_field, grids)
        return changed


class RandomInversion:
    """Exchange of bright and dark for some of the images: every value becomes least + largest - value.

    Args:
        chance: of each image, 0 to 1.

    Raises:
        ValueError: ``chance`` is out of its range.
    """

    def __init__(self, chance: float = 0.35) -> None:
        if not 0 <= chance <= 1:
            raise ValueError(f"chance must be from 0 to 1, got {chance!r}")
        self.chance = chance

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the images (B, C, H, W) float32, some of them inverted."""
        chosen = torch.rand(len(images), generator=generator) < self.chance
        inverted = images.clone()
        _change_some(inverted, chosen, _invert, chosen)
        return inverted


def _change_some(
    images: Tensor, chosen: Tensor, change: Callable[[Tensor, Tensor], Tensor], parameters: Tensor
) -> None:
    """Replace the chosen images by what `change` makes of them, in place; chosen and parameters (B, ...) on the CPU."""
    rows = chosen.nonzero().flatten()
    if len(rows):
        own, rows = (values.to(images.device, non_blocking=True) for values in (parameters[rows], rows))
        images.index_copy_(0, rows, change(images[rows], own))


def _noise(images: Tensor, deviations: Tensor, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise of standard deviations (B,) to images (B, C, H, W); the generator is on their device."""
    noise = torch.randn(images.shape, generator=generator, device=images.device)
    return noise.mul_(deviations.view(-1, 1, 1, 1)).add_(images)


def _invert(images: Tensor, _: Tensor) -> Tensor:
    """Exchange bright and dark in images (B, C, H, W), of which none has a parameter."""
    low, high = images.amin(dim=(-2, -1), keepdim=True), images.amax(dim=(-2, -1), keepdim=True)
    return low + high - images


def _gamma(images: Tensor, powers: Tensor) -> Tensor:
    """Raise images (B, C, H, W), between their least and their largest value, to powers (B,)."""
    low, high = images.amin(dim=(-2, -1), keepdim=True), images.amax(dim=(-2, -1), keepdim=True)
    span = (high - low).clamp_min(1e-6)
    return ((images - low) / span).pow_(powers.view(-1, 1, 1, 1)).mul_(span).add_(low)


def _bias_field(images: Tensor, grids: Tensor) -> Tensor:
    """Multiply images (B, C, H, W) by the exponentials of smooth fields, given by grids (B, 1, h, w)."""
    # Bicubic interpolation is linear in rows and in columns: two small products instead of a pass over every pixel.
    sides = zip(grids.shape[-2:], images.shape[-2:], strict=True)
    of_rows, of_columns = (_bicubic(size, target, images.device) for size, target in sides)
    return (of_rows @ grids @ of_columns.mT).exp_() * images


@lru_cache(maxsize=8)
def _bicubic(size: int, target: int, device: torch.device) -> Tensor:
    """Return (target, size) float32: what bicubic interpolation from size to target places makes of each place."""
    places = F.interpolate(torch.eye(size)[None, :, :, None], size=(target, 1), mode="bicubic")
    return places[0, :, :, 0].mT.contiguous().to(device)


def _blur(images: Tensor, widths: Tensor) -> Tensor:
    """Convolve images (B, C, H, W) with Gaussians of standard deviations (B,) in pixels."""
    radius = 4  # the widest kernel's weight beyond it is under 1 per cent
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    kernels = torch.exp(-(offsets**2) / (2 * widths[:, None] ** 2))
    kernels = kernels / kernels.sum(dim=1, keepdim=True)
    # Images become the channels of one image, each with a kernel of its own.
    batch = F.pad(images.transpose(0, 1), [radius] * 4, mode="reflect")
    batch = F.conv2d(batch, kernels[:, None, :, None], groups=len(images))
    return F.conv2d(batch, kernels[:, None, None, :], groups=len(images)).transpose(0, 1)
