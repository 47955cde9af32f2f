"""The dense contrastive losses as loops over single pairs of pixels, in float64.

Written from the text that describes the strategies, without the masks of `common.strategies`, to check and to time
these. Differentiable, and slow on purpose.
"""

from __future__ import annotations

import torch
from torch import Tensor

from common.strategies import Layout

from .global_loss import positions, similarity, term


def read_map(features: Tensor, point: Tensor) -> Tensor:
    """Read a map (D, h, w) at one place, (column, row) with -1 and 1 at the outer edges, by its four nearest pixels."""
    height, width = features.shape[1:]
    column = min(max(((float(point[0]) + 1) * width - 1) / 2, 0.0), width - 1.0)
    row = min(max(((float(point[1]) + 1) * height - 1) / 2, 0.0), height - 1.0)
    top, left = min(int(row), height - 2), min(int(column), width - 2)
    down, right = row - top, column - left
    return (
        (1 - down) * (1 - right) * features[:, top, left]
        + (1 - down) * right * features[:, top, left + 1]
        + down * (1 - right) * features[:, top + 1, left]
        + down * right * features[:, top + 1, left + 1]
    )


def dense_loss_by_loops(maps: Tensor, points: Tensor, layout: Layout, temperature: float = 0.1) -> Tensor:
    """Dense contrastive loss of maps (N, D, h, w), at least 2 x 2, at places (N, K, 2): a float64 scalar."""
    vectors = []
    for features, places in zip(maps.double(), points, strict=True):
        read = [read_map(features, place) for place in places]
        vectors.append([vector / vector.norm() for vector in read])
    where = positions(layout)
    row = {position: i for i, position in enumerate(where)}
    num_points = points.shape[1]

    def negatives_of(i: int, k: int) -> list[Tensor]:
        volume, partition, _ = where[i]
        found = []
        for j, (other_volume, other_partition, _) in enumerate(where):
            same_slice = (volume, partition) == (other_volume, other_partition)
            if layout.strategy.name == "LX" and not same_slice and partition == other_partition:
                continue
            for n in range(num_points):
                if not (same_slice and n == k):
                    found.append(similarity(vectors[i][k], vectors[j][n], temperature))
        return found

    total = torch.zeros((), dtype=torch.float64)
    weights = 0.0
    for i, (volume, partition, view) in enumerate(where):
        for k in range(num_points):
            negatives = negatives_of(i, k)
            weight = 2.0 if layout.strategy.name == "LX" else 1.0
            other_view = vectors[row[volume, partition, 1 - view]][k]
            total = total + weight * term(similarity(vectors[i][k], other_view, temperature), negatives)
            weights += weight
            if layout.strategy.name == "LX":
                for step in (1, -1):
                    other = row[(volume + step) % layout.num_volumes, partition, view]
                    candidates = [similarity(vectors[i][k], vector, temperature) for vector in vectors[other]]
                    total = total + term(max(candidates, key=Tensor.item), negatives)
                    weights += 1.0
    return total / weights
