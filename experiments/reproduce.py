"""Run the missing cells; every stage goes through the bundle's configs and is kept when finished."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common.data.splits import read_split
from common.files import write_text_atomically

from .grid import PRETRAININGS, SCHEDULES, Cell, acdc_cells
from .stages import REPOSITORY, commit, run_config

logger = logging.getLogger(__name__)

BUNDLE = REPOSITORY / "bundle_acdc"
RESULTS = REPOSITORY / "experiments" / "results" / "acdc"


def reproduce(
    dataset_dir: str,
    schedule: str = "full",
    starts: Sequence[str] = PRETRAININGS,
    num_labelled: int = 1,
    combinations: Sequence[str] = ("c1", "c2", "c3"),
    runs_dir: str = str(REPOSITORY / "runs"),
    max_minutes: float = float("inf"),
    list: bool = False,
) -> None:
    """Run the ACDC cells that have no result file yet.

    Args:
        dataset_dir: the ACDC folder.
        schedule: "full" (10,000 steps a stage), "reduced" or "smoke".
        starts: which initialisations: "random", "GD", "GD+LR".
        num_labelled: labelled volumes: 1, 2 or 8.
        combinations: which draws of the labelled volumes.
        runs_dir: keeps checkpoints and states; an interrupted run continues from there.
        max_minutes: no new cell is begun after this time.
        list: only show which cells are done.

    Raises:
        ValueError: if the schedule, a start, a number of labelled volumes or a draw is unknown.
    """
    starts = (starts,) if isinstance(starts, str) else tuple(starts)
    if unknown := [start for start in starts if start not in PRETRAININGS]:
        raise ValueError(f"starts must be among {PRETRAININGS}, got {unknown}.")
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule must be one of {tuple(SCHEDULES)}, got {schedule!r}.")
    combinations = (combinations,) if isinstance(combinations, str) else tuple(combinations)
    for combination in combinations:
        read_split(
            BUNDLE / "configs" / "splits.json", num_labelled, combination
        )  # an unknown one would show after pre-training
    started = time.monotonic()
    for cell in acdc_cells(SCHEDULES[schedule], combinations, num_labelled):
        if cell.pretraining not in starts:
            continue
        target = RESULTS / schedule / f"{cell.name}.json"
        done = target.is_file() and json.loads(target.read_text())["key"] == cell.key
        if list:
            print(f"{'done   ' if done else 'missing'} {schedule} {cell.name}")
        elif not done and time.monotonic() - started < max_minutes * 60:
            logger.info(f"Cell {cell.name}, schedule {schedule}.")
            result = run_cell(cell, Path(dataset_dir).resolve(), Path(runs_dir).resolve() / schedule)
            write_text_atomically(target, json.dumps(result, indent=1) + "\n")


def run_cell(cell: Cell, dataset_dir: Path, runs_dir: Path) -> dict[str, Any]:
    """Pre-train if that has not been done, fine-tune, and evaluate the selected and the last checkpoint."""
    provenance = {"commit": commit(), "configs_sha256": _configs_hash()}  # as they are now, not hours later
    shared = {"dataset_dir": dataset_dir, "seed": cell.seed}
    seconds: dict[str, float] = {}
    weights = runs_dir / cell.pretraining_folder
    stages = {"pretrain_global": cell.schedule.global_steps, "pretrain_local": cell.schedule.local_steps}
    for stage in list(stages)[: PRETRAININGS.index(cell.pretraining)]:
        with timed(seconds, stage):
            run_config(
                BUNDLE,
                stage,
                **shared,
                steps=stages[stage],
                steps_per_epoch=cell.schedule.steps_per_epoch,
                ckpt_dir=weights,
                output_dir=weights / stage,
            )
    folder = runs_dir / cell.folder
    initialisation = {"random": "random", "GD": "encoder", "GD+LR": "encoder_decoder"}[cell.pretraining]
    with timed(seconds, "train"):
        run_config(
            BUNDLE,
            "train",
            **shared,
            num_labelled=cell.num_labelled,
            combination=cell.combination,
            initialisation=initialisation,
            pretrained_dir=weights,
            batch_size=cell.schedule.fine_tuning_batch_size,
            steps=cell.schedule.fine_tuning_steps,
            steps_per_epoch=cell.schedule.steps_per_epoch,
            ckpt_dir=folder,
            output_dir=folder,
        )
    evaluations: dict[str, Any] = {}
    for name, file in (
        ("selected, recomputed", "model.pt"),
        ("selected, running average", "model_running_average.pt"),
        ("last, recomputed", "last.pt"),
        ("last, running average", "last_running_average.pt"),
    ):
        output_dir = folder / f"test_{Path(file).stem}"
        run_config(
            BUNDLE,
            "evaluate",
            dataset_dir=dataset_dir,
            num_labelled=cell.num_labelled,
            combination=cell.combination,
            checkpoint=folder / file,
            output_dir=output_dir,
            pictures=file == "model.pt",
        )
        summary = json.loads((output_dir / "evaluation.json").read_text())
        evaluations[name] = {"mean_dice": summary["mean_dice"], "volumes": summary["volumes"]}
        settings = summary["settings"]
        environment = {
            "device": settings["device"],
            "precision": settings["precision"],
            "versions": summary["versions"],
        }
    return {
        "key": cell.key,
        "cell": asdict(cell),
        **provenance,
        **environment,
        "seconds_in_this_run": seconds,
        "evaluations": evaluations,
    }


class timed:
    """Record the wall time of a block under a name."""

    def __init__(self, record: dict[str, float], name: str):
        self.record = record
        self.name = name

    def __enter__(self):
        self.started = time.monotonic()

    def __exit__(self, *_):
        self.record[self.name] = round(time.monotonic() - self.started, 1)


def _configs_hash() -> str:
    digest = hashlib.sha256()
    for path in sorted((BUNDLE / "configs").glob("*.json")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
