"""Batches made on the training device: a draw of indices and one batched random transform."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ..losses import BatchLayout
from .slices import Slices


class BatchLoader:
    """Yield (inputs, targets) for the trainer, without end.

    Step k of a run draws from a generator seeded with (seed, k), so that a resumed run continues with exactly the
    batches that an uninterrupted one would have seen.

    Args:
        slices: the slices that are drawn from.
        sampler: maps a generator to indices (B,) and their layout.
        views: maps (images (B, 1, H, W), layout or labels (B, H, W), generator) to (inputs, targets): the layout goes
            in where the slices have no labels (pre-training), the labels where they have (fine-tuning).
        steps_per_epoch: length of what Ignite calls an epoch; validation and checkpoints happen at its end.
        seed: of the whole run.

    Raises:
        ValueError: if `steps_per_epoch` is not positive.
    """

    def __init__(
        self,
        slices: Slices,
        sampler: Callable[[torch.Generator], tuple[Tensor, BatchLayout]],
        views: Callable[..., tuple[Tensor, Any]],
        steps_per_epoch: int,
        seed: int = 0,
    ) -> None:
        if steps_per_epoch < 1:
            raise ValueError(f"steps_per_epoch must be at least 1, got {steps_per_epoch!r}.")
        self.slices = slices
        self.sampler = sampler
        self.views = views
        self.steps_per_epoch = steps_per_epoch
        self.seed = seed
        self.first_step = 0
        self._generator = torch.Generator()

    def __len__(self) -> int:
        return self.steps_per_epoch

    def __iter__(self) -> Iterator[tuple[Tensor, Any]]:
        step = self.first_step
        while True:
            yield self.batch(step)
            step += 1

    def batch(self, step: int) -> tuple[Tensor, Any]:
        """Make the batch of one step, counted from 0."""
        # The CPU generator takes 32 bits; the prime keeps runs of up to a million steps apart.
        self._generator.manual_seed((self.seed * 1_000_003 + step) % 2**32)
        indices, layout = self.sampler(self._generator)
        indices = indices.to(self.slices.images.device, non_blocking=True)
        images = self.slices.images[indices]
        if self.slices.labels is None:
            return self.views(images, layout, self._generator)
        return self.views(images, self.slices.labels[indices], self._generator)
