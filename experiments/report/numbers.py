"""Means, spreads and paired differences of runs, as the report writes them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from .runs import Run


def differences(runs: Iterable[Run], first: str, second: str, number: int | str, evaluation: str) -> list[float]:
    """Return by how much the second row is better than the first, for every draw and seed that both have."""
    by_draw: dict[str, dict[tuple[str, int], float]] = {first: {}, second: {}}
    for run in runs:
        if run.cell.row in by_draw and run.number == number:
            by_draw[run.cell.row][run.cell.draw, run.cell.seed] = run.dice[evaluation]["mean"]
    return [value - by_draw[first][key] for key, value in by_draw[second].items() if key in by_draw[first]]


def runs_and_draws(runs: Sequence[Run]) -> str:
    """Write how many runs these are, and of how many draws."""
    draws = {run.cell.draw for run in runs}
    return f"{len(runs)} ({len(draws)} draw{'s' if len(draws) > 1 else ''})"


def number_of(value: float) -> str:
    """Write a Dice or an accuracy."""
    return f"{value:.3f}".lstrip("0")


def mean_of(values: Iterable[float | None]) -> str:
    """Write the mean of what is known; a structure may be absent from a test set."""
    known = [value for value in values if value is not None]
    return number_of(statistics.mean(known)) if known else "–"


def spread_of(values: Sequence[float]) -> str:
    """Write the mean and, of several values, their standard deviation."""
    return mean_of(values) + (f" ± {number_of(statistics.stdev(values))}" if len(values) > 1 else "")


def standard_error(values: Sequence[float]) -> float:
    """Return the standard error of the mean of at least two values."""
    return statistics.stdev(values) / len(values) ** 0.5


def is_clear(values: Sequence[float]) -> bool:
    """Whether the mean of several differences is further from 0 than twice its standard error."""
    return len(values) > 1 and abs(statistics.mean(values)) > 2 * standard_error(values)


def with_error(values: Sequence[float]) -> str:
    """Write the mean with its sign and, of several values, its standard error."""
    return f"{statistics.mean(values):+.3f}" + (f" ± {number_of(standard_error(values))}" if len(values) > 1 else "")
