"""Run the missing cells of a table; every stage goes through the bundle's configs and is kept when finished."""

from __future__ import annotations

import logging
import math
import signal
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bundles.places import RUNS
from common.data.splits import draws_of
from common.errors import root_cause
from common.records import write_record
from release.results import ResultError

from .cells import (
    Outcome,
    bundle_of,
    estimated_minutes,
    is_running,
    run_cell,
    seconds_per_image,
    stages_of,
)
from .grid import SCHEDULES, Cell
from .results import read_result
from .tables import cells_of

logger = logging.getLogger(__name__)

RESULTS = RUNS.parent / "experiments" / "results"
_RENAMED = {"starts": "rows", "combinations": "draws"}  # what an option is called now


class OutOfTime(BaseException):
    """The time is over; not an Exception, so that nothing takes it for a mistake of a cell."""


def reproduce(
    dataset_dir: str,
    table: int | str = 6,
    dataset: str = "acdc",
    schedule: str = "full",
    rows: Sequence[str] = (),
    num_labelled: Sequence[int | str] = (),
    draws: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    runs_dir: str = str(RUNS),
    max_minutes: float = math.inf,
    list: bool = False,
    engine: str = "local",
    address: str = "local",
    gpus_per_cell: float = 0,
    cpus_per_cell: float = 1,
    **renamed: Any,
) -> None:
    """Run the cells of a table that have no result file yet.

    Args:
        dataset_dir: the dataset's folder.
        table: number of the table in the paper's supplement, 2 to 8, "beyond" for what can be added to its
            fine-tuning, or "streets" for what table 8 has on photographs that are at hand.
        dataset: "acdc", "prostate", "mmwhs", "cityscapes" (table 8) or "camvid" (streets).
        schedule: "full" (10,000 steps a stage), "reduced" or "smoke".
        rows: only these rows of the table, such as "random" or "GD+LR.d2"; all by default.
        num_labelled: only these numbers of labelled volumes: 1, 2, 8, "all"; of photographs 100, 200, 400, "all".
        draws: only these draws of the labelled volumes: "c1", "c2", ...
        seeds: of initial weights and batches.
        runs_dir: keeps checkpoints and states; an interrupted run continues from there.
        max_minutes: stop after this time. The same command goes on from there; at most a minute of work is lost.
        list: run nothing; show what is done, running and missing, and about how long the missing cells take.
        engine: "local" runs one cell after the other in this process. "ray" runs as many at once as a Ray cluster has
            room for. On all its machines, dataset_dir, runs_dir and this repository must be the same folders.
        address: of the Ray cluster, such as "10.0.0.1:6379", "auto" for the one that this machine belongs to, or
            "local" to use this machine alone.
        gpus_per_cell: share of a GPU, such as 0.5, or number of GPUs for each cell on Ray; 0 for the CPU.
        cpus_per_cell: CPU cores for each cell on Ray.
        renamed: options by their old names, which are refused with the new one.

    Raises:
        ValueError: if the table, the dataset, the schedule, a row, a number of labelled volumes, a draw or the engine
            is unknown, a seed is not a whole number from 0, or there are options for another engine.
        TypeError: if there is an option of an older name, or one that is unknown.
        ImportError: if Ray is wanted and not installed.
        SystemExit: with status 1 at the end, if a cell could not be run.
    """
    _check_names(renamed)
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {schedule!r}.")
    if unsuitable := [seed for seed in _several(seeds) if type(seed) is not int or seed < 0]:
        raise ValueError(f"seeds must be whole numbers from 0, got {', '.join(map(repr, unsuitable))}.")
    known = draws_of(bundle_of(dataset) / "configs" / "splits.json")
    cells: Sequence[Cell] = cells_of(table, dataset, SCHEDULES[schedule], known, _several(seeds))
    cells = _only(cells, "rows", _several(rows), lambda cell: cell.row)
    cells = _only(cells, "num_labelled", _several(num_labelled), lambda cell: cell.num_labelled)
    cells = _only(cells, "draws", _several(draws), lambda cell: cell.draw)
    runs = Path(runs_dir).resolve() / schedule
    if list:
        _show(cells, runs)
        return
    run_cells = _engine(engine, address, gpus_per_cell, cpus_per_cell)
    missing, failures = _missing(cells)
    logging.basicConfig(level=logging.INFO)
    try:
        with (
            tqdm(total=len(missing), desc=f"Table {table}", unit="cell") as bar,
            _limit(max_minutes * 60),
            closing(run_cells(missing, Path(dataset_dir).resolve(), runs)) as outcomes,
        ):
            for cell, outcome in outcomes:
                try:
                    if isinstance(outcome, Exception):
                        raise outcome
                    write_result(cell, outcome)
                except Exception as error:  # the other cells go on
                    failures[cell.name] = _describe(error)
                    logger.error(f"{cell.name}: {failures[cell.name]}")
                bar.update()
    except OutOfTime:
        print(f"Stopped after {max_minutes:g} minutes; the same command goes on from there.")
    if failures:
        listed = "\n".join(f"{name}: {message}" for name, message in failures.items())
        raise SystemExit(f"{len(failures)} of {len(cells)} cells could not be run:\n{listed}")


