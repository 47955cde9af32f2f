"""The picture of a selection: a map of all volumes, and the middle slices of the chosen ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from .data.slices import Slices
from .transforms.eight_bit import unit_range

_MOST_SHOWN, _COLUMNS = 12, 4
_LABELLED, _CHOSEN, _OTHER = "#377eb8", "#e41a1c", "0.65"


def draw_selection(
    embeddings: Tensor, slices: Slices, labelled: Sequence[int], chosen: Sequence[int], path: Path
) -> None:
    """Draw the first two principal components of embeddings, and the middle slices of the first chosen volumes.

    Slices of volumes whose axes are L and P are shown as in radiology.

    Args:
        embeddings: (V, F).
        slices: of these volumes.
        labelled: volumes that were labelled already.
        chosen: those that were chosen, in their order.
        path: PNG file.
    """
    shown = list(chosen[:_MOST_SHOWN])
    columns = min(_COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    height = max(4.2, 1.9 * rows + 0.4)
    figure = Figure(figsize=(4.6 + 1.7 * columns, height), layout="constrained")
    FigureCanvasAgg(figure)
    halves = figure.subfigures(1, 2, squeeze=False, width_ratios=(4.6, 1.7 * columns))
    left, right = halves[0]
    _draw_map(left.subplots(), embeddings, labelled, chosen)
    panels = right.subplots(rows, columns, squeeze=False)
    for place, axis in enumerate(panels.flat):
        axis.axis("off")
        if place < len(shown):
            first, end = slices.starts[shown[place] : shown[place] + 2].tolist()
            image = unit_range(slices.take(torch.tensor([(first + end) // 2]))[0][0]).cpu()
            # Photographs are rows and columns already.
            axis.imshow(image.permute(1, 2, 0) if len(image) == 3 else image[0].T, cmap="gray", vmin=0, vmax=1)
            axis.set_title(f"{place + 1}: {slices.ids[shown[place]]}", fontsize=8)
    more = f", the first {_MOST_SHOWN} of {len(chosen)}" if len(chosen) > _MOST_SHOWN else ""
    right.suptitle(f"Middle slices of the chosen volumes{more}", fontsize=9)
    figure.savefig(path, dpi=110)


def _draw_map(axis: Axes, embeddings: Tensor, labelled: Sequence[int], chosen: Sequence[int]) -> None:
    centred = (embeddings - embeddings.mean(dim=0)).double()
    _, strengths, components = torch.linalg.svd(centred, full_matrices=False)
    places = np.zeros((len(embeddings), 2))
    found = (centred @ components[:2].T).numpy()
    places[:, : found.shape[1]] = found
    others = [index for index in range(len(places)) if index not in {*labelled, *chosen}]
    for name, indices, colour, marker, size in (
        ("not chosen", others, _OTHER, "o", 16),
        ("labelled", labelled, _LABELLED, "s", 34),
        ("chosen", chosen, _CHOSEN, "o", 40),
    ):
        if len(indices):
            x, y = places[list(indices)].T
            axis.scatter(x, y, s=size, color=colour, marker=marker, label=name, linewidths=0)
    for rank, index in enumerate(chosen, start=1):
        axis.annotate(str(rank), places[index], xytext=(5, 4), textcoords="offset points", fontsize=9, color=_CHOSEN)
    share = float((strengths[:2] ** 2).sum() / (strengths**2).sum().clamp_min(1e-12))
    axis.set_title(f"Volumes as the encoder sees them\n(two components, {share:.0%} of the variance)", fontsize=9)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.legend(fontsize=8, loc="best")
