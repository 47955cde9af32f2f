"""Preprocess the next volumes in processes of their own, while the network is busy with this one."""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Iterator
from typing import Any

import torch
from monai.data import Dataset, MetaTensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from .cache import plain_values
from .cores import num_cores, use_one_core
from .failures import describe_failure
from .main_guard import unguarded_script

logger = logging.getLogger(__name__)

START_UP_SECONDS = 10.0
"""What new processes take until the first of them has a volume: most of it imports, and ITK's loading."""

_FIRST = 2  # volumes before it is decided; the first also loads ITK, so the time of the last of them counts


def preprocess_ahead(dataset: Dataset, num_workers: int | None = None) -> Iterator[dict[str, Any] | str]:
    """Preprocess the volumes of a dataset in their order, each when it is asked for or before.

    The first volumes are preprocessed in this process. If doing that with all of them would take longer than it takes
    to start others, the rest are preprocessed in others, of one torch and one ITK thread each, while the caller does
    what it does with those that are there. These processes are spawned: where the script that runs has no
    `if __name__ == "__main__":`, this process goes on.

    Args:
        dataset: its data has the path of a file under "image", its items the preprocessed volume; it holds none.
        num_workers: processes, used from the first volume on; 0 uses none. None decides as above, and takes one for
            each core.

    Yields:
        The item of each volume, or why it has none, beginning with the name of the file. The trace of the transforms of
        a volume from another process fits any instance of them.
    """
    attempts, workers, begun = _Attempts(dataset), num_workers, 0
    if workers is None:
        seconds = 0.0
        for begun in range(1, min(_FIRST, len(attempts)) + 1):
            started = time.monotonic()
            outcome = attempts.attempt(begun - 1)
            seconds = time.monotonic() - started
            yield outcome
        left = len(attempts) - begun
        workers = min(left, num_cores())
        if workers < 2 or seconds * left * (1 - 1 / workers) < START_UP_SECONDS or unguarded_script():
            workers = 0
    if workers == 0:
        for index in range(begun, len(attempts)):
            yield attempts.attempt(index)
        return
    logger.info(f"{len(attempts) - begun} volumes are preprocessed in {workers} processes.")
    loader = DataLoader(
        attempts,
        batch_size=None,
        sampler=range(begun, len(attempts)),
        num_workers=workers,
        multiprocessing_context="spawn",
        worker_init_fn=use_one_core,
        generator=torch.Generator(),  # otherwise a number would be drawn from the global one
    )
    for content in loader:
        yield pickle.loads(content)  # what `_Attempts` made in a process of this run, nothing from outside


class _Attempts(TorchDataset):
    """The items of another dataset, or why there is none."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def attempt(self, index: int) -> dict[str, Any] | str:
        try:
            item: dict[str, Any] = self.dataset[index]
        except Exception as error:  # one bad file must not cost the others
            return describe_failure(error, self.dataset.data[index]["image"])
        return item

    def __getitem__(self, index: int) -> bytes:
        outcome = self.attempt(index)
        if isinstance(outcome, dict):
            for volume in outcome.values():
                if isinstance(volume, MetaTensor):
                    volume.applied_operations = plain_values(volume.applied_operations)
        # Left to torch, tensors would come by shared memory, of which containers have little.
        return pickle.dumps(outcome)
