"""Random crops, affine maps and elastic deformations of a whole batch, on the device it lies on.

These are the spatial augmentations of the paper (Chaitanya et al., NeurIPS 2020, arXiv 2006.10511): random crops for
the views of the global contrastive stage, affine maps and elastic deformations for fine-tuning. The local stage has
none, because there two views must agree position by position.

Every random transform draws its parameters on the CPU (``draw``) and hands them to a function that applies them, so
that known parameters can be applied too. Nothing loops over images and nothing waits for the device.

Letters: B images, C channels, K classes, H rows, W columns. Positions are in pixels, (row, column), from the centre of
the first pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


def _relative(positions: Tensor, size: int) -> Tensor:
    """Turn positions along an axis of ``size`` pixels into those of `grid_sample`: -1 and 1 are the outer edges."""
    return (2.0 / size) * positions + (1.0 / size - 1.0)


# ------------------------------------------------------------------------------------------------- crops


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


# ------------------------------------------------------------------------------------------- affine maps


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
    # grid_sample divides positions by the canvas size and multiplies them again. In float32 that is exact only for
    # powers of two; elsewhere even the identity would blur the image a little. Zeros around it change nothing.
    canvas_height, canvas_width = 1 << (height - 1).bit_length(), 1 << (width - 1).bit_length()
    canvas = images.new_zeros(num_images, num_channels + 1, canvas_height, canvas_width)
    canvas[:, :-1, :height, :width] = images
    canvas[:, -1, :height, :width] = labels
    row_centre, column_centre = (height - 1) / 2, (width - 1) / 2
    rows = torch.arange(height, device=images.device) - row_centre
    columns = torch.arange(width, device=images.device) - column_centre
    # Relative positions, (column, row) as grid_sample wants them. Each is a part given by the row plus a part given by
    # the column: only that sum is made for every pixel, as two planes, since on a CPU interleaving them takes as long
    # as sampling.
    by_row = torch.stack(
        [matrices[:, 1, :1] * rows * (2.0 / canvas_width), matrices[:, 0, :1] * rows * (2.0 / canvas_height)], dim=1
    )
    by_column = torch.stack(
        [
            _relative(matrices[:, 1, 1:] * columns + column_centre, canvas_width),
            _relative(matrices[:, 0, 1:] * columns + row_centre, canvas_height),
        ],
        dim=1,
    )
    grid = (by_row[..., :, None] + by_column[..., None, :]).permute(0, 2, 3, 1)
    mapped_images = F.grid_sample(canvas[:, :-1], grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    mapped_labels = F.grid_sample(canvas[:, -1:], grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return mapped_images, mapped_labels[:, 0].to(labels.dtype)


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


# ---------------------------------------------------------------------------------- elastic deformations


def _cubic_spline_weights(positions: Tensor, num_points: int) -> Tensor:
    """Values of the cubic B-splines centred at 0..num_points-1, mirrored at the outer edges, at ``positions``."""
    centres = torch.arange(-2, num_points + 2)
    distances = (positions[:, None] - centres).abs()
    inner = 2.0 / 3.0 - distances**2 + distances**3 / 2.0
    outer = (2.0 - distances).clamp(min=0.0) ** 3 / 6.0
    weights = torch.where(distances < 1.0, inner, outer)
    # Mirrored half a sample beyond the outer points: -1 is point 0, -2 is point 1, and likewise at the other end.
    mirrored = torch.where(centres < 0, -centres - 1, centres)
    mirrored = torch.where(centres >= num_points, 2 * num_points - 1 - centres, mirrored)
    return weights @ F.one_hot(mirrored, num_points).to(weights.dtype)


@lru_cache(maxsize=16)
def _cubic_upsampling(num_points: int, size: int, device: torch.device) -> Tensor:
    """Matrix (size, num_points) float32 that interpolates samples by a cubic spline on ``size`` half-pixel centres."""
    points = torch.arange(num_points, dtype=torch.float64)
    positions = (torch.arange(size, dtype=torch.float64) + 0.5) * num_points / size - 0.5
    to_coefficients = torch.linalg.inv(_cubic_spline_weights(points, num_points))
    return (_cubic_spline_weights(positions, num_points) @ to_coefficients).float().to(device)


def elastic_fields(grids: Tensor, height: int, width: int) -> Tensor:
    """Upsample coarse displacement grids to one displacement per pixel.

    Cubic spline interpolation at half-pixel centres, mirrored at the edges (order 3 and mode "reflect" of
    `scipy.ndimage`), clipped to the range of each grid. Interpolation is linear and separable: one product with a fixed
    matrix per axis.

    Args:
        grids: (B, 2, n, n) float32, row and column displacements in pixels.
        height: H.
        width: W.

    Returns:
        (B, 2, H, W) float32.
    """
    num_points = grids.shape[-1]
    upsample_rows = _cubic_upsampling(num_points, height, grids.device)
    upsample_columns = _cubic_upsampling(num_points, width, grids.device)
    fields = upsample_rows @ grids @ upsample_columns.T
    return fields.clamp_(grids.amin(dim=(-2, -1), keepdim=True), grids.amax(dim=(-2, -1), keepdim=True))


def _displaced_grid(fields: Tensor) -> Tensor:
    """Relative positions (B, H, W, 2) at which images are read that ``fields`` (B, 2, H, W) displace."""
    height, width = fields.shape[-2:]
    rows = _relative(torch.arange(height, device=fields.device), height)
    columns = _relative(torch.arange(width, device=fields.device), width)
    source_rows = torch.sub(rows[:, None], fields[:, 0], alpha=2.0 / height)
    source_columns = torch.sub(columns, fields[:, 1], alpha=2.0 / width)
    return torch.stack([source_columns, source_rows], dim=1).permute(0, 2, 3, 1)


def _sample_inside(images: Tensor, grid: Tensor) -> Tensor:
    """Read images (B, C, H', W') at relative positions (B, H, W, 2); beyond the edge the edge pixels are repeated."""
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def elastic_warp(images: Tensor, fields: Tensor) -> Tensor:
    """Displace images: the result at (y, x) is the image at (y - field[0], x - field[1]).

    Bilinear; beyond the edge the edge pixels are repeated.

    Args:
        images: (B, C, H, W) float32.
        fields: (B, 2, H, W) float32, pixels.

    Returns:
        (B, C, H, W) float32.
    """
    return _sample_inside(images, _displaced_grid(fields))


class RandomElastic:
    """Smooth random deformation of the later images of a batch and of their label maps (fine-tuning).

    The first n images stay as they are, n a uniform integer from 1 to B - 2; about half of a batch is deformed. Label
    maps are one-hot and are interpolated like the images, so they come out soft.

    Args:
        sigma: standard deviation of the displacements at the grid points, in pixels.
        grid: number of grid points per axis.

    Raises:
        ValueError: ``sigma`` is not positive, or ``grid`` is less than 2.
    """

    def __init__(self, sigma: float = 5.0, grid: int = 3) -> None:
        if sigma <= 0:
            raise ValueError(f"sigma must be above 0 pixels, got {sigma!r}; to deform nothing leave the transform out")
        if grid < 2:
            raise ValueError(f"grid must be at least 2 points per axis, got {grid!r}")
        self.sigma = sigma
        self.grid = grid

    def draw(self, num_images: int, generator: torch.Generator) -> tuple[int, Tensor]:
        """Draw the index n of the first deformed image and the grids (num_images - n, 2, grid, grid) of the deformed.

        Raises:
            ValueError: there are fewer than 3 images.
        """
        if num_images < 3:
            raise ValueError(
                f"images must be at least 3, as the first is kept and the last two are deformed, got {num_images}; "
                "use a larger batch or no elastic deformation"
            )
        first = int(torch.randint(1, num_images - 1, (), generator=generator))
        return first, self.sigma * torch.randn(num_images - first, 2, self.grid, self.grid, generator=generator)

    def __call__(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the batch with its later part deformed.

        Args:
            images: (B, C, H, W) float32.
            labels: (B, K, H, W) float32, one-hot.
            generator: on the CPU.

        Returns:
            Images (B, C, H, W) float32 and soft labels (B, K, H, W) float32 that sum to 1 over K.

        Raises:
            ValueError: there are fewer than 3 images.
        """
        first, grids = self.draw(len(images), generator)
        fields = elastic_fields(grids.to(images.device, non_blocking=True), *images.shape[-2:])
        grid = _displaced_grid(fields)
        # Two calls: joining images and labels first would copy more memory than the positions' weights take to redo.
        warped_images = _sample_inside(images[first:], grid)
        warped_labels = _sample_inside(labels[first:], grid)
        return torch.cat([images[:first], warped_images]), torch.cat([labels[:first], warped_labels])
