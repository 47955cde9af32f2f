"""Sections of the report that are drawn or show pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bundles.run import REPOSITORY
from release.pictures import shrink_picture
from release.results import EVALUATIONS, MAIN_EVALUATION

from ..cells import bundle_of
from ..plots import draw_dice, draw_training_curves, labelled_order
from .numbers import number_of
from .runs import Group, Run
from .summary import main_lines
from .tables import Line, select, table_name, title_of

_PICTURES = ("worst", "median", "best")


def main_figure(group: Group, folder: str) -> str:
    """Draw what the short table has, for the page that it is on; the figure is below a folder that is given."""
    drawn = _draw(main_lines(group), group, "main.png", f"schedule {group.schedule.name}")
    return f"![Dice of the main rows by the number of labelled volumes]({folder}/{drawn})\n" if drawn else ""


def dice_figure(lines: Sequence[Line], group: Group, number: int | str) -> str:
    """Draw Dice against the number of labelled volumes, if there is anything to compare."""
    drawn = _draw(lines, group, f"table{number}.png", f"{table_name(number)}, schedule {group.schedule.name}")
    return f"![Dice by the number of labelled {group.items}]({drawn})\n" if drawn else ""


def _draw(lines: Sequence[Line], group: Group, name: str, title: str) -> str:
    """Draw the Dice of some rows; return how the group's pages refer to the figure, nothing if there is one row."""
    measured: dict[str, dict[int | str, list[float]]] = {}
    paper: dict[str, dict[int | str, float]] = {}
    for line in lines:
        for run in select(group.runs, line):
            measured.setdefault(line.name, {}).setdefault(run.number, []).append(run.dice[MAIN_EVALUATION]["mean"])
        paper.setdefault(line.name, {}).update(line.paper)
    if len(measured) < 2:
        return ""
    path = group.figures / name
    draw_dice(path, f"{title}: {title_of(MAIN_EVALUATION)}", measured, paper, group.items)
    return group.link(path)


def curves_section(group: Group) -> str:
    """Draw the validation Dice of the runs whose curves were kept."""
    curves: dict[int | str, dict[str, list[Sequence[tuple[float, float]]]]] = {}
    for run in group.runs:
        if run.validation:
            curves.setdefault(run.number, {}).setdefault(run.cell.row, []).append(run.validation)
    if not curves:
        return ""
    path = group.figures / "training_curves.png"
    draw_training_curves(path, "Validation Dice while fine-tuning, a line for each run", curves)
    return f"## Training curves\n\n![Validation Dice by step]({group.link(path)})\n"


def pictured(group: Group) -> list[tuple[Run, str, Path]]:
    """List what is pictured: of each row the run with draw c1, the fewest labelled volumes and the first seed.

    Returns:
        The run, "worst", "median" or "best", and the file of the picture.
    """
    first: dict[str, Run] = {}
    for run in sorted(group.runs, key=lambda run: (labelled_order(run.number), run.cell.seed)):
        if run.cell.draw == "c1":
            first.setdefault(run.cell.row, run)
    return [(run, rank, group.figures / f"{run.cell.name}.{rank}.png") for run in first.values() for rank in _PICTURES]


def copy_pictures(group: Group, runs_dir: Path) -> None:
    """Copy the pictures of three test volumes from where the cells were run, made small."""
    for run, rank, path in pictured(group):
        evaluation = runs_dir / run.cell.folder / f"test_{Path(EVALUATIONS[MAIN_EVALUATION]).stem}"
        picture = evaluation / "pictures" / f"{run.volume(rank)[1]}.png"
        if picture.is_file():
            shrink_picture(picture, path)


def pictures_section(group: Group) -> str:
    """Show the pictures that were copied."""
    rows: dict[str, list[str]] = {}
    for run, rank, path in pictured(group):
        if path.is_file():
            dice, volume = run.volume(rank)
            entry = f"{rank}: {volume}, {number_of(dice)}<br>![{rank}]({group.link(path)})"
            rows.setdefault(f"{run.cell.row}, {run.number} labelled", []).append(entry)
    if not rows:
        return ""
    parts = [f"## Worst, median and best of the test {group.items}, of each row, draw c1\n", terms_of(group)]
    for row, entries in rows.items():
        parts.append(f"| {row} |{' |' * (len(entries) - 1)}\n|{'---|' * len(entries)}\n| {' | '.join(entries)} |\n")
    return "\n".join(parts)


def terms_of(group: Group) -> str:
    """Say where the terms of the volumes are that are shown."""
    bundle = bundle_of(group.dataset).relative_to(REPOSITORY).as_posix()
    return f"The terms of the {group.items} are in `{bundle}/docs/data_license.txt`.\n"
