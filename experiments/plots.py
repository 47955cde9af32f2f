"""The report's curves as small PNG files; all numbers come from the caller."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from release.pictures import save_picture

_COLOURS = matplotlib.colormaps["tab20"].colors


def labelled_order(number: int | str) -> tuple[bool, int | str]:
    """Key that sorts numbers of labelled volumes, "all" as the largest."""
    return isinstance(number, str), number


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure of this size in inches that needs no display."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG with few colours, which makes it a fraction as large."""
    figure.canvas.draw()
    save_picture(Image.fromarray(np.asarray(figure.canvas.buffer_rgba())), path)


def draw_dice(
    path: Path,
    title: str,
    measured: Mapping[str, Mapping[int | str, Sequence[float]]],
    paper: Mapping[str, Mapping[int | str, float]],
) -> None:
    """Draw test Dice against the number of labelled volumes: a line for each row, whose bars are standard deviations.

    Args:
        path: PNG file.
        title: of the figure.
        measured: Dice of the runs, by row and number of labelled volumes.
        paper: what the paper has, in the same form; drawn as crosses of the row's colour.
    """
    numbers = sorted({number for values in measured.values() for number in values}, key=labelled_order)
    figure = new_figure(7, 4)
    axes = figure.subplots()
    for index, (row, values) in enumerate(measured.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        offset = 0.3 * ((index + 0.5) / len(measured) - 0.5)  # bars side by side, not one on another
        known = [number for number in numbers if number in values]
        places = [numbers.index(number) + offset for number in known]
        means = [statistics.mean(values[number]) for number in known]
        spreads = [statistics.stdev(values[number]) if len(values[number]) > 1 else 0.0 for number in known]
        axes.errorbar(places, means, yerr=spreads, color=colour, marker="o", markersize=4, capsize=3, label=row)
        published = [number for number in numbers if number in paper.get(row, {})]
        crosses = [numbers.index(number) + offset for number in published]
        axes.plot(crosses, [paper[row][number] for number in published], "x", color=colour)
    axes.plot([], [], "x", color="grey", label="the paper's")
    axes.set_xticks(range(len(numbers)), [str(number) for number in numbers])
    axes.set_xlim(-0.5, len(numbers) - 0.5)
    axes.set_xlabel("labelled volumes")
    axes.set_ylabel("test Dice")
    figure.suptitle(title, fontsize=9)
    axes.grid(axis="y", linewidth=0.3)
    figure.legend(loc="outside right center", fontsize=8)
    save_figure(figure, path)


def draw_training_curves(
    path: Path, title: str, curves: Mapping[int | str, Mapping[str, Sequence[Sequence[tuple[float, float]]]]]
) -> None:
    """Draw validation Dice by step: a panel for each number of labelled volumes, a colour for each row.

    Args:
        path: PNG file.
        title: of the figure.
        curves: by number of labelled volumes and row the curves of all runs, each a list of points (step, Dice).
    """
    rows = list(dict.fromkeys(row for by_row in curves.values() for row in by_row))
    figure = new_figure(3.2 * len(curves) + 1.6, 3.4)
    panels = figure.subplots(1, len(curves), squeeze=False, sharey=True)[0]
    for axes, number in zip(panels, sorted(curves, key=labelled_order), strict=True):
        for row, runs in curves[number].items():
            for points in runs:
                steps, values = zip(*points, strict=True)
                axes.plot(steps, values, color=_COLOURS[rows.index(row) % len(_COLOURS)], linewidth=0.8)
        axes.set_title(f"{number} labelled", fontsize=9)
        axes.set_xlabel("fine-tuning step")
        axes.grid(axis="y", linewidth=0.3)
    panels[0].set_ylabel("validation Dice")
    for index, row in enumerate(rows):
        panels[0].plot([], [], color=_COLOURS[index % len(_COLOURS)], label=row)
    figure.suptitle(title, fontsize=9)
    figure.legend(loc="outside right center", fontsize=8)
    save_figure(figure, path)
