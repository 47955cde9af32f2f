"""Random windows on a slice: rotated, scaled, reversed and shifted, and the pixels that two of them have in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .affine import RandomStrongSpatial, affine_matrices
from .positions import relative_positions

_TOLERANCE = 1e-3  # pixels: what rounding may do to a position on the edge
_CANDIDATES = 16  # for every pixel wanted: windows may have as little as a tenth in common


class Window(NamedTuple):
    """What B images show of their slices: position p of an image is position `matrices` p + `offsets` of the slice.

    Both are (row, column) from the centre.
    """

    matrices: Tensor
    """(B, 2, 2) float32."""
    offsets: Tensor
    """(B, 2) float32, in pixels."""


class RandomWindow:
    """Draws windows: the affine maps of `RandomStrongSpatial` about a centre that is shifted as well.

    Args:
        max_angle: see `RandomStrongSpatial`, degrees.
        max_scale: see there.
        max_shift: largest distance of the centre from that of the slice along either axis, as a share of the side.

    Raises:
        ValueError: an argument is out of its range, or two windows could be without a common pixel.
    """

    def __init__(self, max_angle: float = 45.0, max_scale: float = 1.5, max_shift: float = 0.1) -> None:
        self.spatial = RandomStrongSpatial(max_angle, max_scale)
        self.max_shift = max_shift
        if not 0 <= max_shift or self._common_radius(1.0, 1.0) <= 0:
            raise ValueError(
                f"max_shift must be from 0 to less than {0.5 / max_scale / math.sqrt(2):.3f} for max_scale "
                f"{max_scale!r}, got {max_shift!r}: two windows could have no common pixel; take less of one of them"
            )

    def draw(self, num_images: int, height: int, width: int, generator: torch.Generator) -> Window:
        """Draw windows for slices of ``height`` x ``width`` pixels."""
        matrices = affine_matrices(self.spatial.draw(num_images, generator))
        symmetric = 2.0 * torch.rand(num_images, 2, generator=generator) - 1.0
        return Window(matrices, self.max_shift * symmetric * torch.tensor([float(height), float(width)]))

    def fewest_common_pixels(self, height: int, width: int) -> int:
        """Return how many pixels of a window show what another one shows too, whatever is drawn."""
        # In the window that shows most the circle is smallest. In the square within it there are as many pixels as its
        # side is long, squared, wherever it lies; of the circle itself there is no simple bound.
        radius = self._common_radius(height - 1, width - 1) / self.spatial.max_scale
        return math.floor(max(0.0, math.sqrt(2) * radius)) ** 2

    def _common_radius(self, height: float, width: float) -> float:
        """Return the radius of a circle that any two windows on a slice of this size show, in units of the size."""
        # About its centre a window shows a circle, however it is turned. Between two centres lies a smaller circle.
        return 0.5 * min(height, width) / self.spatial.max_scale - self.max_shift * math.hypot(height, width)


def common_pixels(
    first: Window, second: Window, height: int, width: int, number: int, generator: torch.Generator
) -> Tensor:
    """Draw pixels of the second windows, without replacement, whose places the first windows show too.

    Places outside the slice do not count.

    Args:
        first: of B slices, on the CPU.
        second: of the same slices.
        height: H of slices and windows.
        width: W.
        number: K, pixels of each slice.
        generator: on the CPU.

    Returns:
        (2, B, K, 2) float32: where the K places lie in the first and in the second window, (column, row) as
        `grid_sample` takes them. In the second they are centres of pixels.

    Raises:
        ValueError: if ``number`` is not positive, or two windows have fewer pixels in common.
    """
    if number < 1:
        raise ValueError(f"number must be at least 1 pixel of a slice, got {number!r}")
    centre = torch.tensor([(height - 1) / 2, (width - 1) / 2])
    limit = (centre + _TOLERANCE).tolist()
    to_first = _between(second, first)

    def positions(pixels: Tensor) -> Tensor:
        return torch.stack([pixels // width, pixels % width], dim=-1) - centre

    def in_both(pixels: Tensor) -> Tensor:
        places = positions(pixels)
        return _lies_within(second, places, limit) & _lies_within(to_first, places, limit)

    # Few candidates are nearly always enough; every pixel is looked at only of windows with little in common.
    candidates = torch.randint(height * width, (len(first.offsets), _CANDIDATES * number), generator=generator)
    usable = in_both(candidates) & ~_repeated(candidates)
    if int(usable.sum(dim=1).min()) >= number:
        chosen = candidates[usable & (usable.cumsum(dim=1) <= number)].view(-1, number)
    else:
        usable = in_both(torch.arange(height * width).expand(len(first.offsets), -1))
        fewest = int(usable.sum(dim=1).min())
        if fewest < number:
            found = f"have only {fewest} pixels in common" if fewest else "have no pixel in common"
            raise ValueError(
                f"number must be at most the pixels that two views of a slice have in common, got {number!r}, but two "
                f"{found}; take fewer pixels, or windows that differ less"
            )
        chosen = torch.rand(usable.shape, generator=generator).masked_fill_(~usable, -1.0).topk(number).indices
    in_second = positions(chosen)
    in_first = in_second @ to_first.matrices.mT + to_first.offsets[:, None]
    at_rows, at_columns = (torch.stack([in_first, in_second]) + centre).unbind(-1)
    return torch.stack([relative_positions(at_columns, width), relative_positions(at_rows, height)], dim=-1)


def _between(second: Window, first: Window) -> Window:
    """Return the map from positions in the second windows to those in the first."""
    inverse = torch.linalg.inv(first.matrices)
    offsets = (second.offsets - first.offsets)[:, None] @ inverse.mT
    return Window(inverse @ second.matrices, offsets[:, 0])


def _lies_within(window: Window, places: Tensor, limit: Sequence[float]) -> Tensor:
    """Return (B, P) bool: whether places (B, P, 2) of windows, from their centres, are mapped into the limits."""
    mapped = places @ window.matrices.mT + window.offsets[:, None]
    return (mapped.abs_() <= torch.tensor(limit)).all(dim=-1)


def _repeated(values: Tensor) -> Tensor:
    """Return (B, P) bool: whether a value of (B, P) stands further left in its row."""
    ordered, order = values.sort(dim=1, stable=True)
    return torch.zeros_like(values, dtype=torch.bool).scatter_(1, order[:, 1:], ordered[:, 1:] == ordered[:, :-1])
