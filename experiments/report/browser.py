"""The report on all runs that a browser opens: the same numbers as on the page of results, and to be sorted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from common.display import Displayed
from common.report import FILE, Case, Column, Plot, Report
from common.report.words import counted
from release.results import MAIN_EVALUATION

from .figures import pictured, terms_of
from .numbers import number_of
from .runs import Group, Run

_COLUMNS = (
    Column("mean", "mean Dice", is_share=True),
    Column("lowest", "lowest volume", is_share=True),
    Column("row", "row"),
    Column("labelled", "labelled"),
    Column("draw", "draw"),
    Column("seed", "seed"),
    Column("schedule", "schedule"),
    Column("dataset", "dataset"),
)
_PLOTS = {
    "table": "Test Dice by the number of labelled volumes, a line for each row with its standard deviation.",
    "training_curves": "Validation Dice by step while fine-tuning, a line for each run.",
    "embeddings": "Embeddings of slices before and after pre-training, in two dimensions.",
    "place": "Losses of the local strategies where only the place in the frame is known.",
}


def write_browser_page(root: Path, groups: Sequence[Group]) -> None:
    """Write `report.html` from the runs of all datasets and schedules.

    Args:
        root: where to.
        groups: the runs; figures that are in their folders are shown.
    """
    runs = [(group, run) for group in groups for run in group.runs]
    report = Report("Experiments", len(runs), "run")
    plots: list[Plot] = []
    for group in groups:
        files: dict[str, list[tuple[str, Path]]] = {}
        for run, rank, path in pictured(group):
            if path.is_file():
                dice, volume = run.volume(rank)
                files.setdefault(run.cell.key, []).append((f"{rank}: {volume}, Dice {number_of(dice)}", path))
        for run in group.runs:
            own = files.get(run.cell.key)
            layers = report.encode(_side_by_side([path for _, path in own]), [name for name, _ in own]) if own else None
            report.add(_case(group, run, layers))
        plots += [
            Plot(path, f"{group.title}, {group.schedule.name}: {path.stem.replace('_', ' ')}", words)
            for start, words in _PLOTS.items()
            for path in sorted(group.figures.glob(f"{start}*.png"))
        ]
    schedules = {group.schedule.name: group.schedule.lengths for group in groups}
    report.write(
        root / FILE,
        "All runs",
        "Test Dice of the selected checkpoint, the lowest first; opened, the volumes of a run",
        _COLUMNS,
        "mean",
        [("runs", str(len(runs))), ("datasets", str(len({group.dataset for group in groups})))],
        plots,
        {
            "Schedules": schedules,
            "Commits": {commit: _named(runs, commit) for commit in sorted({run.commit for _, run in runs})},
            "Terms of the pictures": {group.title: terms_of(group).strip() for group in groups},
        },
    )


def _case(group: Group, run: Run, layers: dict | None) -> Case:
    values = {
        "mean": run.dice[MAIN_EVALUATION]["mean"],
        "lowest": run.ranked[0][0] if run.ranked else None,
        "row": run.cell.row,
        "labelled": run.number,
        "draw": run.cell.draw,
        "seed": run.cell.seed,
        "schedule": group.schedule.name,
        "dataset": group.title,
    }
    volumes = {volume: {"Dice": number_of(dice)} for dice, volume in run.ranked}
    return Case(run.cell.name, values, layers, volumes, f"{run.device}; commit {run.commit}")


def _side_by_side(paths: Sequence[Path]) -> Displayed:
    """Read pictures as slices of one image, with white around the smaller ones."""
    pictures = []
    for path in paths:
        with Image.open(path) as picture:
            pictures.append(np.asarray(picture.convert("RGB")))
    rows, columns = (max(pixels.shape[axis] for pixels in pictures) for axis in (0, 1))
    image = np.full((len(pictures), rows, columns, 3), 255, np.uint8)
    for place, pixels in enumerate(pictures):
        image[place, : pixels.shape[0], : pixels.shape[1]] = pixels
    return Displayed(image, {})


def _named(runs: Sequence[tuple[Group, Run]], commit: str) -> str:
    return counted(sum(run.commit == commit for _, run in runs), "run")
