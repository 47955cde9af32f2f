"""Batches made on the training device: a draw of indices and one batched random transform."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, NamedTuple

import ignite.distributed as idist
import torch
from torch import Tensor

from ..transforms.copy_paste import CopyPaste
from .pseudo_labelled import PseudoLabelled
from .slices import Slices

_PASTING_SEED = 1  # beside that of the batches


class _Drawn(NamedTuple):
    """A batch before its views: what was drawn, and the generator as the draw left it."""

    images: Tensor
    labels: Tensor | None
    generator: torch.Generator


def step_generator(seed: int, step: int) -> torch.Generator:
    """Make the generator on the CPU that a step of a run draws from."""
    # It takes 32 bits; the prime keeps runs of up to a million steps apart.
    return torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**32)


class BatchLoader:
    """Yield (inputs, targets) for the trainer, without end.

    Step k of a run draws from a generator seeded with (seed, k), so that a resumed run continues with exactly the
    batches that an uninterrupted one would have seen. Slices that are not in memory are drawn and read ahead in a
    thread, which ends with the iterator.

    Args:
        slices: the slices that are drawn from.
        sampler: maps a generator to indices (B,).
        views: maps (images (B, 1, H, W), labels (B, H, W) or None, generator) to (inputs, targets).
        steps_per_epoch: length of what Ignite calls an epoch; validation and checkpoints happen at its end.
        seed: of the whole run.

    Raises:
        ValueError: if `steps_per_epoch` is not positive.
    """

    def __init__(
        self,
        slices: Slices,
        sampler: Callable[[torch.Generator], Tensor],
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

    def prepare(self) -> None:
        """Make one batch, so that wrong settings fail before a run has started.

        Raises:
            ValueError: if no batch can be made, for the reason that the message has.
        """
        self.batch(0)

    def __len__(self) -> int:
        return self.steps_per_epoch

    def __iter__(self) -> Generator[tuple[Tensor, Any]]:
        steps = itertools.count(self.first_step)
        if not self.slices.read_ahead:
            yield from map(self.batch, steps)  # without end
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="slices")
        try:
            ahead = deque(thread.submit(self._draw, next(steps)) for _ in range(self.slices.read_ahead))
            while True:
                drawn = ahead.popleft().result()
                ahead.append(thread.submit(self._draw, next(steps)))
                yield self._make(drawn)
        finally:
            thread.shutdown(cancel_futures=True)

    def batch(self, step: int) -> tuple[Tensor, Any]:
        """Make the batch of one step, counted from 0."""
        return self._make(self._draw(step))

    def _draw(self, step: int) -> _Drawn:
        generator = step_generator(self.seed, step)
        return _Drawn(*self.slices.read(self.sampler(generator)), generator)

    def _make(self, drawn: _Drawn) -> tuple[Tensor, Any]:
        return self.views(*self.slices.to_device(drawn.images, drawn.labels), drawn.generator)


class PairLoader:
    """Yield the batches of two loaders side by side, without end: ((inputs, inputs), (targets, targets)).

    Args:
        first: makes the first batch of each step.
        second: makes the second one; give it another seed, or both draw from the same random numbers.

    Attributes:
        first_step: step of the run that iteration begins with, of both.

    Raises:
        ValueError: if the two have epochs of different lengths.
    """

    def __init__(self, first: BatchLoader, second: BatchLoader) -> None:
        if len(first) != len(second):
            raise ValueError(
                f"second must have as many steps_per_epoch as first, {len(first)}, got {len(second)}: make them equal."
            )
        self.first = first
        self.second = second
        self.first_step = 0

    def prepare(self) -> None:
        """Make one batch of each, see `BatchLoader.prepare`."""
        self.first.prepare()
        self.second.prepare()

    def __len__(self) -> int:
        return len(self.first)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        self.first.first_step = self.second.first_step = self.first_step
        for (inputs, targets), (other_inputs, other_targets) in zip(self.first, self.second, strict=True):
            yield (inputs, other_inputs), (targets, other_targets)


class ConcatLoader(PairLoader):
    """Yield the batches of two loaders as one batch, without end: what each has drawn and augmented, one after another.

    Args:
        first: see `PairLoader`; inputs (B, C, H, W) and targets (B, K, H, W), of the same sizes but for B in both.
        second: the same.
        copy_paste: exchanges parts between the two.

    Raises:
        ValueError: see `PairLoader`.
    """

    def __init__(self, first: BatchLoader, second: BatchLoader, copy_paste: CopyPaste) -> None:
        super().__init__(first, second)
        self.copy_paste = copy_paste

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        for step, (inputs, targets) in enumerate(super().__iter__(), start=self.first_step):
            inputs, targets = self._paste(inputs, targets, step)
            yield torch.cat(inputs), torch.cat(targets)

    def _paste(self, inputs: Any, targets: Any, step: int) -> tuple[Any, Any]:
        # Of several processes each has its rows of both batches; the rectangles are those that one would have drawn.
        processes, rank = idist.get_world_size(), idist.get_rank()
        pairs = min(map(len, inputs))
        generator = step_generator(self.second.seed + _PASTING_SEED, step)
        height, width = inputs[0].shape[-2:]
        masks = self.copy_paste.draw(processes * pairs, height, width, generator)
        if masks is None:
            return inputs, targets
        own = masks[rank * pairs : (rank + 1) * pairs]
        exchange = self.copy_paste.exchange
        return exchange(inputs[0], inputs[1], own), exchange(targets[0], targets[1], own)


class PseudoLabelledLoader:
    """Yield batches of true labels and, from when there are predicted ones, batches with both, without end.

    Args:
        alone: makes the batches of true labels.
        mixed: makes the others.
        slices: the slices with predicted labels, which `mixed` draws from.

    Attributes:
        first_step: step of the run that iteration begins with.
    """

    def __init__(self, alone: BatchLoader, mixed: ConcatLoader, slices: PseudoLabelled) -> None:
        self.alone = alone
        self.mixed = mixed
        self.slices = slices
        self.first_step = 0

    def prepare(self) -> None:
        """Make one batch of each kind, see `BatchLoader.prepare`."""
        self.alone.prepare()
        self.mixed.prepare()

    def __len__(self) -> int:
        return len(self.alone)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        step = self.alone.first_step = self.first_step
        with closing(iter(self.alone)) as alone:
            while not self.slices.is_labelled:
                yield next(alone)
                step += 1
        self.mixed.first_step = step
        yield from self.mixed
