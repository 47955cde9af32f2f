"""Several cells at once on one machine: a stage or an evaluation at a time to each of some processes.

A pre-training that several cells start from is run once, and cells that wait for it are overtaken by those that do not.
A process that dies is replaced, and what it did is tried once more. When the time is over, each process leaves its
stage as it was at its last saved state, at most a minute ago.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from common.errors import root_cause

from ..cells import Stage, run_cell, run_stage, stages_of
from ..grid import Cell
from ..reproduce import OutOfTime

_ATTEMPTS = 2  # of what a process died with
_GRACE_SECONDS = 15.0  # for a process to write its record when the time is over
_TICK_SECONDS = 25.0  # after which those who look on are told, though nothing has ended
_MEASURED_SECONDS = 4.0
_CONTEXT = multiprocessing.get_context("spawn")  # a forked process cannot use the GPU


@dataclass(frozen=True)
class Task:
    """A stage of a cell to be run, or, without one, the cell to be evaluated."""

    cell: Cell
    stage: Stage | None

    @property
    def name(self) -> str:
        """What is told of it."""
        return self.cell.name if self.stage is None else self.stage.folder.name


@dataclass
class Progress:
    """What has become of the cells.

    Attributes:
        results: of the cells that were finished.
        failures: why others were not, by name of cell or of the stage's folder.
        seconds: of each stage and evaluation, by name.
    """

    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


class _Worker:
    """A process and the task that it has.

    Args:
        arguments: of `_work` behind the connection.
        deadline: `time.monotonic()` at which tasks end.
        log: gets what the process prints.
    """

    def __init__(self, arguments: tuple[Path, Path], deadline: float, log: Path) -> None:
        self.connection, other = _CONTEXT.Pipe()
        self.task: Task | None = None
        self.started = 0.0
        self.process = _CONTEXT.Process(target=_work, args=(other, *arguments, deadline, log), daemon=True)
        self.process.start()
        other.close()

    def give(self, kind: str, content: object, task: Task | None = None) -> None:
        """Hand over what is to be done."""
        self.task, self.started = task, time.monotonic()
        self.connection.send((kind, content))

    def end(self, seconds: float) -> None:
        """End the process, by force if it has not ended by itself after a time."""
        with contextlib.suppress(OSError):
            self.connection.send(("end", None))
        self.process.join(seconds)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.connection.close()


def next_task(cells: Sequence[Cell], runs_dir: Path, progress: Progress, running: Sequence[Task]) -> Task | None:
    """Return what is to be done next: what the first cell needs that does not wait for a stage that is running.

    Args:
        cells: in the order of their importance.
        runs_dir: has the stages' folders.
        progress: what was done; a cell whose stage failed is added to the failures.
        running: what other processes are doing.
    """
    busy = {task.stage.folder if task.stage else task.cell.key for task in running}
    for cell in cells:
        if cell.name in progress.results or cell.name in progress.failures or cell.key in busy:
            continue
        stages = stages_of(cell, runs_dir)
        if failed := [stage.folder.name for stage in stages if stage.folder.name in progress.failures]:
            progress.failures[cell.name] = f"its stage {failed[0]} failed"
            continue
        try:
            missing = next((stage for stage in stages if not stage.record["finished"]), None)
        except ValueError as error:  # a damaged record
            progress.failures[cell.name] = str(error)
            continue
        if missing is None or missing.folder not in busy:
            return Task(cell, missing)
    return None


def run_cells(
    cells: Sequence[Cell],
    dataset_dir: Path,
    runs_dir: Path,
    deadline: float,
    num_workers: int,
    logs: Path,
    on_change: Callable[[Progress, Task | None], None],
) -> Progress:
    """Run cells until all are finished or the time is over.

    Args:
        cells: in the order of their importance.
        dataset_dir: the dataset's folder.
        runs_dir: keeps the stages.
        deadline: `time.monotonic()` at which to stop.
        num_workers: processes; 0 finds out how many the device has room for.
        logs: folder of the processes' logs.
        on_change: called with the progress and what has just ended; with None if nothing has for a while.
    """
    progress = Progress()
    attempts: dict[str, int] = {}
    logs.mkdir(parents=True, exist_ok=True)
    arguments = (dataset_dir, runs_dir)

    def start(number: int) -> _Worker:
        return _Worker(arguments, deadline, logs / f"process_{number}.log")

    workers = [start(number) for number in range(num_workers or measured_candidates()[-1])]
    last = time.monotonic()
    try:
        if num_workers == 0:
            best, rates = choose_number(workers)
            progress.seconds.update({f"steps a second with {number} processes": rate for number, rate in rates.items()})
            for worker in workers[best:]:
                worker.end(0)
            del workers[best:]
        while True:
            for worker in workers:
                if worker.task is None and time.monotonic() < deadline:
                    running = [other.task for other in workers if other.task is not None]
                    if task := next_task(cells, runs_dir, progress, running):
                        worker.give("run", task, task)
            active = [worker for worker in workers if worker.task is not None]
            if not active or time.monotonic() > deadline + _GRACE_SECONDS:
                return progress
            ready = wait(
                [worker.connection for worker in active], timeout=min(5.0, max(0.1, deadline - time.monotonic()))
            )
            for number, worker in enumerate(workers):
                if worker.connection not in ready:
                    continue
                task = worker.task
                assert task is not None
                try:
                    kind, content = worker.connection.recv()
                except (EOFError, OSError):
                    worker.process.join(1)
                    kind, content = "died", f"its process ended with status {worker.process.exitcode}"
                    workers[number] = start(number)
                worker.task = None
                progress.seconds[task.name] = round(time.monotonic() - worker.started, 1)
                attempts[task.name] = attempts.get(task.name, 0) + 1
                if kind == "result":
                    progress.results[task.cell.name] = content
                elif kind == "failed" or (kind == "died" and attempts[task.name] >= _ATTEMPTS):
                    progress.failures[task.name] = content
                on_change(progress, task)
                last = time.monotonic()
            if time.monotonic() - last > _TICK_SECONDS:
                on_change(progress, None)
                last = time.monotonic()
    finally:
        for worker in workers:
            worker.end(0 if worker.task is not None else 2)


def measured_candidates() -> list[int]:
    """Return the numbers of processes that are tried: 1, 2, 4, ... up to half the cores."""
    limit = max(1, len(os.sched_getaffinity(0)) // 2)
    return [number for number in (1, 2, 4, 8) if number <= limit]


def choose_number(workers: Sequence[_Worker]) -> tuple[int, dict[int, float]]:
    """Let 1, 2, 4, ... of the processes train at once for seconds.

    Returns:
        The fewest that reach 95 % of the most steps a second, and the steps a second of each number.
    """
    _ask(workers, "prepare", None)
    rates = {}
    for number in measured_candidates():
        started = time.monotonic()
        steps = _ask(workers[:number], "train", _MEASURED_SECONDS)
        rates[number] = round(sum(steps) / (time.monotonic() - started), 2)
    _ask(workers, "forget", None)
    return fewest_good(rates), rates


def fewest_good(rates: dict[int, float]) -> int:
    """Return the least number whose rate is at least 95 % of the highest."""
    return min(number for number, rate in rates.items() if rate >= 0.95 * max(rates.values()))


def _ask(workers: Sequence[_Worker], kind: str, content: object) -> list[int]:
    for worker in workers:
        worker.give(kind, content)
    answers = []
    for worker in workers:
        kind, answer = worker.connection.recv()
        if kind != "result":
            raise RuntimeError(f"a process could not train: {answer}")
        answers.append(answer)
    return answers


def _work(connection: Connection, dataset_dir: Path, runs_dir: Path, deadline: float, log: Path) -> None:
    """Do what comes through a connection until it is told to end."""
    threading.Thread(target=_follow_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to end
    sys.stdout = sys.stderr = log.open("a", buffering=1)
    for output in (1, 2):  # what libraries write without Python
        os.dup2(sys.stdout.fileno(), output)
    signal.signal(signal.SIGALRM, _raise_out_of_time)
    logging.basicConfig(level=logging.INFO)
    training: list[Any] = []
    while True:
        kind, content = connection.recv()
        if kind == "end":
            return
        try:
            with _until(deadline):
                answer: tuple[str, Any] = "result", _do(kind, content, training, dataset_dir, runs_dir)
            if kind == "run" and content.stage is not None:
                answer = "done", None
        except OutOfTime:
            answer = "stopped", None
        except Exception as error:
            traceback.print_exc()
            cause = root_cause(error)
            answer = "failed", f"{type(cause).__name__}: {cause}"
        connection.send(answer)


def _do(kind: str, content: Any, training: list[Any], dataset_dir: Path, runs_dir: Path) -> Any:
    if kind == "run":
        task: Task = content
        if task.stage is None:
            return run_cell(task.cell, dataset_dir, runs_dir)
        return run_stage(task.stage, dataset_dir)
    from benchmarks import harness, step

    device = harness.default_device()
    if kind == "prepare":
        slices = step.random_slices(True, step.SIDE, device)
        trainer = step.make_trainer("fine-tuning", slices, 40 if device.type == "cuda" else 4)
        training += [trainer, step.resumable(trainer, 2)]
        training[1]()
        harness.synchronise(device)
        return 0
    if kind == "forget":
        step.finish(training[0])
        training.clear()
        return 0
    steps, until = 0, time.monotonic() + content
    while time.monotonic() < until:
        training[1]()
        harness.synchronise(device)
        steps += 2
    return steps


def _raise_out_of_time(*_: object) -> None:
    raise OutOfTime


@contextlib.contextmanager
def _until(deadline: float) -> Iterator[None]:
    signal.setitimer(signal.ITIMER_REAL, max(0.001, deadline - time.monotonic()))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _follow_parent() -> None:
    """End with the process that started this one, also if that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
