"""Tables of rows, with the paper's numbers beside ours, and what is gained from row to row."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise

from release.results import EVALUATIONS, MAIN_EVALUATION

from ..grid import SCHEDULES, Schedule
from ..plots import labelled_order
from ..tables import Table
from .numbers import differences, mean_of, number_of, runs_and_draws, spread_of, standard_error, with_error
from .runs import Run

_ORDER = ("random", "GR", "GD", "GD+LR")
_FURTHER = [name for name in EVALUATIONS if name != MAIN_EVALUATION]


@dataclass(frozen=True)
class Line:
    """A row of a table: runs of this name with these numbers of labelled volumes, and what the paper has for them."""

    name: str
    num_labelled: Sequence[int | str]
    paper: Mapping[int | str, float] = field(default_factory=dict)


def comparison(schedule: Schedule) -> str:
    """Say how long the stages are, and whether the paper's are as long."""
    full = SCHEDULES["full"]
    if replace(schedule, name=full.name) == full:
        return f"The paper's schedule: {schedule.lengths}."
    return f"**Not the paper's schedule: {schedule.lengths}; the paper's: {full.lengths}.**"


def table_of(
    lines: Sequence[Line],
    runs: Sequence[Run],
    baseline: str = Table.baseline,
    further_gains: Sequence[tuple[str, str]] = (),
) -> str:
    """Write the table of the main evaluation and, folded, those of the others whose gains are other ones.

    Args:
        lines: the rows; those without a run are left out.
        runs: of one dataset and schedule.
        baseline: name of the row that gains are counted from.
        further_gains: see `Table`.
    """
    parts = [f"**{title_of(MAIN_EVALUATION)}**\n", _evaluation(lines, runs, MAIN_EVALUATION, baseline, further_gains)]
    said = _directions(lines, runs, MAIN_EVALUATION, baseline, further_gains)
    same = [name for name in _FURTHER if _directions(lines, runs, name, baseline, further_gains) == said]
    for evaluation in (name for name in _FURTHER if name not in same):
        content = _evaluation(lines, runs, evaluation, baseline, further_gains)
        parts.append(f"<details><summary>{title_of(evaluation)}</summary>\n\n{content}\n</details>\n")
    if same:
        alike = ", of which every gain is as far above, within or below its standard error" if said else ""
        parts.append(
            f"Other checkpoints and statistics{alike}: {'; '.join(same)}. [All runs](runs.md) has their Dice.\n"
        )
    return "\n".join(parts)


def title_of(evaluation: str) -> str:
    """Say in words which checkpoint and statistics an evaluation is of."""
    checkpoint, statistics_ = evaluation.split(", ")
    return f"{checkpoint.capitalize()} checkpoint, batch-norm statistics: {statistics_}"


def _directions(
    lines: Sequence[Line],
    runs: Sequence[Run],
    evaluation: str,
    baseline: str,
    further_gains: Sequence[tuple[str, str]],
) -> dict[tuple[int | str, str, str], int]:
    """Return of each gain with several pairs whether it is above its standard error, 1, within, 0, or below, -1."""
    asked = {(baseline, line.name) for line in lines} | {*further_gains, *pairwise(_ORDER)}
    found = {}
    for number in {run.number for line in lines for run in select(runs, line)}:
        for first, second in asked:
            difference = differences(runs, first, second, number, evaluation)
            if first != second and len(difference) > 1:
                mean, error = statistics.mean(difference), standard_error(difference)
                found[number, first, second] = (mean > error) - (mean < -error)
    return found


def _evaluation(
    lines: Sequence[Line],
    runs: Sequence[Run],
    evaluation: str,
    baseline: str,
    further_gains: Sequence[tuple[str, str]],
) -> str:
    """Write the table of one evaluation, the gains over the baseline, and whether the paper's order holds."""
    numbers = sorted({run.number for line in lines for run in select(runs, line)}, key=labelled_order)
    structures = [name for name in dict.fromkeys(chain(*(run.dice[evaluation] for run in runs))) if name != "mean"]
    further = ["IoU"] if any(run.iou for run in runs) else []
    means = [
        f"| labelled | row | runs | {' | '.join(['Dice', *further, *structures])} | paper | ours − paper |",
        f"|---|---|---|---|{'---|' * len([*further, *structures])}---|---|",
    ]
    gains = ["| labelled | gain | pairs | mean ± standard error |", "|---|---|---|---|"]
    for number in numbers:
        for line in (line for line in lines if number in line.num_labelled):
            chosen, paper = select(runs, line, number), line.paper.get(number)
            if chosen:
                dice = [run.dice[evaluation]["mean"] for run in chosen]
                entries = [
                    runs_and_draws(chosen),
                    spread_of(dice),
                    *(mean_of(run.iou[evaluation] for run in chosen) for _ in further),
                    *(mean_of(run.dice[evaluation].get(name) for run in chosen) for name in structures),
                    "–" if paper is None else number_of(paper),
                    "–" if paper is None else f"{statistics.mean(dice) - paper:+.3f}",
                ]
                means.append(f"| {number} | {line.name} | {' | '.join(entries)} |")
            firsts = [baseline, *(first for first, second in further_gains if second == line.name)]
            for first in (first for first in firsts if first != line.name):
                if difference := differences(runs, first, line.name, number, evaluation):
                    error = with_error(difference)
                    gains.append(f"| {number} | {line.name} − {first} | {len(difference)} | {error} |")
    parts = ["\n".join(means), ""]
    if len(gains) > 2:
        parts += ["Gains, paired by draw and seed:\n", "\n".join(gains), ""]
    return "\n".join([*parts, *_order_holds(lines, runs, numbers, evaluation)])


def _order_holds(
    lines: Sequence[Line], runs: Sequence[Run], numbers: Sequence[int | str], evaluation: str
) -> list[str]:
    """Say whether every row is better than the one before by more than the standard error, where a table has all."""
    own = {line.name: line.num_labelled for line in lines if line.name in _ORDER}
    asked = [number for number in numbers if number in own.get(_ORDER[-1], ())]
    if len(own) < len(_ORDER) or not asked:
        return []
    parts = [f"Does {' < '.join(_ORDER)} hold, each step by more than the standard error of the paired difference?\n"]
    for number in asked:
        present = [name for name in _ORDER if any(select(runs, line, number) for line in lines if line.name == name)]
        missing = [name for name in _ORDER if name not in present]
        verdicts: list[bool | None] = [None] * len(missing)
        details: list[str] = []
        for first, second in pairwise(present):
            difference = differences(runs, first, second, number, evaluation)
            verdicts.append(statistics.mean(difference) > standard_error(difference) if len(difference) > 1 else None)
            answer = {True: "yes", False: "no", None: "too few pairs"}[verdicts[-1]]
            measured = f", {with_error(difference)}, pairs: {len(difference)}" if difference else ""
            details.append(f"{first} < {second} ({answer}{measured})")
        if missing:
            details.append(f"not run: {', '.join(missing)}")
        verdict = "no" if False in verdicts else "not known" if None in verdicts else "yes"
        parts.append(f"- {number} labelled: **{verdict}**; {'; '.join(details)}.")
    return [*parts, ""]


def select(runs: Iterable[Run], line: Line, number: int | str | None = None) -> list[Run]:
    """Return the runs of a row, all or those with this number of labelled volumes."""
    own = (run for run in runs if run.cell.row == line.name and run.number in line.num_labelled)
    return [run for run in own if number in (None, run.number)]


def table_name(number: int | str) -> str:
    """Return what a table is called."""
    return f"Table {number}" if isinstance(number, int) else f'Table "{number}"'
