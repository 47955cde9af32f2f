"""The short table: what the main rows reach with one, two and eight labelled volumes."""

from __future__ import annotations

from collections.abc import Sequence

from release.results import MAIN_EVALUATION

from ..grid import SCHEDULES
from .numbers import spread_of
from .runs import Group
from .tables import Line, select

MARKS = ("<!-- dice -->", "<!-- /dice -->")
"""The lines of a page between which the table is written."""
_ROWS = {
    "random": "random weights",
    "GD": "global pre-training (GD)",
    "GD+LR": "global and local pre-training (GD+LR)",
    "GD+beyond": "global pre-training, self-training in two runs (up to version 0.7)",
    "random+recommended": "random weights, the recommended recipe",
    "GD+recommended": "global pre-training (GD), the recommended recipe",
    "GD+frames": "the same, with the unlabelled images of both phases",
}
_LABELLED = (1, 2, 8)


def summary_of(groups: Sequence[Group]) -> str:
    """Write a table for each dataset that has one of the rows, from the runs with its longest schedule.

    Returns:
        For each dataset a line that says what was measured, and a table of a few rows; empty without a run.
    """
    longest: dict[str, Group] = {}
    for group in groups:  # those of a dataset come with the longest schedule first
        if any(run.cell.row in _ROWS and run.number in _LABELLED for run in group.runs):
            longest.setdefault(group.dataset, group)
    return "\n".join(_table(group) for group in longest.values())


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


def _table(group: Group) -> str:
    schedule, full = group.schedule, SCHEDULES["full"]
    volumes = sorted({len(run.ranked) for run in group.runs})
    compared = "the paper's" if schedule == full else f"shorter than the paper's: {full.lengths}"
    lines = [
        f"Dice on {group.dataset.upper()} over {' or '.join(map(str, volumes))} test volumes, ± standard deviation "
        "over runs. Their number is in brackets; where it differs, rows are of other draws. "
        f'Schedule "{schedule.name}": {schedule.lengths} ({compared}).\n',
        f"| fine-tuning from | {' | '.join(f'{number} labelled' for number in _LABELLED)} |",
        f"|---|{'---|' * len(_LABELLED)}",
    ]
    for row, words in _ROWS.items():
        chosen = [select(group.runs, Line(row, _LABELLED), number) for number in _LABELLED]
        if any(chosen):
            entries = (
                f"{spread_of([run.dice[MAIN_EVALUATION]['mean'] for run in runs])} ({len(runs)})" if runs else "–"
                for runs in chosen
            )
            lines.append(f"| {words} | {' | '.join(entries)} |")
    return "\n".join([*lines, ""])
