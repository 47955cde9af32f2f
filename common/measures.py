"""What an evaluation measures beside Dice: distances of surfaces in mm, volumes in ml, ejection fractions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.data import MetaTensor
from torch import Tensor

from .agreement import Pairs, agreement, draw_agreement
from .ejection_fractions import EjectionFractions
from .surface_distances import HAUSDORFF, MEAN, surface_distances
from .tables import write_table
from .volumetry import UNIT, structure_volumes

_KINDS = ("prediction", "label")


class Measures:
    """Collects the measures of one volume after another, and writes them.

    Args:
        class_names: names by class index, the background's first.
        ejection: measures ejection fractions, where that makes sense.
    """

    def __init__(self, class_names: Sequence[str], ejection: EjectionFractions | None = None) -> None:
        self.class_names = list(class_names)
        self.ejection = ejection
        self._distances: list[dict[str, Any]] = []
        self._volumes: list[tuple[str, dict[str, dict[str, float]]]] = []

    def start(self) -> None:
        """Forget what was collected, and look for what else is needed.

        Raises:
            DatasetError: see `EjectionFractions.prepare`.
        """
        self._distances.clear()
        self._volumes.clear()
        if self.ejection is not None:
            self.ejection.prepare()

    def add(self, id_: str, prediction: Tensor, label: MetaTensor) -> None:
        """Measure a volume.

        Args:
            id_: of the volume.
            prediction: class indices (1, X, Y, Z).
            label: the truth on the same grid, with its affine.
        """
        row: dict[str, Any] = {"id": id_}
        for name, distances in surface_distances(prediction, label, self.class_names).items():
            row |= {f"{name}_{key}": value for key, value in zip((HAUSDORFF, MEAN), distances, strict=True)}
        self._distances.append(row)
        volumes = {
            kind: structure_volumes(maps, self.class_names, label.affine)
            for kind, maps in zip(_KINDS, (prediction, label), strict=True)
        }
        self._volumes.append((id_, volumes))

    def write(self, folder: Path, pictures: bool) -> dict[str, Any]:
        """Write `surface_distances.csv`, `volumes.csv`, `ejection_fractions.csv` and plots of the agreement.

        What an earlier evaluation has written there and this one does not is deleted.

        Args:
            folder: where to.
            pictures: draw the plots.

        Returns:
            The same as plain values, to be put into a summary.
        """
        distances = [f"{name}_{key}" for name in self.class_names[1:] for key in (HAUSDORFF, MEAN)]
        write_table(folder / "surface_distances.csv", self._distances, ["id", *distances])
        volumes = [
            {
                "id": id_,
                **{f"{name}_{kind}_{UNIT}": own[kind][name] for name in self.class_names[1:] for kind in _KINDS},
            }
            for id_, own in self._volumes
        ]
        fractions = self.ejection.measure(dict(self._volumes)) if self.ejection is not None else []
        ventricles = self.ejection.ventricles if self.ejection is not None else []
        return {
            "surface_distances": {
                "mean": {column: _mean(self._distances, column) for column in distances},
                "number": {column: len(_known(self._distances, column)) for column in distances},
                "volumes": self._distances,
            },
            "structure_volumes": _compare(folder, "volumes", volumes, self.class_names[1:], UNIT, pictures),
            "ejection_fractions": _compare(folder, "ejection_fractions", fractions, ventricles, "percent", pictures),
        }


def _compare(
    folder: Path, what: str, rows: list[dict[str, Any]], names: Sequence[str], unit: str, pictures: bool
) -> dict[str, Any] | None:
    """Write the table and the plot of what predictions and labels have been measured by; None without any."""
    table, plot = folder / f"{what}.csv", folder / f"{what}.png"
    pairs: dict[str, Pairs] = {
        name: [
            (row[f"{name}_prediction_{unit}"], row[f"{name}_label_{unit}"])
            for row in rows
            if None not in (row[f"{name}_prediction_{unit}"], row[f"{name}_label_{unit}"])
        ]
        for name in names
    }
    if rows:
        write_table(table, rows, list(rows[0]))
    else:
        table.unlink(missing_ok=True)
    if pictures and any(pairs.values()):
        draw_agreement(pairs, what.replace("_", " "), unit.replace("percent", "%"), plot)
    else:
        plot.unlink(missing_ok=True)
    return {"agreement": {name: agreement(own) for name, own in pairs.items()}, "volumes": rows} if rows else None


def _known(rows: Sequence[Mapping[str, Any]], column: str) -> list[float]:
    return [row[column] for row in rows if row[column] is not None]


def _mean(rows: Sequence[Mapping[str, Any]], column: str) -> float | None:
    known = _known(rows, column)
    return sum(known) / len(known) if known else None
