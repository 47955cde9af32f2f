"""The Dice that is expected of segmentations: how far it agrees with the true one, and what it would catch.

It is computed by `transforms.uncertainty`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import spearmanr
from torch import Tensor

from .files import atomic_file
from .pictures import colour
from .tables import write_table

SHARES = (0.1, 0.2, 0.3, 0.5)
"""Shares of the volumes that somebody could look at."""

_FEWEST = 3  # cases that have a rank correlation worth the name

Pairs = Sequence[tuple[float, float]]
"""Expected and true Dice of each case."""


def expected_row(values: Tensor, class_names: Sequence[str]) -> dict[str, float]:
    """Return expected Dice (K - 1,) by structure, and the mean.

    Args:
        values: (K - 1,).
        class_names: names by class index, the background's first.
    """
    return {**dict(zip(class_names[1:], values.tolist(), strict=True)), "mean": float(values.mean())}


def write_calibration(
    folder: Path,
    ids: Sequence[str],
    expected: Sequence[Mapping[str, float]],
    true: Sequence[Mapping[str, float | None]],
    pictures: bool,
) -> dict[str, Any] | None:
    """Write `expected_dice.csv`, the least sure volume first, and `expected_dice.png`.

    What an earlier evaluation has written there and this one does not is deleted.

    Args:
        folder: where to.
        ids: of the volumes.
        expected: for each volume what `expected_row` gives; none if nothing is expected.
        true: for each volume the true Dice under the same names.
        pictures: draw the plot.

    Returns:
        The same as plain values: "calibration" of each structure and of the mean, "look_at" and "volumes"; None without
        any volume.
    """
    table, plot = folder / "expected_dice.csv", folder / "expected_dice.png"
    if not expected:
        table.unlink(missing_ok=True)
        plot.unlink(missing_ok=True)
        return None
    names = list(expected[0])
    rows: list[dict[str, Any]] = [
        {
            "id": id_,
            **{f"{name}_expected": own[name] for name in names},
            **{f"{name}_true": dice[name] for name in names},
        }
        for id_, own, dice in zip(ids, expected, true, strict=True)
    ]
    rows.sort(key=lambda row: row["mean_expected"])
    pairs = {
        name: [(row[f"{name}_expected"], row[f"{name}_true"]) for row in rows if row[f"{name}_true"] is not None]
        for name in names
    }
    write_table(table, rows, list(rows[0]))
    if pictures and any(pairs.values()):
        draw_calibration(pairs, plot)
    else:
        plot.unlink(missing_ok=True)
    return {
        "calibration": {name: calibration(own) for name, own in pairs.items()},
        "look_at": look_at(pairs["mean"]),
        "volumes": rows,
    }


def rank_correlation(pairs: Pairs) -> float | None:
    """Compute Spearman's rank correlation; None for fewer than three cases, or if one side is all the same."""
    if len(pairs) < _FEWEST:
        return None
    expected, true = np.array(pairs, np.float64).T
    if np.ptp(expected) == 0 or np.ptp(true) == 0:
        return None
    return float(spearmanr(expected, true).statistic)


def calibration(pairs: Pairs) -> dict[str, float | int | None]:
    """Describe the agreement of expected and true Dice.

    Args:
        pairs: expected and true Dice of each case.

    Returns:
        "number" of cases, "rank_correlation", "mean_expected", "mean_true", "mean_absolute_error"; None where there are
        too few cases.
    """
    values = np.array(pairs, np.float64).reshape(-1, 2)
    means = values.mean(axis=0).tolist() if len(values) else [None, None]
    return {
        "number": len(values),
        "rank_correlation": rank_correlation(pairs),
        "mean_expected": means[0],
        "mean_true": means[1],
        "mean_absolute_error": float(np.abs(values[:, 0] - values[:, 1]).mean()) if len(values) else None,
    }


def look_at(pairs: Pairs, shares: Sequence[float] = SHARES) -> list[dict[str, Any]]:
    """Say what somebody would find who looks at the volumes with the lowest expected Dice.

    Args:
        pairs: expected and true Dice of each volume, each the mean over its structures.
        shares: of the volumes that are looked at.

    Returns:
        For each share: "number" of volumes that are looked at; "threshold", the highest expected Dice among them;
        "worst_caught", how many of as many truly worst ones are among them; "caught_by_chance", how many would be if
        the volumes were drawn; "mean_true" of those that are looked at, and "mean_true_of_others".
    """
    values = np.array(pairs, np.float64).reshape(-1, 2)
    by_expected, by_truth = (values[:, column].argsort(kind="stable") for column in (0, 1))
    rows = []
    for share in shares:
        number = math.ceil(share * len(values) - 1e-9)
        if not 0 < number < len(values):
            continue
        seen, others = by_expected[:number], by_expected[number:]
        rows.append(
            {
                "share": share,
                "number": number,
                "threshold": float(values[seen[-1], 0]),
                "worst_caught": len({*seen.tolist()} & {*by_truth[:number].tolist()}),
                "caught_by_chance": number * number / len(values),
                "mean_true": float(values[seen, 1].mean()),
                "mean_true_of_others": float(values[others, 1].mean()),
            }
        )
    return rows


def draw_calibration(pairs: Mapping[str, Pairs], path: Path) -> None:
    """Draw true against expected Dice for each structure and for the mean of them.

    Args:
        pairs: expected and true Dice of each volume, by structure.
        path: PNG file; its folder is made.
    """
    figure = Figure(figsize=(3.0 * len(pairs) + 0.4, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(pairs), squeeze=False)[0]
    for index, (axis, (name, own)) in enumerate(zip(axes, pairs.items(), strict=True)):
        _draw(axis, own, colour(index + 1))
        correlation = rank_correlation(own)
        axis.set_title(name if correlation is None else f"{name}: rank correlation {correlation:.2f}", fontsize=9)
        axis.set_xlabel("expected Dice", fontsize=8)
        axis.tick_params(labelsize=7)
    axes[0].set_ylabel("true Dice", fontsize=8)
    figure.suptitle("Expected and true Dice of each volume; the line is where both are equal", fontsize=10)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _draw(axis: Axes, pairs: Pairs, dots: str) -> None:
    values = np.array(pairs, np.float64).reshape(-1, 2)
    axis.scatter(values[:, 0], values[:, 1], s=14, color=dots, alpha=0.8, linewidths=0)
    if len(values):
        low, high = max(0.0, float(values.min()) - 0.03), min(1.0, float(values.max()) + 0.03)
        axis.plot([low, high], [low, high], color="0.5", linewidth=0.8)
        axis.set_xlim(low, high)
        axis.set_ylim(low, high)
    axis.set_aspect("equal")
