"""The global contrastive losses as loops over single pairs of images, in float64.

Written from the text that describes the strategies (which pairs are compared, what is in each denominator), without
the masks and tables of `common.losses`, to check and to time these. Differentiable, and slow on purpose.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from common.strategies import Layout


def positions(layout: Layout) -> list[tuple[int, int, int]]:
    """Volume, partition and view of every image, in the order that a batch has them."""
    axes = (layout.strategy.num_views, layout.num_volumes, layout.num_partitions)
    return [(volume, partition, view) for view, volume, partition in product(*map(range, axes))]


def similarity(one: Tensor, other: Tensor, temperature: float) -> Tensor:
    """Cosine of two vectors of length 1 and shape (D,), divided by the temperature."""
    return torch.dot(one, other) / temperature


def term(positive: Tensor, negatives: list[Tensor]) -> Tensor:
    """-log(exp(s) / (exp(s) + the sum over the negatives)) of similarities."""
    denominator = torch.exp(positive)
    for negative in negatives:
        denominator = denominator + torch.exp(negative)
    return -torch.log(torch.exp(positive) / denominator)


def global_loss_by_loops(
    embeddings: Tensor, layout: Layout, temperature: float = 0.1, gd_pairs: str = "ring"
) -> Tensor:
    """Global contrastive loss of embeddings (N, D): a float64 scalar."""
    vectors = [vector / vector.norm() for vector in embeddings.double()]
    strategy = layout.strategy.name
    row = {position: i for i, position in enumerate(positions(layout))}
    volumes, partitions, _ = zip(*row, strict=True)
    slices = list(zip(volumes, partitions, strict=True))
    images = range(len(vectors))

    def one_way(anchor: int, positive: int) -> Tensor:
        if strategy == "GR":  # All images but the anchor; the positive is one of them.
            negatives = [k for k in images if k not in (anchor, positive)]
        else:
            negatives = [k for k in images if partitions[k] != partitions[anchor]]
        return term(
            similarity(vectors[anchor], vectors[positive], temperature),
            [similarity(vectors[anchor], vectors[k], temperature) for k in negatives],
        )

    def both_ways(one: int, other: int) -> Tensor:
        return one_way(one, other) + one_way(other, one)

    total = torch.zeros((), dtype=torch.float64)
    if strategy == "GR":
        for slice_id in set(slices):
            first, second = (i for i in images if slices[i] == slice_id)
            total = total + both_ways(first, second)
    elif strategy == "GD-":
        for slice_id in set(slices):
            original, first, second = (i for i in images if slices[i] == slice_id)
            total = total + both_ways(original, first) + both_ways(original, second) + both_ways(first, second)
    else:
        num_volumes = len(set(volumes))
        for s in set(partitions):
            for v in range(num_volumes):
                original, augmented = row[v, s, 0], row[v, s, 1]
                if gd_pairs == "ring":
                    following = (v + 1) % num_volumes
                    next_original, next_augmented = row[following, s, 0], row[following, s, 1]
                    total = total + both_ways(original, augmented) + both_ways(next_original, next_augmented)
                    total = total + both_ways(original, next_original) + both_ways(augmented, next_augmented)
                else:
                    total = total + 2 * both_ways(original, augmented)
                    for later in range(v + 1, num_volumes):
                        total = total + both_ways(original, row[later, s, 0]) + both_ways(augmented, row[later, s, 1])
    return total / len(vectors)
