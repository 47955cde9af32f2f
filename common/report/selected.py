"""The report of a selection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.slices import Slices
from ..data.volume_files import few
from ..display import Display, Displayed
from ..transforms.eight_bit import unit_range
from .page import Case, Column, Plot, Report
from .words import counted, number, texts_of, versions

_MOST_SHOWN = 100
_COLUMNS = (
    Column("rank", "rank"),
    Column("state", "state"),
    Column("distance_to_neighbours", "mean distance to its neighbours"),
    Column("nearest", "nearest chosen"),
    Column("distance_to_nearest", "distance to it"),
)


def write_selection_page(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    slices: Slices,
    display: Display,
    settings: Mapping[str, Any],
    picture: Path,
) -> None:
    """Write the report of a selection, with the slices of the first of its rows.

    Args:
        path: the HTML file.
        rows: of `selection.csv`, those that matter most first.
        slices: of their volumes.
        display: of the images.
        settings: what should be remembered of the run.
        picture: the PNG file `selection.png`.
    """
    report = Report.of("Selection", min(len(rows), _MOST_SHOWN), display)
    for place, row in enumerate(rows):
        layers = report.encode(_displayed(slices, slices.ids.index(row["id"]))) if place < _MOST_SHOWN else None
        report.add(Case(row["id"], row, layers, note=str(row["image"])))
    chosen = [row["id"] for row in rows if row["state"] == "chosen"]
    labelled = sum(row["state"] == "labelled" for row in rows)
    plural = f"{display.noun}s"
    report.write(
        path,
        f"Which {plural} to label next: {few(chosen)}",
        f"{counted(len(rows), display.noun)}, typical ones of different neighbourhoods first, in the encoder's eyes",
        _COLUMNS,
        "rank",
        [("chosen", number(len(chosen))), ("labelled already", number(labelled)), (plural, number(len(rows)))],
        [
            Plot(
                picture,
                "The volumes as the encoder sees them, and the middle slices of the chosen ones",
                "A map of all volumes in two dimensions, on which the chosen ones have numbers; their middle slices.",
            )
        ],
        {"Settings": texts_of(settings), "Versions": versions()},
    )


def _displayed(slices: Slices, index: int) -> Displayed:
    """Return the slices of a volume as the network sees them, volumes turned as in radiology."""
    first, end = slices.starts[index : index + 2].tolist()
    images = unit_range(slices.take(torch.arange(first, end))[0]).cpu().clamp(0, 1).numpy()
    pixels = np.round(255 * images).astype(np.uint8)
    # Photographs are rows and columns already.
    return Displayed(pixels.transpose(0, 2, 3, 1) if pixels.shape[1] == 3 else pixels[:, 0].transpose(0, 2, 1), {})
