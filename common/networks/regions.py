"""Where the regions of the local contrastive loss lie on a feature map (paper, section 3.2; layout of the authors)."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

REGION_SIZES = (1, 3)


def region_starts(side: int, region_size: int) -> Tensor:
    """Compute the first row and column of every region on a square or one axis of a feature map.

    Thirteen regions R0..R12 serve as anchors: a 3 x 3 lattice from corner to corner and the four points between its
    cells. With regions of 3 x 3 positions four more (A, B, D, E) serve as negatives only. The last region starts at
    side - 1 for 1 x 1 and at side - 4 for 3 x 3 regions: the authors leave the last row and column unused.

    Args:
        side: rows (= columns) of the feature map.
        region_size: K, the side of a region: 1 or 3.

    Returns:
        int64 (P, 2) of row and column, P = 13 for K = 1 and 17 for K = 3.

    Raises:
        ValueError: if K is neither 1 nor 3 or the map is too small to hold distinct regions.
    """
    if region_size not in REGION_SIZES:
        raise ValueError(f"region_size must be one of {REGION_SIZES}, got {region_size!r}.")
    m = side - 1 if region_size == 1 else side - 4
    if m < 4:
        raise ValueError(
            f"side must be at least {side - m + 4} for regions of size {region_size}, got {side}: "
            "use larger images or more decoder blocks."
        )
    q, h, t = m // 4, m // 2, 3 * m // 4
    starts = [(row, column) for row in (0, h, m) for column in (0, h, m)]
    starts += [(q, q), (q, t), (t, q), (t, t)]
    if region_size == 3:
        starts += [(q, h), (h, q), (h, t), (t, h)]
    return torch.tensor(starts)


@lru_cache(maxsize=16)
def region_positions(height: int, width: int, region_size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the rows and the columns of all positions of all regions, to index a feature map with.

    The tables are made once for each size and device: a training step neither computes nor copies them.

    Args:
        height: rows of the feature map.
        width: columns of the feature map.
        region_size: K, the side of a region: 1 or 3.
        device: where the feature map is.

    Returns:
        int64 (P, K, 1) and (P, 1, K), which broadcast to the K x K positions of P regions, see `region_starts`.

    Raises:
        ValueError: see `region_starts`.
    """
    with torch.inference_mode(False):  # else tables that an evaluation was first to ask for could not serve a training
        offsets = torch.arange(region_size)
        rows = region_starts(height, region_size)[:, 0, None, None] + offsets[:, None]
        columns = region_starts(width, region_size)[:, 1, None, None] + offsets
        return rows.to(device), columns.to(device)
