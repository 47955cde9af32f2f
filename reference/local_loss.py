"""The local contrastive losses as loops over single pairs of regions, in float64.

Written from the text that describes the strategies, with the table of negatives by name, without the tables of
`common.losses`, to check and to time these. Differentiable, and slow on purpose.
"""

from __future__ import annotations

import torch
from torch import Tensor

from common.strategies import Layout

from .global_loss import positions, similarity, term

POSITIONS = "R0 R1 R2 R3 R4 R5 R6 R7 R8 R9 R10 R11 R12 A Bx Dx Ex".split()
REGIONS = POSITIONS[:13]

# Negatives of R0 to R12 in this order, by region size.
NEGATIVES = {
    3: """
        R1 R9 A R3 Bx
        R0 R2 R9 R10 R4
        R1 A R10 Dx R5
        R0 R9 R4 R6 R11
        R9 R10 R11 R12 R3
        R2 R4 R8 R10 R12
        R3 Bx R7 R11 Ex
        R4 R6 R8 R11 R12
        Dx R5 R7 R12 Ex
        R0 R1 R3 R4 R10
        R1 R2 R9 R4 R5
        R3 R4 R6 R7 R12
        R4 R5 R7 R8 R11
    """,
    1: """
        R1 R3 R4 R9 R10
        R0 R2 R4 R9 R10
        R1 R4 R5 R11 R10
        R0 R4 R6 R9 R11
        R9 R10 R11 R12 R3
        R2 R4 R8 R10 R12
        R3 R4 R7 R11 R9
        R4 R6 R8 R11 R12
        R4 R5 R7 R12 R11
        R0 R1 R3 R4 R10
        R1 R2 R4 R5 R12
        R3 R4 R6 R1 R9
        R4 R5 R7 R8 R10
    """,
}


def negatives_of(region: int, region_size: int) -> list[int]:
    """The five positions that are negatives of a region, in the order of the table."""
    names = NEGATIVES[region_size].strip().splitlines()[region].split()
    return [POSITIONS.index(name) for name in names]


def local_loss_by_loops(regions: Tensor, layout: Layout, region_size: int = 3, temperature: float = 0.1) -> Tensor:
    """Local contrastive loss of region vectors (N, P, D): a float64 scalar."""
    maps = [[vector / vector.norm() for vector in vectors] for vectors in regions.double()]
    row = {position: i for i, position in enumerate(positions(layout))}

    def term_of(i: int, j: int, r: int, num_negatives: int) -> Tensor:
        negatives = []
        for n in negatives_of(r, region_size)[:num_negatives]:
            negatives.append(similarity(maps[i][r], maps[i][n], temperature))
            negatives.append(similarity(maps[i][r], maps[j][n], temperature))
        return term(similarity(maps[i][r], maps[j][r], temperature), negatives)

    total = torch.zeros((), dtype=torch.float64)
    for r in range(len(REGIONS)):
        for (v, s, view), i in row.items():
            if layout.strategy.name == "LR":
                total = total + term_of(i, row[v, s, 1 - view], r, 5)
            elif view == 0:
                total = total + term_of(i, row[v, s, 1], r, 4)
                total = total + term_of(i, row[(v + 1) % layout.num_volumes, s, 0], r, 4)
                total = total + term_of(i, row[(v + 2) % layout.num_volumes, s, 0], r, 4)
    return total / len(REGIONS) / len(maps)
