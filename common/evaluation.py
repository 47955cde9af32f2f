"""Dice of whole volumes on their native grid, and the report of an evaluation, which also has other measures."""

from __future__ import annotations

import csv
import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.handlers import IgniteMetricHandler, from_engine
from monai.metrics import CumulativeIterationMetric
from torch import Tensor

from .display import Display
from .ejection_fractions import EjectionFractions
from .expected_dice import expected_row, write_calibration
from .files import write_text_atomically
from .measures import Measures
from .pictures import VOLUMES
from .report import FILE, EvaluationPage, versions
from .settings import plain_settings
from .tables import write_table

logger = logging.getLogger(__name__)


def volume_dice(prediction: Tensor, label: Tensor, num_classes: int) -> Tensor:
    """Compute the Dice coefficient of every class over one whole volume.

    Args:
        prediction: label map of any shape, values 0 to num_classes - 1.
        label: the truth, of the same shape.
        num_classes: C, background included.

    Returns:
        float64 (C,); NaN for a class that is in neither map, since it says nothing about the prediction.

    Raises:
        ValueError: if the shapes differ or a value is not a class.
    """
    return dice_of_counts(class_counts(prediction, label, num_classes))


def class_counts(prediction: Tensor, label: Tensor, num_classes: int) -> Tensor:
    """Count the voxels of every class that both maps have in common, that are predicted, and that are labelled.

    Args:
        prediction: see `volume_dice`.
        label: see `volume_dice`.
        num_classes: see `volume_dice`.

    Returns:
        float64 (3, C).

    Raises:
        ValueError: see `volume_dice`.
    """
    if prediction.shape != label.shape:
        raise ValueError(
            f"prediction and label must have one shape, got {tuple(prediction.shape)} and {tuple(label.shape)}; "
            "bring the prediction back to the label's grid."
        )
    for name, values in (("prediction", prediction), ("label", label)):
        unknown = values[~torch.isin(values, torch.arange(num_classes).to(values))].unique()
        if len(unknown):
            raise ValueError(
                f"{name} must hold the classes 0 to {num_classes - 1} only, got also {unknown[:5].tolist()}; "
                "pass a label map, not probabilities or an image."
            )
    pairs = label.flatten().long() * num_classes + prediction.flatten().long()
    confusion = torch.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes).double()
    return torch.stack([confusion.diagonal(), confusion.sum(0), confusion.sum(1)])


def dice_of_counts(counts: Tensor) -> Tensor:
    """Return the Dice of every class, (..., C), from counts (..., 3, C) as `class_counts` makes them; NaN for 0 / 0."""
    both, predicted, labelled = counts.unbind(-2)
    return 2 * both / (predicted + labelled)


def _iou(counts: Tensor) -> Tensor:
    both, predicted, labelled = counts.unbind(-2)
    return both / (predicted + labelled - both)


