"""The report of segmented files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..display import Display
from ..volumetry import UNIT
from .layers import PREDICTION, UNCERTAINTY
from .page import FILE, Case, Column, Report
from .words import counted, number, texts_of, versions


class SegmentationPage:
    """Collects segmented files, and writes the report.

    Args:
        class_names: names by class index, the background's first.
        display: of the images.
        number_of_files: how many there are going to be.
    """

    def __init__(self, class_names: Sequence[str], display: Display, number_of_files: int) -> None:
        self.class_names = list(class_names)
        self.display = display
        self._report = Report.of("Segmentation", number_of_files, display, class_names)
        self._kinds: set[str] = set()

    def add(
        self,
        image_path: str,
        labels: np.ndarray,
        uncertainty: np.ndarray | None,
        volumes: Mapping[str, float],
        expected: Mapping[str, float],
        doubt: str,
    ) -> None:
        """Add a file.

        Args:
            image_path: the file.
            labels: (X, Y, Z) class indices on its grid.
            uncertainty: (X, Y, Z) from 0 to 1, if known.
            volumes: ml of each structure; none where pixels have no size.
            expected: expected Dice of each structure, and the "mean"; none if not known.
            doubt: why the segmentation may be wrong; empty without a reason.
        """
        maps = {PREDICTION: labels} if uncertainty is None else {PREDICTION: labels, UNCERTAINTY: uncertainty}
        layers = self._report.encode(self.display.read(image_path, maps))
        details: dict[str, dict[str, str]] = {}
        for name in self.class_names[1:]:
            details[name] = {"volume": number(volumes[name], 1, UNIT)} if volumes else {}
            if expected:
                details[name]["expected Dice"] = number(expected[name])
        values: dict[str, Any] = {f"{name}_{UNIT}": value for name, value in volumes.items()}
        values |= {"expected": expected.get("mean"), "doubt": "doubtful" if doubt else None}
        self._kinds |= {kind for kind, known in (("volumes", volumes), ("expected", expected)) if known}
        self._report.add(Case(Path(image_path).name, values, layers, details, doubt))

    def write(self, folder: Path, settings: Mapping[str, Any], failures: Mapping[str, str]) -> None:
        """Write the report, if there is anything to report on.

        Args:
            folder: where to.
            settings: what should be remembered of the run.
            failures: why files could not be segmented, by their paths.
        """
        cases = self._report.cases
        if not cases:
            return
        names = self.class_names[1:]
        columns = [Column("doubt", "doubt")]
        if "expected" in self._kinds:
            columns.insert(0, Column("expected", "expected Dice", is_share=True))
        if "volumes" in self._kinds:
            columns += [Column(f"{name}_{UNIT}", f"{name}, {UNIT}", 1, is_detail=True) for name in names]
        order = "the least sure first" if "expected" in self._kinds else "doubtful ones first"
        doubtful = sum(bool(case.note) for case in cases)
        self._report.write(
            folder / FILE,
            f"Segmentation of {counted(len(cases), self.display.noun)}",
            f"Predicted, and not verified by anyone; {order}",
            columns,
            columns[0].key,
            [("segmented", number(len(cases))), ("doubtful", number(doubtful)), ("failed", number(len(failures)))],
            [],
            {
                "Could not be segmented": dict(failures),
                "Settings": texts_of(settings),
                "Versions": versions(),
            },
        )
