"""How well a measure of predictions agrees with that of labels: bias, limits of agreement, and plots of both.

Bland and Altman, Statistical methods for assessing agreement between two methods of clinical measurement, Lancet 1986.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .files import atomic_file
from .pictures import colour

_NORMAL_95 = 1.96  # standard deviations around the mean that hold 95 % of a normal distribution
_FEWEST = 2  # pairs that have a standard deviation

Pairs = Sequence[tuple[float, float]]
"""The measure of prediction and label for each case."""


def agreement(pairs: Pairs) -> dict[str, float | int | None]:
    """Describe the differences, prediction minus label.

    Args:
        pairs: prediction and label of each case.

    Returns:
        "number" of cases; "bias", the mean difference; "lower_limit" and "upper_limit", between which 95 % of the
        differences lie if they are normally distributed; "mean_absolute_difference". What cannot be computed from so
        few cases is None.
    """
    differences = np.array([prediction - label for prediction, label in pairs], np.float64)
    if not len(differences):
        keys = ("bias", "lower_limit", "upper_limit", "mean_absolute_difference")
        return {"number": 0, **dict.fromkeys(keys)}
    bias = float(differences.mean())
    spread = _NORMAL_95 * float(differences.std(ddof=1)) if len(differences) >= _FEWEST else None
    return {
        "number": len(differences),
        "bias": bias,
        "lower_limit": None if spread is None else bias - spread,
        "upper_limit": None if spread is None else bias + spread,
        "mean_absolute_difference": float(np.abs(differences).mean()),
    }


def draw_agreement(pairs: Mapping[str, Pairs], measure: str, unit: str, path: Path) -> None:
    """Draw for each structure prediction against label, and below the difference against the mean of both.

    Args:
        pairs: prediction and label of each case, by structure.
        measure: what is compared, such as "volume".
        unit: of the measure.
        path: PNG file; its folder is made.
    """
    figure = Figure(figsize=(3.2 * len(pairs) + 0.4, 6.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(pairs), squeeze=False)
    for index, (name, own) in enumerate(pairs.items()):
        values = np.array(own, np.float64).reshape(-1, 2)
        dots: dict[str, Any] = {"s": 14, "color": colour(index + 1), "alpha": 0.8, "linewidths": 0}
        _draw_scatter(axes[0, index], values, dots)
        _draw_differences(axes[1, index], values, own, unit, dots)
        axes[0, index].set_title(name, fontsize=10)
        axes[0, index].set_xlabel(f"label [{unit}]", fontsize=8)
        axes[1, index].set_xlabel(f"mean of both [{unit}]", fontsize=8)
    axes[0, 0].set_ylabel(f"prediction [{unit}]", fontsize=8)
    axes[1, 0].set_ylabel(f"prediction - label [{unit}]", fontsize=8)
    for axis in axes.flat:
        axis.tick_params(labelsize=7)
    figure.suptitle(f"{measure}: agreement of prediction and label", fontsize=10)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _draw_scatter(axis: Axes, values: np.ndarray, dots: dict[str, Any]) -> None:
    axis.scatter(values[:, 1], values[:, 0], **dots)
    if len(values):
        low, high = float(values.min()), float(values.max())
        margin = 0.05 * (high - low) or 1.0
        axis.plot([low - margin, high + margin], [low - margin, high + margin], color="0.5", linewidth=0.8)
        axis.set_aspect("equal", adjustable="datalim")


def _draw_differences(axis: Axes, values: np.ndarray, own: Pairs, unit: str, dots: dict[str, Any]) -> None:
    axis.scatter(values.mean(axis=1), values[:, 0] - values[:, 1], **dots)
    numbers = agreement(own)
    for key, style in (("bias", "-"), ("lower_limit", "--"), ("upper_limit", "--")):
        if (value := numbers[key]) is not None:
            axis.axhline(value, color="0.3", linewidth=0.9, linestyle=style)
    axis.axhline(0.0, color="0.8", linewidth=0.6, zorder=0)
    if numbers["lower_limit"] is not None:
        axis.set_title(
            f"bias {numbers['bias']:.1f}, limits {numbers['lower_limit']:.1f} to {numbers['upper_limit']:.1f} {unit}",
            fontsize=8,
        )
