"""Pictures of segmentations: slices with the outlines of the label and of the prediction."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .display import Display, displayed_volume, window
from .files import atomic_file

COLOURS = ("#e41a1c", "#4daf4a", "#377eb8", "#ff7f00", "#984ea3", "#ffff33", "#a65628")


def draw_comparison(
    image_path: str | os.PathLike[str],
    label: np.ndarray | None,
    prediction: np.ndarray,
    class_names: Sequence[str],
    title: str,
    path: Path,
    num_slices: int = 4,
    uncertainty: np.ndarray | None = None,
) -> None:
    """Draw slices of a volume in columns: the image, the label's outlines, the prediction's outlines.

    Slices are shown as `displayed_volume` turns them, pixels in their true proportions.

    Args:
        image_path: see `displayed_volume`.
        label: (X, Y, Z) integers on the grid of the file, or None to leave its row out.
        prediction: (X, Y, Z) integers on the grid of the file.
        class_names: names of the classes, the background's first.
        title: of the picture.
        path: PNG file; its folder is made.
        num_slices: slices drawn, spread evenly over the volume.
        uncertainty: (X, Y, Z) from 0 to 1 on the grid of the file, shown in colours over the image; None leaves its
            row out.
    """
    given = {"label": label, "prediction": prediction, "uncertainty": uncertainty}
    known = {name: values for name, values in given.items() if values is not None}
    shown = displayed_volume(image_path, known)
    rows = ["image", *known]
    slices = np.unique(np.linspace(0, len(shown.image) - 1, num_slices + 2).round().astype(int)[1:-1])
    figure = Figure(figsize=(2.6 * len(slices), 2.6 * len(rows) + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), len(slices), squeeze=False)
    low, high = window(shown.image)
    for row, name in enumerate(rows):
        for column, index in enumerate(slices):
            axis: Axes = axes[row, column]
            axis.imshow(shown.image[index], cmap="gray", vmin=low, vmax=high, aspect=shown.aspect)
            axis.set_xticks([])
            axis.set_yticks([])
            if row == 0:
                axis.set_title(f"slice {index}", fontsize=8)
            if column == 0:
                axis.set_ylabel(name, fontsize=9)
            if name == "uncertainty":
                values = shown.maps[name][index]
                heat = axis.imshow(
                    values, cmap="inferno", vmin=0, vmax=1, alpha=np.clip(2 * values, 0, 1), aspect=shown.aspect
                )
                if column == 0:  # one for all, beside all, so that the columns stay in line
                    figure.colorbar(heat, ax=axes, shrink=0.25, anchor=(0.0, 0.1)).ax.tick_params(labelsize=7)
            elif name in shown.maps:
                for value in range(1, len(class_names)):
                    outline = shown.maps[name][index] == value
                    if outline.any():
                        axis.contour(outline.astype(float), levels=[0.5], colors=[colour(value)], linewidths=1.0)
    handles = [Line2D([], [], color=colour(value), label=name) for value, name in enumerate(class_names) if value > 0]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8)
    figure.suptitle(title, fontsize=9)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=110)


def colour(value: int) -> str:
    """Return the colour of a class by its index, from 1."""
    return COLOURS[(value - 1) % len(COLOURS)]


VOLUMES = Display(
    draw=draw_comparison,
    read=displayed_volume,
    colours=lambda number: [colour(value) for value in range(1, number + 1)],
    noun="volume",
    filled=False,
)
"""How volumes are displayed."""
