"""Which slices make a batch: uniformly drawn ones, or one from each partition of several volumes (paper, 3.1).

A sampler is called with a generator and returns indices into `Slices`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..strategies import Layout
from .slices import Slices


class UniformSampler:
    """Draw slices uniformly, with replacement, from all volumes.

    Args:
        slices: what is drawn from.
        batch_size: B, slices of a batch.

    Raises:
        ValueError: if `batch_size` is not positive.
    """

    def __init__(self, slices: Slices, batch_size: int) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size!r}.")
        self.num_slices = len(slices)
        self.batch_size = batch_size

    def __call__(self, generator: torch.Generator) -> Tensor:
        """Draw indices int64 (B,)."""
        return torch.randint(self.num_slices, (self.batch_size,), generator=generator)


class PartitionSampler:
    """Draw V distinct volumes and from each one slice of each of its S partitions.

    A volume of n slices has partitions of floor(n / S) slices; the n mod S slices at its end are never drawn, as in
    the authors' program.

    Args:
        slices: what is drawn from.
        num_volumes: V.
        num_partitions: S.

    Raises:
        ValueError: if V or S is not positive, V exceeds the volumes at hand, or a volume has fewer than S slices.
    """

    def __init__(self, slices: Slices, num_volumes: int, num_partitions: int) -> None:
        if not 1 <= num_volumes <= slices.num_volumes:
            raise ValueError(
                f"num_volumes must be 1 to {slices.num_volumes}, the volumes at hand, got {num_volumes!r}: "
                "give more volumes or a smaller batch size."
            )
        if num_partitions < 1:
            raise ValueError(f"num_partitions must be at least 1, got {num_partitions!r}.")
        depths = slices.starts.diff()
        if (depths < num_partitions).any():
            short = [
                f"{name} has {depth}"
                for name, depth in zip(slices.ids, depths.tolist(), strict=True)
                if depth < num_partitions
            ]
            raise ValueError(
                f"num_partitions must not exceed the slices of a volume, got {num_partitions!r}, but "
                f"{', '.join(short)}. Leave such volumes out of the list of ids, or use fewer partitions."
            )
        self.num_volumes = num_volumes
        self.partitions = torch.arange(num_partitions)
        self.starts = slices.starts[:-1]
        self.widths = depths // num_partitions

    def __call__(self, generator: torch.Generator) -> Tensor:
        """Draw indices int64 (V S,), volume by volume and in the order of the partitions."""
        chosen = torch.randperm(len(self.starts), generator=generator)[: self.num_volumes, None]
        width = self.widths[chosen]
        within = (torch.rand(self.num_volumes, len(self.partitions), generator=generator) * width).long()
        return (self.starts[chosen] + self.partitions * width + within).flatten()


def contrastive_sampler(layout: Layout, slices: Slices) -> UniformSampler | PartitionSampler:
    """Make the sampler of contrastive batches.

    Args:
        layout: of the batches.
        slices: what is drawn from.

    Raises:
        ValueError: if there are not enough volumes, or one has too few slices.
    """
    if layout.strategy.whole_volumes:
        return PartitionSampler(slices, layout.num_volumes, layout.num_partitions)
    return UniformSampler(slices, layout.num_slices)
