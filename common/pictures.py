"""Pictures of segmentations: slices with the outlines of the label and of the prediction."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .display import Display, displayed_volume, window
from .files import atomic_file

COLOURS = ("#e41a1c", "#4daf4a", "#377eb8", "#ff7f00", "#984ea3", "#ffff33", "#a65628")
_PANEL, _LEFT, _RIGHT, _TOP, _LINE, _BOTTOM = 2.5, 0.3, 0.1, 0.4, 0.15, 0.35  # inches, a panel's longer side first
_GAP = 0.03  # between panels, of their width
_COMPRESSION = 1  # more takes as long as the drawing, and saves little


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
    # All panels are one image in one pair of axes: matplotlib takes several times longer for a pair for each.
    height, width = shown.image.shape[1:]
    gap_width = max(1, round(_GAP * width))
    gap_height = max(1, round(gap_width / shown.aspect))
    pitch = height + gap_height, width + gap_width
    lines = title.count("\n") + 1
    figure, axis = _figure(len(rows), len(slices), pitch, shown.aspect, uncertainty is not None, lines)
    strip = _side_by_side(shown.image[slices], *pitch)
    low, high = window(shown.image)
    axis.imshow(np.tile(strip, (len(rows), 1)), cmap="gray", vmin=low, vmax=high, aspect=shown.aspect)
    for row, name in enumerate(rows[1:], start=1):
        strip = _side_by_side(shown.maps[name][slices], *pitch)
        down, across = row * pitch[0] + np.arange(len(strip)), np.arange(strip.shape[1])
        if name == "uncertainty":
            place = across[0] - 0.5, across[-1] + 0.5, down[-1] + 0.5, down[0] - 0.5
            options: dict[str, Any] = {"cmap": "inferno", "vmin": 0, "vmax": 1, "aspect": shown.aspect}
            heat = axis.imshow(strip, extent=place, alpha=np.clip(2 * np.nan_to_num(strip), 0, 1), **options)
            figure.colorbar(heat, ax=axis, shrink=0.25, anchor=(0.0, 0.1)).ax.tick_params(labelsize=7)
            continue
        for value in range(1, len(class_names)):
            if (strip == value).any():
                outline = np.where(np.isnan(strip), np.nan, strip == value)  # which ends where its panel ends
                axis.contour(across, down, outline, levels=[0.5], colors=[colour(value)], linewidths=1.0)
    axis.set_xlim(-0.5, len(slices) * pitch[1] - gap_width - 0.5)
    axis.set_ylim(len(rows) * pitch[0] - gap_height - 0.5, -0.5)
    centres = [(length - 1) / 2 for length in (height, width)]
    axis.set_yticks([centres[0] + row * pitch[0] for row in range(len(rows))], rows, rotation=90, va="center")
    axis.set_xticks([centres[1] + k * pitch[1] for k in range(len(slices))], [f"slice {index}" for index in slices])
    handles = [Line2D([], [], color=colour(value), label=name) for value, name in enumerate(class_names) if value > 0]
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), fontsize=8)
    figure.suptitle(title, fontsize=9)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=110, pil_kwargs={"compress_level": _COMPRESSION})


def _side_by_side(tiles: np.ndarray, height: int, width: int) -> np.ndarray:
    """Put tiles (K, Y, X) beside each other, each filled up to the height and width with NaN, which is not shown."""
    _, rows, columns = tiles.shape
    filled = np.pad(
        tiles.astype(np.float32), ((0, 0), (0, height - rows), (0, width - columns)), constant_values=np.nan
    )
    return filled.transpose(1, 0, 2).reshape(height, -1)


def _figure(
    rows: int, columns: int, pitch: tuple[int, int], aspect: float, bar: bool, lines: int
) -> tuple[Figure, Axes]:
    """Make a figure, whose axes have room around them for names, lines of title, legend and a bar of colours."""
    height, width = pitch[0] * aspect, pitch[1]
    scale = _PANEL / max(height, width)
    inner = columns * width * scale * (1.2 if bar else 1.0), rows * height * scale
    size = inner[0] + _LEFT + _RIGHT, inner[1] + _TOP + lines * _LINE + _BOTTOM
    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    axis = figure.add_axes((_LEFT / size[0], _BOTTOM / size[1], inner[0] / size[0], inner[1] / size[1]))
    axis.xaxis.tick_top()
    axis.tick_params(length=0, labelsize=8)
    axis.spines[:].set_visible(False)
    return figure, axis


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
