"""Cells of the headline table, or of a recipe, on a lent GPU: what is most wanted first, as far as the time goes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.data.splits import draws_of

from ..cells import Stage, bundle_of, stages_of
from ..grid import SCHEDULES, Cell, Schedule
from ..recipes import RECIPES
from ..reproduce import read_result, result_path, write_result
from ..tables import cells_of
from .gpu_tests import facts_of
from .kit import KIT, REPOSITORY, SLICES, STARTED, STATE, WORK, KitError
from .outcome import Outcome, restore, seconds_since
from .scheduler import Progress, Task, run_cells
from .slices import NUM_LABELLED, preprocessing_of, unpack_slices

ROWS = ("random", "GD", "GD+LR", "GR", "GD+LD")
_SCHEDULES = ("full", "smoke")
_STATE_SECONDS = 30.0  # between two writings of what is not finished
_MARGIN_SECONDS = 20.0  # for the last writing, within the minutes that were given


def headline_cells(schedule: Schedule, draws: Mapping[int | str, Sequence[str]]) -> list[Cell]:
    """List the cells of the headline table: by number of labels, draw by draw, the rows in the order of `ROWS`.

    Draw by draw, so that what the rows are compared on is the same whenever the time is over.
    """
    cells = cells_of(6, "acdc", schedule, draws)
    wanted = [cell for cell in cells if cell.row in ROWS and cell.num_labelled in NUM_LABELLED]
    places = {draw: place for names in draws.values() for place, draw in enumerate(names)}
    return sorted(
        wanted,
        key=lambda cell: (NUM_LABELLED.index(int(cell.num_labelled)), places[cell.draw], ROWS.index(cell.row)),
    )


def recipe_cells(name: str, schedule: Schedule, draws: Mapping[int | str, Sequence[str]]) -> list[Cell]:
    """List the cells of a recipe on all draws: from the pre-trained encoder, from random weights, with a local stage.

    Raises:
        KitError: if there is no such recipe.
    """
    known = [recipe.name for recipe in RECIPES.values() if not recipe.self_training]
    if name not in known:
        raise KitError(f"name must be one of {', '.join(known)}, got {name!r}: choose one of these recipes.")
    cells = [
        cell
        for cell in cells_of("beyond", "acdc", schedule, draws)
        if cell.recipe.name == name and cell.num_labelled in NUM_LABELLED
    ]
    return sorted(cells, key=lambda cell: (cell.pretraining.local_strategy != "", not cell.pretraining.global_strategy))


def cells(
    out: str,
    device: str = "cuda",
    schedule: str = "full",
    max_minutes: float = 9.0,
    workers: int = 0,
    state_mib: float = 30.0,
    kit: str = str(KIT),
    work: str = str(WORK),
) -> None:
    """Run the cells of the headline table that have no result yet.

    Args:
        out: folder that comes back.
        device: "cuda", or "cpu" to rehearse.
        schedule: "full"; "smoke" to rehearse.
        max_minutes: from the start of this command to its end.
        workers: processes that share the device; 0 measures how many are best.
        state_mib: the most that comes back for a machine that is started anew.
        kit: folder of the kit.
        work: folder of packages, data and runs; what is in it already is gone on from.

    Raises:
        SystemExit: with status 1 if a cell failed; a lack of time is no failure.
    """
    _run("cells", headline_cells, out, device, schedule, max_minutes, workers, state_mib, kit, work)


def recipe(
    out: str,
    name: str,
    device: str = "cuda",
    schedule: str = "full",
    max_minutes: float = 9.0,
    workers: int = 0,
    state_mib: float = 30.0,
    kit: str = str(KIT),
    work: str = str(WORK),
) -> None:
    """Run a recipe on all draws, then the same from random weights, where there is no result yet.

    Args:
        out: folder that comes back.
        name: of the recipe, such as "recommended".
        device: see `cells`, as all others.
        schedule: see `cells`.
        max_minutes: limit.
        workers: processes.
        state_mib: the most state that comes back.
        kit: folder of the kit.
        work: folder to work in.
    """

    def chosen(*given: Any) -> list[Cell]:
        return recipe_cells(name, *given)

    _run(f"recipe {name}", chosen, out, device, schedule, max_minutes, workers, state_mib, kit, work)


def _run(
    command: str,
    choose: Any,
    out: str,
    device: str,
    schedule: str,
    max_minutes: float,
    workers: int,
    state_mib: float,
    kit: str,
    work: str,
) -> None:
    deadline = STARTED + 60 * max_minutes - _MARGIN_SECONDS
    if schedule not in _SCHEDULES:
        # At the reduced one the stages of a cell differ in N4, and without its entry a stand-in would be segmented.
        raise KitError(
            f"schedule must be {' or '.join(_SCHEDULES)}, whose cells have one preprocessing, got {schedule!r}."
        )
    outcome = Outcome(Path(out), facts_of(command, device, Path(kit)), state_mib)
    bundle = bundle_of("acdc")
    dataset_dir, root = Path(work).resolve() / "acdc", Path(work).resolve() / "runs"
    unpack_slices(Path(kit) / SLICES, dataset_dir, preprocessing_of(bundle))
    runs = root / schedule
    restored = restore(Path(kit) / STATE, root)
    outcome.report(restored=restored, seconds_until_ready=seconds_since(STARTED))
    chosen = choose(SCHEDULES[schedule], draws_of(bundle / "configs" / "splits.json"))
    run_chosen(chosen, dataset_dir, runs, deadline, workers, outcome, Path(work).resolve() / "logs")
    outcome.report(seconds=seconds_since(STARTED))
    report = outcome.facts
    print(json.dumps({key: report[key] for key in ("done", "missing", "failures", "seconds")}, indent=1))
    if report["failures"]:
        raise SystemExit(f"{len(report['failures'])} stages or cells failed.")


def run_chosen(
    chosen: Sequence[Cell],
    dataset_dir: Path,
    runs: Path,
    deadline: float,
    workers: int,
    outcome: Outcome,
    logs: Path,
) -> None:
    """Run cells that have no result file yet, and write down what there is whenever something has ended."""
    missing, unusable = _missing(chosen)
    stages: list[Stage] = [stage for cell in missing for stage in stages_of(cell, runs)]
    commit = outcome.facts["commit"]
    written: set[str] = set()
    by_name = {cell.name: cell for cell in missing}
    outcome.report(done=[], missing=[cell.name for cell in missing], failures=unusable)

    kept = time.monotonic()
    left_out: list[str] = []

    def on_change(progress: Progress, ended: Task | None) -> None:
        nonlocal kept, left_out
        for name in progress.results.keys() - written:
            cell = by_name[name]
            write_result(cell, {**progress.results[name], "commit": commit})
            path = result_path(cell)
            outcome.add(path.relative_to(REPOSITORY).as_posix(), path.read_bytes())
            written.add(name)
        pretrained = ended is not None and ended.stage is not None and ended.stage.config != "train"
        if pretrained or time.monotonic() - kept > _STATE_SECONDS:
            left_out, kept = outcome.keep(stages, runs.parent), time.monotonic()
        if progress.failures:
            for log in logs.glob("*.log"):
                outcome.add(f"logs/{log.name}", log.read_bytes()[-200_000:])
        outcome.report(
            done=sorted(written),
            missing=[cell.name for cell in missing if cell.name not in written],
            failures={**unusable, **progress.failures},
            task_seconds=progress.seconds,
            state_left_out=left_out,
        )

    # Otherwise each process would take all cores for the little that is done on them.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // 8)))
    progress = run_cells(missing, dataset_dir, runs, deadline, workers, logs, on_change)
    kept -= _STATE_SECONDS  # once more, whenever it was
    on_change(progress, None)


def _missing(chosen: Sequence[Cell]) -> tuple[list[Cell], dict[str, str]]:
    """Return the cells that have no result file, and what is wrong with the files of others."""
    missing, unusable = [], {}
    for cell in chosen:
        try:
            if read_result(result_path(cell), cell) is None:
                missing.append(cell)
        except (ValueError, OSError) as error:
            unusable[cell.name] = str(error)
    return missing, unusable
