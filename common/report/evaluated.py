"""The report of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..display import Display
from ..surface_distances import HAUSDORFF, MEAN
from ..volumetry import UNIT
from .layers import LABEL, PREDICTION, UNCERTAINTY
from .page import FILE, Case, Column, Plot, Report
from .words import counted, number, texts_of

_MOST_TILES = 8
_PLOTS = {
    "volumes": (
        "Volumes of the structures in ml",
        "For each structure prediction against label, and the difference of both against their mean.",
    ),
    "ejection_fractions": (
        "Ejection fractions in per cent",
        "For each ventricle prediction against label, and the difference of both against their mean.",
    ),
    "expected_dice": (
        "Expected and true Dice",
        "For each structure the true Dice of the volumes against the expected.",
    ),
}


class EvaluationPage:
    """Collects the slices of evaluated images, and writes the report.

    Args:
        class_names: names by class index, the background's first.
        display: of the images.
    """

    def __init__(self, class_names: Sequence[str], display: Display) -> None:
        self.class_names = list(class_names)
        self.display = display
        self._layers: dict[str, dict[str, Any]] = {}
        self._report: Report | None = None

    def start(self) -> None:
        """Forget what was collected."""
        self._layers.clear()
        self._report = None

    def add(
        self,
        id_: str,
        image_path: str,
        label: np.ndarray,
        prediction: np.ndarray,
        uncertainty: np.ndarray | None,
        number_of_images: int,
    ) -> None:
        """Encode the slices of an image.

        Args:
            id_: of the image.
            image_path: the file.
            label: (X, Y, Z) class indices on its grid.
            prediction: the same of the network.
            uncertainty: (X, Y, Z) from 0 to 1, if known.
            number_of_images: how many there are going to be.
        """
        if self._report is None:
            self._report = Report.of("Evaluation", number_of_images, self.display, self.class_names)
        maps = {LABEL: label, PREDICTION: prediction}
        if uncertainty is not None:
            maps[UNCERTAINTY] = uncertainty
        self._layers[id_] = self._report.encode(self.display.read(image_path, maps))

    def write(self, folder: Path, summary: Mapping[str, Any]) -> None:
        """Write the report.

        Args:
            folder: where to; has the plots of the evaluation.
            summary: what `evaluation.json` has.
        """
        report = self._report
        if report is None:
            return
        names = self.class_names[1:]
        expected = _by_id(summary.get("expected_dice"))
        distances = _by_id(summary.get("surface_distances"))
        volumes = _by_id(summary.get("structure_volumes"))
        fractions = _by_id(summary.get("ejection_fractions"))
        columns = [Column("mean", "mean Dice", is_share=True)]
        columns += [Column(name, name, is_share=True, is_detail=True) for name in names]
        if expected:
            columns.append(Column("expected", "expected Dice", is_share=True))
        columns += [Column(f"{name}_{HAUSDORFF}", f"{name} HD95, mm", 1, is_detail=True) for name in names if distances]
        for row in summary["volumes"]:
            id_ = row["id"]
            own = {"expected": expected.get(id_, {}).get("mean_expected"), **distances.get(id_, {}), **row}
            details: dict[str, dict[str, str]] = {}
            for name in names:
                measures = details[name] = {"Dice": number(row[name])}
                if expected:
                    measures["expected"] = number(expected[id_][f"{name}_expected"])
                for source, key, title, unit in (
                    (distances, HAUSDORFF, "HD95", "mm"),
                    (distances, MEAN, "mean distance", "mm"),
                    (volumes, f"prediction_{UNIT}", "predicted", UNIT),
                    (volumes, f"label_{UNIT}", "labelled", UNIT),
                    (fractions, "prediction_percent", "predicted ejection", "%"),
                    (fractions, "label_percent", "labelled ejection", "%"),
                ):
                    if source:
                        value = source.get(id_, {}).get(f"{name}_{key}")
                        measures[title] = number(value, 1, unit if value is not None else "")
            report.add(Case(id_, own, self._layers.get(id_), details))
        settings = summary["settings"]
        means = summary["mean_dice"]
        tiles = [("mean Dice", number(means["mean"]))]
        if len(names) < _MOST_TILES:
            tiles += [(f"Dice of {name}", number(means[name])) for name in names]
        if "mean_iou" in summary:
            tiles.append(("mean IoU", number(summary["mean_iou"]["mean"])))
        report.write(
            folder / FILE,
            f"Evaluation on the {settings.get('subset', 'given')} {self.display.noun}s",
            f"{counted(len(summary['volumes']), self.display.noun)}, the lowest Dice first; "
            f"weights {settings.get('checkpoint', 'not named')}",
            columns,
            "mean",
            tiles,
            [Plot(folder / f"{name}.png", *words) for name, words in _PLOTS.items() if _is_there(folder, name)],
            {
                "Settings": texts_of(settings),
                "Volumes that had a part in the weights": texts_of(summary.get("overlap") or {}),
                "Versions": texts_of(summary["versions"]),
            },
        )


def _is_there(folder: Path, name: str) -> bool:
    return (folder / f"{name}.png").is_file()


def _by_id(part: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Return the rows of a part of the summary by their ids."""
    return {row["id"]: row for row in part["volumes"]} if part else {}
