"""Random smooth deformations of a whole batch of images and their label maps: an augmentation of fine-tuning."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .positions import relative_positions


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
    rows = relative_positions(torch.arange(height, device=fields.device), height)
    columns = relative_positions(torch.arange(width, device=fields.device), width)
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


class RandomFineElastic:
    """As `RandomElastic`, with grid points so close that walls become thicker and thinner (fine-tuning).

    The paper's three points on each axis move and bend a structure as a whole.

    Args:
        sigma: standard deviation of the displacements at the grid points, in pixels.
        spacing: distance of the grid points, in pixels.

    Raises:
        ValueError: ``sigma`` or ``spacing`` is not positive.
    """

    def __init__(self, sigma: float = 3.0, spacing: float = 16.0) -> None:
        if spacing <= 0:
            raise ValueError(f"spacing must be above 0 pixels, got {spacing!r}")
        RandomElastic(sigma)
        self.sigma = sigma
        self.spacing = spacing

    def __call__(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the batch with its later part deformed; arguments, result and errors are those of `RandomElastic`."""
        grid = max(2, round(max(images.shape[-2:]) / self.spacing))
        return RandomElastic(self.sigma, grid)(images, labels, generator)
