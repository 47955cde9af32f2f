"""Run cells on the machines of a Ray cluster, which have the repository and the runs at the same paths.

A pre-training is a task of its own, and the cells that start from it wait for that task. If a worker or its machine is
lost, Ray starts the task again elsewhere; its finished stages are skipped, and the unfinished one goes on from its last
checkpoint. A mistake of a cell is not tried again.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, as_completed
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from common.errors import root_cause

from .cells import LOCK, Outcome, run_cell, run_stage, stages_of
from .grid import Cell

try:
    import ray
except ImportError as error:
    raise ImportError(
        "engine 'ray' needs Ray, which is not installed: pip install -c constraints.txt -e '.[ray]'."
    ) from error

logger = logging.getLogger(__name__)

_RETRIES = 3  # of a task whose worker is lost
_GRACE_SECONDS = 30.0  # for interrupted tasks to write down how far they are


def run_on_ray(
    cells: Sequence[Cell],
    dataset_dir: Path,
    runs_dir: Path,
    address: str = "local",
    gpus_per_cell: float = 0,
    cpus_per_cell: float = 1,
) -> Generator[Outcome]:
    """Run cells at once, as many as the cluster has room for.

    Whatever still runs when the iteration is left is interrupted.

    Args:
        cells: what is run.
        dataset_dir: the dataset's folder, the same on all machines.
        runs_dir: a folder that all machines share.
        address: of the cluster, such as "10.0.0.1:6379"; "auto" for the one that this machine belongs to; "local" to
            have one on this machine only, for as long as it takes.
        gpus_per_cell: share of a GPU for each task, such as 0.5, or a whole number of them; 0 for the CPU.
        cpus_per_cell: CPU cores for each task.

    Yields:
        The cells with their results as they come.

    Raises:
        ValueError: if this machine is the cluster and has not what a task asks for.
    """
    if not cells:
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # unless the user wants it, nothing is sent to Ray's makers
    ray.init(address, log_to_driver=False, logging_level=logging.WARNING)
    references: list[Any] = []
    stages: dict[Path, Any] = {}
    try:
        _check_room(address, {"GPU": gpus_per_cell, "CPU": cpus_per_cell})
        task = ray.remote(num_gpus=gpus_per_cell, num_cpus=cpus_per_cell, max_retries=_RETRIES)(_call)
        waiting: dict[Future[Any], Cell] = {}
        for cell in cells:
            before = None
            for stage in stages_of(cell, runs_dir):
                if stage.folder not in stages:
                    references.append(task.remote(before, run_stage, stage, dataset_dir))
                    stages[stage.folder] = references[-1]
                before = stages[stage.folder]
            references.append(task.remote(before, run_cell, cell, dataset_dir, runs_dir))
            waiting[references[-1].future()] = cell
        for future in as_completed(waiting):
            try:
                outcome = future.result()
            except ray.exceptions.RayTaskError as error:
                outcome = error.cause
            except ray.exceptions.RayError as error:  # its workers were lost too often
                outcome = error
            yield waiting[future], outcome
    finally:
        for reference in references:
            ray.cancel(reference)
        if references:
            ray.wait(references, num_returns=len(references), timeout=_GRACE_SECONDS)
        _wait_for_writing(stages)
        ray.shutdown()


def _wait_for_writing(folders: Iterable[Path]) -> None:
    """Wait until no worker is in one of the folders, since a task can count as ended before it has written its record.

    The shutdown would then cut it off.
    """
    until = time.monotonic() + _GRACE_SECONDS
    for folder in folders:
        if (lock := folder / LOCK).is_file():
            with suppress(Timeout), FileLock(lock).acquire(timeout=max(0.0, until - time.monotonic())):
                pass


def _call(before: object, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a worker; `before` is the outcome of another task, which Ray has waited for."""
    try:
        return function(*arguments)
    except Exception as error:
        raise root_cause(error) from None  # what it was raised from would be lost on the way


def _check_room(address: str, wanted: dict[str, float]) -> None:
    """Tell of a task that no machine has room for, which Ray would let wait for ever."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(all(machine.get(name, 0) >= amount for name, amount in wanted.items()) for machine in machines):
        return
    listed = "; ".join(", ".join(f"{name} {machine.get(name, 0):g}" for name in wanted) for machine in machines)
    message = (
        "gpus_per_cell and cpus_per_cell must not exceed what one machine has, got "
        f"{wanted['GPU']:g} and {wanted['CPU']:g}, but the machines have: {listed}."
    )
    if address == "local":
        raise ValueError(message)
    logger.warning(f"{message} The cells wait for such a machine to join.")
