"""The short table: what the main rows reach with one, two and eight labelled volumes, and what helps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bundles.run import REPOSITORY
from common.records import read_record
from release.results import MAIN_EVALUATION

from ..grid import SCHEDULES, TRIAL
from ..recipes import RECIPES, RECOMMENDED
from ..tables import paper_dice
from .numbers import differences, is_clear, number_of, spread_of, with_error
from .runs import Group
from .tables import Line, select

MARKS = ("<!-- dice -->", "<!-- /dice -->")
"""The lines of a page between which the table is written."""
_ROWS = {
    "random": "random weights",
    "GR": "global pre-training, slices drawn at random (GR)",
    "GD": "global pre-training (GD)",
    "GD+LR": "global and local pre-training (GD+LR)",
    "random+recommended": "random weights, the recommended recipe",
    "GD+recommended": "global pre-training (GD), the recommended recipe",
}
BASELINE = REPOSITORY / "benchmarks" / "results" / "strong_baseline.json"
"""What another network reaches with the same labels, on ACDC."""
_Baseline = dict[tuple[str, int, str], dict[str, Any]]
"""Rows of that file by length ("matched" or "own best"), number of labelled volumes and draw."""
_BASELINE_ROWS = {
    "matched": "random weights, labelled volumes only: DynUNet of half nnU-Net's width trained as nnU-Net trains, for "
    "the computing time of the recommended recipe without the pre-training",
    "own best": "the same DynUNet for the best of the times that were tried",
}
_RECOMMENDED = f"GD+{RECOMMENDED}"
_GAINS = {
    "Global pre-training (GD) in place of random weights": {
        ("random", "GD"): "with the paper's fine-tuning",
        (f"random+{RECOMMENDED}", _RECOMMENDED): "with the recommended recipe",
    },
    f"The recommended recipe ({RECIPES[RECOMMENDED].steps} steps) from that pre-training": {
        ("GD", _RECOMMENDED): "in place of the paper's fine-tuning",
        ("own best", _RECOMMENDED): "in place of the DynUNet for the best of the times that were tried",
    },
    "Parts of the pre-training, with the paper's fine-tuning": {
        ("GR", "GD"): "partners of the same level (GD) in place of slices drawn at random (GR)",
        ("GD", "GD+LR"): "a local stage on top (GD+LR)",
    },
}
_LABELLED = (1, 2, 8)


def summary_of(groups: Sequence[Group], baseline: Path | None = None) -> str:
    """Write a table for each dataset that has one of the rows, and what helps by how much.

    Args:
        groups: runs by dataset and schedule.
        baseline: result file of `python -m benchmarks run strong_baseline --dataset_dir DIR`, whose rows follow those
            of ACDC. None, a file that is not there, or one of phantoms adds none.

    Returns:
        For each dataset a line that says what was measured, a table of a few rows with the paper's numbers, and up to
        three sentences of the gains that there are pairs of; empty without a run.

    Raises:
        RecordError: if the result file is damaged.
    """
    datasets: dict[str, list[Group]] = {}
    for group in groups:  # those of a dataset come with the longest schedule first
        if any(run.cell.row in _ROWS and run.number in _LABELLED for run in group.runs):
            datasets.setdefault(group.dataset, []).append(group)
    beside = {"acdc": _read_baseline(baseline)} if baseline and baseline.is_file() else {}
    return "\n".join(_of_dataset(own, beside.get(name, {})) for name, own in datasets.items())


def with_summary(page: str, summary: str, name: str) -> str:
    """Return a page with the table between its marks.

    Args:
        page: text with each of the two `MARKS` once, on a line of its own.
        summary: of `summary_of`.
        name: what the page is called in an error.

    Raises:
        ValueError: if a mark is missing, comes twice, or they are in the wrong order.
    """
    first, last = MARKS
    lines = page.splitlines()
    if not (lines.count(first) == lines.count(last) == 1 and lines.index(first) < lines.index(last)):
        raise ValueError(f"{name} must have the lines {first} and {last} once each, in this order: add them.")
    before, after = lines[: lines.index(first) + 1], lines[lines.index(last) :]
    return "\n".join([*before, "", *summary.splitlines(), "", *after, ""])


def main_lines(group: Group) -> list[Line]:
    """Return the rows of the short table that a dataset and schedule have runs of, with what the paper has for them."""
    paper = paper_dice(6, group.dataset)
    lines = [Line(row, _LABELLED, paper.get(row, {})) for row in _ROWS]
    return [line for line in lines if select(group.runs, line)]


def _of_dataset(groups: Sequence[Group], baseline: _Baseline) -> str:
    """Write what there is of a dataset, the longest schedule first, and the other network beside it."""
    # A rehearsal says nothing beside runs that are meant.
    groups = [group for group in groups if group.schedule.name != TRIAL] or groups
    full = SCHEDULES["full"]
    volumes = sorted({len(run.ranked) for group in groups for run in group.runs})
    schedules = []
    for schedule in (group.schedule for group in groups):
        compared = "the paper's" if schedule == full else f"shorter than the paper's: {full.lengths}"
        schedules.append(f'Schedule "{schedule.name}": {schedule.lengths} ({compared}).')
    lines = [
        f"Dice on {groups[0].title} over {' or '.join(map(str, volumes))} test volumes, ± standard deviation "
        "over runs. Their number is in brackets; where it differs, rows are of other draws. "
        f"{' '.join(schedules)}\n",
        f"| fine-tuning from | {' | '.join(f'{number} labelled' for number in _LABELLED)} |",
        f"|---|{'---|' * len(_LABELLED)}",
    ]
    for group in groups:
        suffix = f", schedule {group.schedule.name}" if len(groups) > 1 else ""
        for line in main_lines(group):
            entries = (_entry(group, line, number) for number in _LABELLED)
            lines.append(f"| {_ROWS[line.name]}{suffix} | {' | '.join(entries)} |")
    lines += _baseline_lines(baseline)
    for group in groups:
        lines += _sentences(group, baseline)
    return "\n".join([*lines, ""])


def _read_baseline(path: Path) -> _Baseline:
    """Read what there is of the other network; its Dice on phantoms says nothing."""
    content = read_record(path, "make it anew with `python -m benchmarks run strong_baseline --dataset_dir DIR`")
    if "--dataset_dir" not in content["command"]:
        return {}
    return {(row["length"], row["labelled"], row["draw"]): row for row in content["rows"]}


def _baseline_lines(baseline: _Baseline) -> list[str]:
    """Write the rows of the other network: a line for each length of its training."""
    lines = []
    for length, words in _BASELINE_ROWS.items() if baseline else ():
        rows = {number: _rows(baseline, length, number) for number in _LABELLED}
        entries = (_with_number([row["Dice"] for row in own]) for own in rows.values())
        times = [
            f"{own[0]['steps'] / matched[0]['steps']:.2g} x with {number} labelled"
            for number, own in rows.items()
            if own and length != "matched" and (matched := _rows(baseline, "matched", number))
        ]
        label = f"{words} ({', '.join(times)})" if times else words
        lines.append(f"| {label} | {' | '.join(entries)} |")
    return lines


def _rows(baseline: _Baseline, length: str, number: int) -> list[dict[str, Any]]:
    return [row for key, row in baseline.items() if key[:2] == (length, number)]


def _entry(group: Group, line: Line, number: int) -> str:
    own = _with_number([run.dice[MAIN_EVALUATION]["mean"] for run in select(group.runs, line, number)])
    return f"{own}, paper {number_of(line.paper[number])}" if number in line.paper else own


def _with_number(dice: Sequence[float]) -> str:
    return f"{spread_of(dice)} ({len(dice)})" if dice else "–"


def _sentences(group: Group, baseline: _Baseline) -> list[str]:
    """Say how large gains are, paired by draw and seed, and whether that is more than chance."""
    sentences = []
    for subject, gains in _GAINS.items():
        clauses = (_clause(group, baseline, *rows, words) for rows, words in gains.items())
        if said := "; ".join(filter(None, clauses)):
            sentences.append(f"- {subject}: {said}.")
    if not sentences:
        return []
    title = f'What changes the Dice, and by how much, at the schedule "{group.schedule.name}"'
    return [f"\n{title} (Dice ± standard error; bold if more than twice that):\n", *sentences]


def _clause(group: Group, baseline: _Baseline, first: str, second: str, words: str) -> str:
    """Write one gain for each number of labelled volumes; empty without a pair."""
    parts = []
    for number in _LABELLED:
        if first in _BASELINE_ROWS:
            found = [
                run.dice[MAIN_EVALUATION]["mean"] - baseline[key]["Dice"]
                for run in group.runs
                if (run.cell.row, run.number) == (second, number)
                and (key := (first, number, run.cell.draw)) in baseline
            ]
        else:
            found = differences(group.runs, first, second, number, MAIN_EVALUATION)
        if found:
            mark = "**" if is_clear(found) else ""
            pairs = f"{len(found)} pair{'s' if len(found) > 1 else ''}"
            parts.append(f"{mark}{with_error(found)}{mark} with {number} labelled ({pairs})")
    return f"{words} {', '.join(parts)}" if parts else ""
