"""Batches from worker processes that rest while something else is timed."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

Batch = TypeVar("Batch")


class Feed(Generic[Batch]):
    """An endless iterator over batches, whose worker processes are stopped except while batches are taken.

    Workers fetch ahead. An epoch that starts within the clock makes them begin with nothing at every run, and workers
    that go on for ever take the processor from the contender whose turn it is. Stopped ones keep what they have ahead
    for the next run, so that over some runs exactly the batches are taken that the workers made within the clock.

    Use it in a `with` block: workers that are still stopped at the end of the process would never end.

    Args:
        start: starts the workers, if there are any, and returns the iterator.
        finish: ends the workers of that iterator; by default they end when nothing refers to it.

    Attributes:
        first: the first batch, made before the clock starts.
        workers: how many processes work for it.
    """

    def __init__(
        self, start: Callable[[], Iterator[Batch]], finish: Callable[[Iterator[Batch]], object] | None = None
    ) -> None:
        others = {process.pid for process in multiprocessing.active_children()}
        self._batches: Iterator[Batch] | None = start()
        self._finish = finish
        self.first = next(self._batches)
        self._pids = [process.pid for process in multiprocessing.active_children() if process.pid not in others]
        self.workers = len(self._pids)
        self._signal(signal.SIGSTOP)

    def take(self, number: int) -> Iterator[Batch]:
        """Yield so many batches; the workers work until the last one is taken and the loop over them ends.

        Raises:
            RuntimeError: if the feed is closed.
        """
        if self._batches is None:
            raise RuntimeError("take must come before the end of the feed's `with` block, got a closed feed.")
        self._signal(signal.SIGCONT)
        try:
            for _ in range(number):
                yield next(self._batches)
        finally:
            self._signal(signal.SIGSTOP)

    def __enter__(self) -> Feed[Batch]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._signal(signal.SIGCONT)
        batches, self._batches, self._pids = self._batches, None, []
        if self._finish is not None and batches is not None:
            self._finish(batches)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._pids:
            if pid is not None:
                os.kill(pid, number)
