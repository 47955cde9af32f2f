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

_COLOURS = [matplotlib.colormaps["tab20"](index) for index in range(20)]


def labelled_order(number: int | str) -> tuple[bool, int | str]:
    """Key that sorts numbers of labelled volumes, "all" as the largest."""
    return isinstance(number, str), number


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure of this size in inches that needs no display."""
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG with few colours, which makes it a fraction as large."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    save_picture(Image.fromarray(np.asarray(canvas.buffer_rgba())), path)


def draw_dice(
    path: Path,
    title: str,
    measured: Mapping[str, Mapping[int | str, Sequence[float]]],
    paper: Mapping[str, Mapping[int | str, float]],
    items: str = "volumes",
) -> None:
    """Draw test Dice against the number of what is labelled: a line for each row, whose bars are standard deviations.

    Args:
        path: PNG file.
        title: of the figure.
        measured: Dice of the runs, by row and number of labelled items.
        paper: what the paper has, in the same form; drawn as crosses of the row's colour.
        items: what is labelled, in one word.
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
    if any(paper.values()):
        axes.plot([], [], "x", color="grey", label="the paper's")
    axes.set_xticks(range(len(numbers)), [str(number) for number in numbers])
    axes.set_xlim(-0.5, len(numbers) - 0.5)
    axes.set_xlabel(f"labelled {items}")
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


def draw_curve(path: Path, lines: Mapping[int, Mapping[int, float]], volumes: Mapping[int, Sequence[float]]) -> None:
    """Draw Dice on held-out volumes by the number of labelled ones: a line for each order, and every volume as a dot.

    Args:
        path: PNG file.
        lines: mean Dice by order and number.
        volumes: Dice of the volumes in all orders, by number; dots of one number lie side by side.
    """
    numbers = sorted(volumes)
    figure = new_figure(6.4, 4)
    axes = figure.subplots()
    for place, number in enumerate(numbers):
        values = sorted(volumes[number])
        sides = np.linspace(-0.22, 0.22, len(values)) if len(values) > 1 else [0.0]
        axes.scatter(place + np.asarray(sides), values, s=9, color="0.75", linewidths=0, zorder=1)
    for order, line in lines.items():
        known = [number for number in numbers if number in line]
        places = [numbers.index(number) for number in known]
        axes.plot(places, [line[number] for number in known], color="#7fb0d6", linewidth=0.9, zorder=2)
        axes.plot([], [], color="#7fb0d6", linewidth=0.9, label="an order of volumes" if order == min(lines) else None)
    known = [number for number in numbers if any(number in line for line in lines.values())]
    own = {number: [line[number] for line in lines.values() if number in line] for number in known}
    axes.errorbar(
        [numbers.index(number) for number in known],
        [statistics.mean(own[number]) for number in known],
        yerr=[statistics.stdev(own[number]) if len(own[number]) > 1 else 0.0 for number in known],
        color="#0b4f7a",
        marker="o",
        markersize=5,
        capsize=4,
        zorder=3,
        label="mean over orders, ± standard deviation",
    )
    axes.scatter([], [], s=9, color="0.75", label="a held-out volume")
    axes.set_xticks(range(len(numbers)), [str(number) for number in numbers])
    axes.set_xlabel("labelled volumes")
    axes.set_ylabel("Dice on held-out volumes")
    axes.grid(axis="y", linewidth=0.3)
    axes.legend(fontsize=8, loc="lower right")
    save_figure(figure, path)


def draw_choices(path: Path, choices: Mapping[int, Mapping[str, float]]) -> None:
    """Draw the Dice of choices of volumes by their number: draws at random grey, the paper's blue, rules by name.

    Args:
        path: PNG file.
        choices: Dice by number of labelled volumes and name of the choice, "random 1" and "paper c1" among them.
    """
    figure = new_figure(6.4, 4)
    axes = figure.subplots()
    marks = {"random": ("0.6", "o"), "paper": ("#0b4f7a", "s")}
    for place, dice in enumerate(choices.values()):
        rules: dict[float, list[str]] = {}  # rules that choose the same share a mark
        for name, value in dice.items():
            if name.split()[0] in marks:
                colour, mark = marks[name.split()[0]]
                axes.scatter(place, value, color=colour, marker=mark, s=30, alpha=0.8, linewidths=1.2)
            else:
                rules.setdefault(value, []).append(name)
        for value, names in rules.items():
            axes.scatter(place, value, color="#c0392b", marker="_", s=60, linewidths=2)
            axes.annotate(", ".join(names), (place, value), xytext=(10, -3), textcoords="offset points", fontsize=8)
    for label, (colour, mark) in {"drawn at random": marks["random"], "the paper's draws": marks["paper"]}.items():
        axes.scatter([], [], color=colour, marker=mark, s=30, label=label)
    axes.set_xticks(range(len(choices)), [str(number) for number in choices])
    axes.set_xlim(-0.5, len(choices) - 0.2)
    axes.set_xlabel("labelled volumes")
    axes.set_ylabel("Dice on held-out volumes")
    axes.grid(axis="y", linewidth=0.3)
    axes.legend(fontsize=8, loc="lower right")
    save_figure(figure, path)
