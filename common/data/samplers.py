"""Which slices make a batch: uniformly drawn ones, or one from each partition of several volumes (paper, 3.1).

A sampler is called with a generator and returns indices into `Slices` and the batch's layout (one view).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..losses import BatchLayout
from ..transforms.views import num_views
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

    def __call__(self, generator: torch.Generator) -> tuple[Tensor, BatchLayout]:
        """Draw indices int64 (B,) and their layout, in which every draw is a slice of its own."""
        indices = torch.randint(self.num_slices, (self.batch_size,), generator=generator)
        draws = torch.arange(self.batch_size)
        zeros = torch.zeros_like(draws)
        return indices, BatchLayout(slices=draws, volumes=draws, partitions=zeros, views=zeros)


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
        _check_num_partitions(num_partitions)
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
        self.num_partitions = num_partitions
        self.starts = slices.starts[:-1]
        self.widths = depths // num_partitions

    def __call__(self, generator: torch.Generator) -> tuple[Tensor, BatchLayout]:
        """Draw indices int64 (V S,), volume by volume and in the order of the partitions, and their layout."""
        chosen = torch.randperm(len(self.starts), generator=generator)[: self.num_volumes, None]
        partitions = torch.arange(self.num_partitions).expand(self.num_volumes, -1)
        width = self.widths[chosen]
        within = (torch.rand(partitions.shape, generator=generator) * width).long()
        indices = self.starts[chosen] + partitions * width + within
        volumes = torch.arange(self.num_volumes)[:, None].expand_as(partitions)
        draws = torch.arange(indices.numel())
        return indices.flatten(), BatchLayout(
            slices=draws,
            volumes=volumes.flatten(),
            partitions=partitions.flatten(),
            views=torch.zeros_like(draws),
        )


def contrastive_sampler(
    strategy: str, slices: Slices, batch_size: int = 40, num_partitions: int = 4
) -> UniformSampler | PartitionSampler:
    """Make the sampler of a contrastive strategy for batches of at most `batch_size` images, views included.

    GR and LR draw batch_size / 2 slices; GD and LD draw batch_size / (2 S) volumes, GD- batch_size / (3 S): at 40
    images and S = 4 that makes 5, 5 and 3 volumes.

    Args:
        strategy: "GR", "GD-", "GD", "LR" or "LD".
        slices: what is drawn from.
        batch_size: images of a batch; rounded down to whole volumes.
        num_partitions: S.

    Raises:
        ValueError: if the strategy is unknown, S is not positive (less than two for GD- and GD), or the batch is too
            small for two slices (GR), one slice (LR), two volumes (GD-, GD) or three (LD).
    """
    views = num_views(strategy)
    if strategy in ("GR", "LR"):
        least = 2 if strategy == "GR" else 1  # LR finds its negatives within the image
        if batch_size < least * views:
            raise ValueError(
                f"batch_size must be at least {least * views} for {strategy} (slices: {least}, views: {views}), "
                f"got {batch_size!r}."
            )
        return UniformSampler(slices, batch_size // views)
    # GD- and GD find their negatives in other partitions, LD within the image.
    _check_num_partitions(num_partitions, least=1 if strategy == "LD" else 2)
    num_volumes = batch_size // (views * num_partitions)
    least = 3 if strategy == "LD" else 2
    if num_volumes < least:
        raise ValueError(
            f"batch_size must be at least {least * views * num_partitions} for {strategy} with {num_partitions} "
            f"partitions ({least} volumes, {views} views), got {batch_size!r}."
        )
    return PartitionSampler(slices, num_volumes, num_partitions)


def _check_num_partitions(num_partitions: int, least: int = 1) -> None:
    if num_partitions < least:
        raise ValueError(f"num_partitions must be at least {least}, got {num_partitions!r}.")
