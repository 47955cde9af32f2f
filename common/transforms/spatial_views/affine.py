"""Random affine maps of a whole batch of images and their label maps: an augmentation of fine-tuning."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .positions import relative_positions


class SpatialParameters(NamedTuple):
    """Affine parameters of B images: an image is flipped left to right, then scaled and rotated about its centre."""

    angles: Tensor
    """(B,) float64, degrees, counter-clockwise as in `numpy.rot90`."""
    scales: Tensor
    """(B,) float64, above 1 enlarges."""
    flips: Tensor
    """(B,) bool, whether the columns are reversed."""


def affine_matrices(parameters: SpatialParameters) -> Tensor:
    """Matrices that map a position in the result to one in the image, both (row, column) from the image centre.

    Args:
        parameters: of B images.

    Returns:
        (B, 2, 2) float32. The entries for multiples of 90 degrees are exact.
    """
    radians = torch.deg2rad(parameters.angles)
    # Rounding removes the 1e-16 by which the cosine of 90 degrees and the like miss 0.
    cosines = torch.cos(radians).round(decimals=12) / parameters.scales
    sines = torch.sin(radians).round(decimals=12) / parameters.scales
    signs = torch.where(parameters.flips, -1.0, 1.0)
    matrices = torch.stack([cosines, sines, -sines * signs, cosines * signs], dim=-1)
    return matrices.view(-1, 2, 2).float()


def apply_affine(images: Tensor, labels: Tensor, matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Map images and labels about the image centre, on the same canvas.

    Images are interpolated linearly, labels take the nearest value, and what comes from outside is 0. A map that takes
    pixel centres to pixel centres (identity, flip, multiples of 90 degrees) reproduces the pixels exactly.

    Args:
        images: (B, C, H, W) float32.
        labels: (B, H, W) integers, up to 2^24 in size.
        matrices: (B, 2, 2) float32 on the device of the images, see `affine_matrices`.

    Returns:
        Images and labels of the shapes and types given.
    """
    num_images, num_channels, height, width = images.shape
    canvas = images.new_zeros(num_images, num_channels + 1, *_canvas_size(height, width))
    canvas[:, :-1, :height, :width] = images
    canvas[:, -1, :height, :width] = labels
    grid = _sampling_grid(matrices, None, height, width)
    mapped_labels = F.grid_sample(canvas[:, -1:], grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return _interpolate(canvas[:, :-1], grid), mapped_labels[:, 0].to(labels.dtype)


def move_images(images: Tensor, matrices: Tensor, offsets: Tensor) -> Tensor:
    """Map images without labels, not about the image centre only: the result's centre shows the place `offsets`.

    Args:
        images: (B, C, H, W) float32.
        matrices: (B, 2, 2) float32 on the device of the images, see `affine_matrices`.
        offsets: (B, 2) float32 there, (row, column) in pixels from the image centre.

    Returns:
        (B, C, H, W) float32, interpolated linearly; what comes from outside is 0.
    """
    height, width = images.shape[-2:]
    canvas_height, canvas_width = _canvas_size(height, width)
    canvas = F.pad(images, (0, canvas_width - width, 0, canvas_height - height))
    return _interpolate(canvas, _sampling_grid(matrices, offsets, height, width))


def _canvas_size(height: int, width: int) -> tuple[int, int]:
    # grid_sample divides positions by the canvas size and multiplies them again. In float32 that is exact only for
    # powers of two; elsewhere even the identity would blur the image a little. Zeros around it change nothing.
    return 1 << (height - 1).bit_length(), 1 << (width - 1).bit_length()


def _sampling_grid(matrices: Tensor, offsets: Tensor | None, height: int, width: int) -> Tensor:
    """Return the positions on the canvas that the pixels of the results come from, (B, H, W, 2)."""
    canvas_height, canvas_width = _canvas_size(height, width)
    row_centre, column_centre = (height - 1) / 2, (width - 1) / 2
    rows = torch.arange(height, device=matrices.device) - row_centre
    columns = torch.arange(width, device=matrices.device) - column_centre
    middle_rows, middle_columns = (
        matrices[:, 0, 1:] * columns + row_centre,
        matrices[:, 1, 1:] * columns + column_centre,
    )
    if offsets is not None:
        middle_rows, middle_columns = middle_rows + offsets[:, :1], middle_columns + offsets[:, 1:]
    # Relative positions, (column, row) as grid_sample wants them. Each is a part given by the row plus a part given by
    # the column: only that sum is made for every pixel, as two planes, since on a CPU interleaving them takes as long
    # as sampling.
    by_row = torch.stack(
        [matrices[:, 1, :1] * rows * (2.0 / canvas_width), matrices[:, 0, :1] * rows * (2.0 / canvas_height)], dim=1
    )
    by_column = torch.stack(
        [relative_positions(middle_columns, canvas_width), relative_positions(middle_rows, canvas_height)], dim=1
    )
    return (by_row[..., :, None] + by_column[..., None, :]).permute(0, 2, 3, 1)


def _interpolate(canvas: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(canvas, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


class RandomSpatial:
    """One of five affine augmentations for every image and its label map (fine-tuning).

    With equal chances: rotation by up to 15 degrees either way; scaling by 0.95 to 1.05 in steps of 0.01; reversal of
    the columns with probability 1/2; rotation by a multiple of 45 degrees; nothing. The canvas keeps its size, so odd
    multiples of 45 degrees lose the corners. Images whose largest value is at most 0.001 hold nothing but padding and
    stay as they are.

    Scaling is about the centre by exactly the drawn factor. The authors' program resizes to a whole number of pixels
    and then crops or pads, which alters the factor by up to 0.25 per cent at the paper's image sizes.
    """

    max_angle = 15.0
    scale_range = (0.95, 1.05)
    empty_below = 0.001

    def draw(self, num_images: int, generator: torch.Generator) -> SpatialParameters:
        """Draw the parameters of ``num_images`` images, without regard to which of them are empty."""
        choices = torch.randint(5, (num_images,), generator=generator)
        uniforms = torch.rand(num_images, generator=generator, dtype=torch.float64)
        eighths = torch.randint(8, (num_images,), generator=generator)
        low, high = self.scale_range
        angles = torch.where(choices == 0, self.max_angle * (2.0 * uniforms - 1.0), 0.0)
        angles = torch.where(choices == 3, 45.0 * eighths, angles)
        scales = torch.where(choices == 1, (low + (high - low) * uniforms).round(decimals=2), 1.0)
        return SpatialParameters(angles, scales, flips=(choices == 2) & (uniforms < 0.5))

    def __call__(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return images (B, C, H, W) float32 and labels (B, H, W) integer, each pair mapped alike."""
        matrices = affine_matrices(self.draw(len(images), generator))
        # A third of the images is not moved on average. Which, is known on the CPU.
        moved = (matrices != torch.eye(2)).flatten(1).any(dim=1).nonzero().flatten()
        matrices = matrices[moved].to(images.device, non_blocking=True)
        moved = moved.to(images.device, non_blocking=True)
        chosen = images[moved]
        # Decided on the device: reading the maxima back would stall it.
        has_content = chosen.amax(dim=(1, 2, 3)) > self.empty_below
        matrices = torch.where(has_content[:, None, None], matrices, torch.eye(2, device=images.device))
        mapped_images, mapped_labels = apply_affine(chosen, labels[moved], matrices)
        return images.index_copy(0, moved, mapped_images), labels.index_copy(0, moved, mapped_labels)


class RandomStrongSpatial:
    """Scaling, rotation and reversal of the columns together, wider than `RandomSpatial` (fine-tuning).

    Every image is, independently and with the given chances, rotated by up to `max_angle` either way (1/2), rotated by
    a multiple of 90 degrees (3/10), scaled by 1 / `max_scale` to `max_scale`, log-uniformly (1/2), and has its columns
    reversed (3/10). The canvas keeps its size.

    Args:
        max_angle: degrees.
        max_scale: largest factor of size, above 1.

    Raises:
        ValueError: ``max_angle`` is negative or ``max_scale`` is not above 1.
    """

    def __init__(self, max_angle: float = 30.0, max_scale: float = 1.35) -> None:
        if max_angle < 0:
            raise ValueError(f"max_angle must be at least 0 degrees, got {max_angle!r}")
        if max_scale <= 1:
            raise ValueError(f"max_scale must be above 1, got {max_scale!r}; it is the largest factor of size")
        self.max_angle = max_angle
        self.max_scale = max_scale

    def draw(self, num_images: int, generator: torch.Generator) -> SpatialParameters:
        """Draw the parameters of ``num_images`` images."""
        chances = torch.rand(4, num_images, generator=generator)
        symmetric = 2.0 * torch.rand(2, num_images, generator=generator, dtype=torch.float64) - 1.0
        quarters = torch.randint(4, (num_images,), generator=generator)
        angles = torch.where(chances[0] < 0.5, self.max_angle * symmetric[0], 0.0)
        angles = angles + torch.where(chances[1] < 0.3, 90.0 * quarters, 0.0)
        scales = torch.where(chances[2] < 0.5, self.max_scale ** symmetric[1], 1.0)
        return SpatialParameters(angles, scales, flips=chances[3] < 0.3)

    def __call__(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return images (B, C, H, W) float32 and labels (B, H, W) integer, each pair mapped alike."""
        matrices = affine_matrices(self.draw(len(images), generator))
        return apply_affine(images, labels, matrices.to(images.device, non_blocking=True))
