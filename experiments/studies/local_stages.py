"""Which dense local stage is better under the recommended recipe, on the patients that are in none of the lists."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from bundles.development import development
from bundles.places import RUNS
from bundles.run import commit, load_config
from common.checkpoints import content_hash
from common.data.splits import draws_of
from common.records import write_record

from ..cells import stages_of
from ..grid import SCHEDULES, Cell, Pretraining
from ..recipes import RECIPES, RECOMMENDED
from .evaluation import BUNDLE, evaluate

logger = logging.getLogger(__name__)

CANDIDATES = ("LE", "LX")
"""Local strategies to choose from."""


def local_stages(
    dataset_dir: str,
    output: str,
    draws: str | Sequence[str] = ("c3", "c4"),
    runs_dir: str = str(RUNS),
    schedule: str = "reduced",
) -> None:
    """Evaluate networks of one label that start from each local stage; `reproduce --table beyond` trains them.

    Args:
        dataset_dir: the ACDC folder.
        output: the JSON file.
        draws: of the labelled volume.
        runs_dir: see `reproduce`.
        schedule: see `reproduce`.

    Raises:
        ValueError: if the schedule or a draw is unknown, or a network has not been trained.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {schedule!r}.")
    weights: dict[tuple[str, str], Path] = {}
    known = draws_of(BUNDLE / "configs" / "splits.json")[1]
    for draw in [draws] if isinstance(draws, str) else draws:
        if draw not in known:
            raise ValueError(f"draws must be among {', '.join(known)}, got {draw!r}.")
        for name in CANDIDATES:
            cell = Cell("acdc", Pretraining("GD", name), 1, draw, 0, SCHEDULES[schedule], RECIPES[RECOMMENDED])
            stage = stages_of(cell, Path(runs_dir).resolve() / schedule)[-1]
            if not stage.record["finished"]:
                raise ValueError(
                    f"{cell.name} must have been trained in runs_dir, {stage.folder} is not finished: run "
                    f"`python -m experiments reproduce --dataset_dir {dataset_dir} --runs_dir {runs_dir} "
                    f"--table beyond --rows {cell.row} --num_labelled 1 --draws {draw} "
                    f"--schedule {schedule}` first."
                )
            weights[draw, name] = stage.folder / "model.pt"
    items = development(load_config(BUNDLE, "evaluate", dataset_dir=dataset_dir))
    rows = []
    for (draw, name), path in weights.items():
        given = {"dataset_dir": dataset_dir, "checkpoint": str(path), "dataset#data": items, "overlap": None}
        dice = evaluate(given)["mean_dice"]["mean"]
        logger.info(f"{name}, {draw}: {dice:.4f}.")
        rows.append({"draw": draw, "strategy": name, "checkpoint_sha256": content_hash(path), "dice": dice})
    record = {"commit": commit(), "volumes": len(items), "rows": rows}
    write_record(Path(output), record)
    print(f"Wrote {output}.")