def _check_names(options: Mapping[str, Any]) -> None:
    for name in options:
        if name in _RENAMED:
            raise TypeError(f"--{name} is called --{_RENAMED[name]} now: use that name.")
        raise TypeError(f"reproduce has no option --{name}: see `python -m experiments reproduce --help`.")


def result_path(cell: Cell) -> Path:
    """Return where the result of a cell is kept."""
    return RESULTS / cell.dataset / cell.schedule.name / f"{cell.name}.json"


def write_result(cell: Cell, result: dict[str, Any]) -> None:
    """Keep the result of a cell."""
    write_record(result_path(cell), result)


def _engine(
    name: str, address: str, gpus_per_cell: float, cpus_per_cell: float
) -> Callable[[Sequence[Cell], Path, Path], Generator[Outcome]]:
    """Return what runs cells and yields their results."""
    if name == "ray":
        from .ray_engine import run_on_ray  # Ray is an extra

        return partial(run_on_ray, address=address, gpus_per_cell=gpus_per_cell, cpus_per_cell=cpus_per_cell)
    if name != "local":
        raise ValueError(f"engine must be one of local, ray, got {name!r}.")
    if (address, gpus_per_cell, cpus_per_cell) != ("local", 0, 1):
        raise ValueError("address, gpus_per_cell and cpus_per_cell must be left out unless engine is 'ray'.")
    return _run_here


def _run_here(cells: Sequence[Cell], dataset_dir: Path, runs_dir: Path) -> Generator[Outcome]:
    for cell in cells:
        try:
            outcome: Outcome = cell, run_cell(cell, dataset_dir, runs_dir)
        except Exception as error:  # the other cells go on
            outcome = cell, error
        yield outcome


def _missing(cells: Iterable[Cell]) -> tuple[list[Cell], dict[str, str]]:
    """Return the cells to run, which have no result file, and what is wrong with the files of others."""
    missing: list[Cell] = []
    failures: dict[str, str] = {}
    for cell in cells:
        try:
            if read_result(result_path(cell), cell) is None and cell.is_run:
                missing.append(cell)
        except (ResultError, OSError) as error:
            failures[cell.name] = _describe(error)
    return missing, failures


def _describe(error: Exception) -> str:
    cause = root_cause(error)
    return f"{type(cause).__name__}: {cause}"


def _several(values: Any) -> tuple[Any, ...]:
    """Make a tuple of what the command line gives for one value or several, "GD,GD+LR" among them."""
    if isinstance(values, str):
        values = [value.strip() for value in values.split(",")]
    return tuple(dict.fromkeys(values)) if isinstance(values, Sequence) else (values,)


def _only(cells: Sequence[Cell], name: str, wanted: tuple[Any, ...], value_of: Any) -> Sequence[Cell]:
    """Keep the cells that have one of the wanted values; all if none is wanted."""
    known = dict.fromkeys(map(value_of, cells))
    if unknown := [value for value in wanted if value not in known]:
        raise ValueError(f"{name} must be among {', '.join(map(str, known))}, got {', '.join(map(str, unknown))}.")
    return [cell for cell in cells if not wanted or value_of(cell) in wanted]


def _show(cells: Sequence[Cell], runs: Path) -> None:
    rates = seconds_per_image(runs)
    seen: set[Path] = set()
    total, known = 0.0, True
    for cell in cells:
        cost = ""
        try:
            state = "done"
            if read_result(result_path(cell), cell) is None and not cell.is_run:
                state = "not run"
                cost = "by this version; see the recipe"
            elif read_result(result_path(cell), cell) is None:
                stages = stages_of(cell, runs)
                state = "running" if is_running(stages) else "missing"
                unpaid = [stage for stage in stages if stage.folder not in seen]  # a pre-training is paid for once
                minutes = estimated_minutes(unpaid, rates)
                seen.update(stage.folder for stage in stages)
                cost = "cost not known yet" if minutes is None else f"about {minutes:.0f} min"
                total, known = total + (minutes or 0.0), known and minutes is not None
        except (ResultError, OSError) as error:
            state, cost = "unusable", str(error)
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