class VolumeDice(CumulativeIterationMetric):
    """Mean Dice: over the foreground classes of each volume, then over volumes (paper, section 4).

    A class that is in neither prediction nor label of a volume is left out of that volume's mean.

    Args:
        num_classes: C, background included.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **_: Any) -> Tensor:
        """Compare label maps (B, 1, ...); return the Dice of every foreground class, (B, C - 1)."""
        if y is None:
            raise ValueError("y must be the labels, got None: evaluation needs labelled volumes.")
        pairs = zip(y_pred, y, strict=True)
        return torch.stack([volume_dice(prediction, label, self.num_classes)[1:] for prediction, label in pairs])

    def of_volumes(self) -> Tensor:
        """Return the Dice of the volumes so far, (N, C - 1); NaN for a class that one has not."""
        values: Tensor = self.get_buffer()
        return values

    def of_structures(self) -> Tensor:
        """Return the Dice of each foreground class, (C - 1,); NaN for a class that no volume has."""
        return self.of_volumes().nanmean(dim=0)

    def of_set(self) -> dict[str, Tensor]:
        """Return what is computed over all volumes taken together, by name; here nothing."""
        return {}

    def aggregate(self) -> Tensor:
        """Average over classes, then over volumes; a scalar."""
        return torch.nanmean(torch.nanmean(self.get_buffer(), dim=1))


class SetDice(VolumeDice):
    """Mean Dice over the foreground classes, each over all images taken together.

    This is for photographs, few of which show every class: the Dice of one image would be 0 for a class of which a few
    pixels are found that are none.
    """

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **_: Any) -> Tensor:
        """Compare label maps (B, 1, ...); return the counts of every foreground class, (B, 3, C - 1)."""
        if y is None:
            raise ValueError("y must be the labels, got None: evaluation needs labelled images.")
        pairs = zip(y_pred, y, strict=True)
        return torch.stack([class_counts(prediction, label, self.num_classes)[:, 1:] for prediction, label in pairs])

    def of_volumes(self) -> Tensor:
        """Return the Dice of the images so far, (N, C - 1); NaN for a class that one has not."""
        return dice_of_counts(self.get_buffer())

    def of_structures(self) -> Tensor:
        """Return the Dice of each foreground class over all images taken together, (C - 1,); NaN for one in none."""
        return self.of_set()["mean_dice"]

    def of_set(self) -> dict[str, Tensor]:
        """Return "mean_dice" and "mean_iou", each (C - 1,): over all images taken together; NaN for a class in none."""
        counts = self.get_buffer().sum(0)
        return {"mean_dice": dice_of_counts(counts), "mean_iou": _iou(counts)}

    def aggregate(self) -> Tensor:
        """Average over classes; a scalar."""
        return torch.nanmean(self.of_set()["mean_dice"])


class _DiceHandler(IgniteMetricHandler):
    """The metric in an evaluator, which also gets the Dice of each structure that there is, called "NAME_dice"."""

    def __init__(self, dice: VolumeDice, class_names: Sequence[str]) -> None:
        super().__init__(dice, output_transform=from_engine(["pred", "label"]))
        self.structures = list(class_names[1:])

    def completed(self, engine: Engine, name: str) -> None:
        super().completed(engine, name)
        for structure, value in zip(self.structures, self.metric_fn.of_structures().tolist(), strict=True):
            if not math.isnan(value):
                engine.state.metrics[f"{structure}_dice"] = value


def mean_dice(class_names: Sequence[str]) -> dict[str, IgniteMetricHandler]:
    """Make an evaluator's key metric: `VolumeDice` of "pred" and "label", called "mean_dice".

    Beside it the evaluator's metrics have the Dice of each structure that is labelled or predicted, "NAME_dice".

    Args:
        class_names: C names, the background's first.
    """
    return {"mean_dice": _DiceHandler(VolumeDice(len(class_names)), class_names)}


def mean_set_dice(class_names: Sequence[str]) -> dict[str, IgniteMetricHandler]:
    """Make the same of `SetDice`.

    Args:
        class_names: C names, the background's first.
    """
    return {"mean_dice": _DiceHandler(SetDice(len(class_names)), class_names)}


class EvaluationReport:
    """Handler of an evaluator: Dice and other measures of every structure of every volume, and pictures.

    Writes `dice.csv` (a row for each volume), the tables and plots of `Measures`, `expected_dice.csv` and `.png` where
    the postprocessing gives "expected_dice", `evaluation.json` (means, volumes, settings, versions; with `SetDice` also
    the intersection over union, IoU), `pictures/<id>.png` (slices with the label's and the prediction's outlines) and
    `report.html`, all of it in one page, when the run is complete.

    Args:
        output_dir: the folder.
        class_names: C names, the background's first.
        settings: what should be remembered beside the numbers: checkpoint, split, seed and so on. What JSON has no form
            for, such as a path or a device, is kept as its text, NaN and infinity as null.
        dice: the metric that the evaluator computes, whose values are reported.
        pictures: draw pictures and write the page.
        overlap: which of the volumes had a part in the network, see `lineage.find_overlap`; None if that is not known.
        ejection: measures ejection fractions; None where there are none.
        display: of the images.
        measures: also measure what `Measures` does; False for images whose pixels have no size in mm.
    """

    def __init__(
        self,
        output_dir: str,
        class_names: Sequence[str],
        settings: Mapping[str, Any],
        dice: VolumeDice,
        pictures: bool = True,
        overlap: Mapping[str, Any] | None = None,
        ejection: EjectionFractions | None = None,
        display: Display = VOLUMES,
        measures: bool = True,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.class_names = list(class_names)
        self.settings = plain_settings(settings)
        self.pictures = pictures and idist.get_rank() == 0
        self.overlap = overlap
        self.display = display
        self.dice = dice
        self.measures = Measures(class_names, ejection) if measures else None
        self._rows: list[dict[str, Any]] = []
        self._expected: list[dict[str, float]] = []
        self._page = EvaluationPage(class_names, display)

    def attach(self, engine: Engine) -> None:
        """Collect volume by volume and write at the end."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def start(self) -> None:
        """Forget what was collected."""
        self._rows.clear()
        self._expected.clear()
        self._page.start()
        if self.measures is not None:
            self.measures.start()

    def collect(self, engine: Engine) -> None:
        """Note the scores of the volumes of the evaluator's output, and draw them."""
        outputs = engine.state.output
        values = self.dice.of_volumes()[-len(outputs) :]
        for item, output, dice in zip(engine.state.batch, outputs, values.cpu(), strict=True):
            prediction, label = output["pred"].cpu(), output["label"].cpu()
            scores = {
                name: None if value.isnan() else float(value)
                for name, value in zip(self.class_names[1:], dice, strict=True)
            }
            absent = [name for name, value in scores.items() if value is None]
            if absent and not isinstance(self.dice, SetDice):  # few photographs show every class
                logger.warning(
                    f"{item['id']}: {', '.join(absent)} neither labelled nor predicted; left out of its mean."
                )
            mean = float(dice.nanmean()) if not dice.isnan().all() else None
            self._rows.append({"id": item["id"], **scores, "mean": mean})
            if self.measures is not None:
                self.measures.add(item["id"], prediction, label)
            if "expected_dice" in output:
                self._expected.append(expected_row(output["expected_dice"], self.class_names))
            if self.pictures:
                path, maps = item["image"].meta["filename_or_obj"], (label[0].numpy(), prediction[0].numpy())
                dice_text = "  ".join(f"{name} {value:.3f}" for name, value in scores.items() if value is not None)
                title, picture = f"{item['id']}  Dice {dice_text}", self.output_dir / "pictures" / f"{item['id']}.png"
                self.display.draw(path, *maps, self.class_names, title, picture)
                entropy = output["uncertainty"][0].cpu().numpy() if "uncertainty" in output else None
                self._page.add(item["id"], path, *maps, entropy, engine.state.epoch_length or 1)

    def _delete_old_pictures(self) -> None:
        """Delete the pictures of an earlier evaluation in this folder, whose Dice the new table does not have."""
        table = self.output_dir / "dice.csv"
        if table.is_file():
            with table.open(newline="", encoding="utf-8") as file:
                old = {row.get("id", "") for row in csv.DictReader(file)}
            for id_ in sorted(old - {row["id"] for row in self._rows}):
                (self.output_dir / "pictures" / f"{id_}.png").unlink(missing_ok=True)

    def write(self) -> None:
        """Write the tables, the summary and the page."""
        over_set = {name: _named(values, self.class_names[1:]) for name, values in self.dice.of_set().items()}
        if idist.get_rank() > 0:  # every process has all of it
            return
        names = [*self.class_names[1:], "mean"]
        self._delete_old_pictures()
        write_table(self.output_dir / "dice.csv", self._rows, ["id", *names])
        means = {name: _mean([row[name] for row in self._rows]) for name in names}
        means = over_set.get("mean_dice", means)
        summary = {
            "mean_dice": means,
            **over_set,
            "volumes": self._rows,
            **(self.measures.write(self.output_dir, self.pictures) if self.measures is not None else {}),
            "expected_dice": write_calibration(
                self.output_dir, [row["id"] for row in self._rows], self._expected, self._rows, self.pictures
            ),
            "overlap": self.overlap,
            "settings": self.settings,
            "versions": versions(),
        }
        text = json.dumps(summary, indent=2, allow_nan=False)
        write_text_atomically(self.output_dir / "evaluation.json", text + "\n")
        if self.pictures:
            self._page.write(self.output_dir, summary)
        else:
            (self.output_dir / FILE).unlink(missing_ok=True)
        table = "  ".join(f"{name} {value:.3f}" for name, value in means.items() if value is not None)
        logger.info(f"Dice of {len(self._rows)} volumes: {table}. Details in {self.output_dir}.")


def _named(values: Tensor, names: Sequence[str]) -> dict[str, float | None]:
    """Return values by the names of their classes, and their mean; None for NaN."""
    known = [None if value.isnan() else float(value) for value in values.cpu()]
    return {**dict(zip(names, known, strict=True)), "mean": _mean(known)}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
