"""Run the missing cells of a table; every stage goes through the bundle's configs and is kept when finished."""

from __future__ import annotations

import json
import logging
import math
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from common.data.splits import draws_of
from common.errors import root_cause
from common.files import write_text_atomically

from .cells import (
    ResultError,
    bundle_of,
    estimated_minutes,
    is_running,
    read_result,
    run_cell,
    seconds_per_step,
    stages_of,
)
from .grid import SCHEDULES, Cell, cells_of
from .stages import REPOSITORY

logger = logging.getLogger(__name__)

RESULTS = REPOSITORY / "experiments" / "results"


class OutOfTime(BaseException):
    """The time is over; not an Exception, so that nothing takes it for a mistake of a cell."""


def reproduce(
    dataset_dir: str,
    table: int = 6,
    dataset: str = "acdc",
    schedule: str = "full",
    starts: Sequence[str] = (),
    num_labelled: Sequence[int | str] = (),
    combinations: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    runs_dir: str = str(REPOSITORY / "runs"),
    max_minutes: float = math.inf,
    list: bool = False,
) -> None:
    """Run the cells of a table that have no result file yet.

    Args:
        dataset_dir: the dataset's folder.
        table: number of the table in the paper's supplement, 2 to 7.
        dataset: "acdc", "prostate" or "mmwhs".
        schedule: "full" (10,000 steps a stage), "reduced" or "smoke".
        starts: only these rows, such as "random" or "GD+LR.d2"; all by default.
        num_labelled: only these numbers of labelled volumes: 1, 2, 8, "all".
        combinations: only these draws of the labelled volumes: "c1", "c2", ...
        seeds: of initial weights and batches.
        runs_dir: keeps checkpoints and states; an interrupted run continues from there.
        max_minutes: stop after this time; what is begun goes on from its last minute when the command is run again.
        list: only show what is done, running and missing, and about how long the latter takes.

    Raises:
        ValueError: if the table, the dataset, the schedule, a row, a number of labelled volumes or a draw is unknown.
        SystemExit: with status 1 at the end, if a cell could not be run.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {schedule!r}.")
    draws = draws_of(bundle_of(dataset) / "configs" / "splits.json")
    cells = cells_of(table, dataset, SCHEDULES[schedule], draws, _several(seeds))
    cells = _only(cells, "starts", _several(starts), lambda cell: cell.row)
    cells = _only(cells, "num_labelled", _several(num_labelled), lambda cell: cell.num_labelled)
    cells = _only(cells, "combinations", _several(combinations), lambda cell: cell.combination)
    runs = Path(runs_dir).resolve() / schedule
    if list:
        _show(cells, runs)
        return
    failures: dict[str, str] = {}
    bar = tqdm(cells, desc=f"Table {table}", unit="cell")
    try:
        with _limit(max_minutes * 60):
            for cell in bar:
                bar.set_postfix_str(cell.name)
                try:
                    if read_result(result_path(cell), cell) is None:
                        write_result(cell, run_cell(cell, Path(dataset_dir).resolve(), runs))
                except Exception as error:  # the other cells go on
                    logger.error(f"{cell.name}: {root_cause(error)}")
                    failures[cell.name] = str(root_cause(error))
    except OutOfTime:
        print(f"Stopped after {max_minutes:g} minutes; the same command goes on from there.")
    finally:
        bar.close()
    if failures:
        listed = "\n".join(f"{name}: {message}" for name, message in failures.items())
        raise SystemExit(f"{len(failures)} of {len(cells)} cells could not be run:\n{listed}")


def result_path(cell: Cell) -> Path:
    """Return where the result of a cell is kept."""
    return RESULTS / cell.dataset / cell.schedule.name / f"{cell.name}.json"


def write_result(cell: Cell, result: dict[str, Any]) -> None:
    """Keep the result of a cell."""
    write_text_atomically(result_path(cell), json.dumps(result, indent=1) + "\n")


def _several(values: Any) -> tuple[Any, ...]:
    """Make a tuple of what the command line gives for one value or several, "GD,GD+LR" among them."""
    if isinstance(values, str):
        return tuple(values.split(","))
    return tuple(values) if isinstance(values, Sequence) else (values,)


def _only(cells: Sequence[Cell], name: str, wanted: tuple[Any, ...], value_of: Any) -> Sequence[Cell]:
    """Keep the cells that have one of the wanted values; all if none is wanted."""
    known = dict.fromkeys(map(value_of, cells))
    if unknown := [value for value in wanted if value not in known]:
        raise ValueError(f"{name} must be among {', '.join(map(str, known))}, got {', '.join(map(str, unknown))}.")
    return [cell for cell in cells if not wanted or value_of(cell) in wanted]


def _show(cells: Sequence[Cell], runs: Path) -> None:
    rates = seconds_per_step(runs)
    seen: set[Path] = set()
    total, known = 0.0, True
    for cell in cells:
        try:
            state = "done" if read_result(result_path(cell), cell) else "missing"
        except ResultError as error:
            state = f"unusable: {error}"
        cost = ""
        if state == "missing":
            stages = [stage for stage in stages_of(cell, runs) if stage.folder not in seen]
            seen.update(stage.folder for stage in stages)  # a pre-training is paid for once
            minutes = estimated_minutes(stages, rates)
            cost = "cost not known yet" if minutes is None else f"about {minutes:.0f} min"
            total, known = total + (minutes or 0.0), known and minutes is not None
            state = "running" if is_running(cell, runs) else state
        print(f"{state:8s} {cell.schedule.name} {cell.name}  {cost}".rstrip())
    if total:
        print(f"{'About' if known else 'At least'} {total:.0f} minutes to go.")


@contextmanager
def _limit(seconds: float) -> Iterator[None]:
    """Raise `OutOfTime` in the block when the time is over."""

    def stop(*_: Any) -> None:
        raise OutOfTime

    if math.isinf(seconds):
        yield
        return
    if seconds <= 0:
        raise OutOfTime
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
