"""How many processor cores there are to use, and processes that take one each."""

from __future__ import annotations

import os


def num_cores() -> int:
    """Return the cores that this process may use, which in a container can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def use_one_core(_: int = 0) -> None:
    """Let ITK compute in one thread; for `worker_init_fn` of a `DataLoader`, which limits torch's threads itself.

    ITK reads this when it is first used: call it in a new process before that.
    """
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"
