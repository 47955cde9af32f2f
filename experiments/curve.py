"""How much more labels help on a dataset of one's own: Dice on held-out volumes by the number of labelled ones."""

from __future__ import annotations

import json
import logging
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from bundles.run import load_config, run_config
from bundles.write import bundle_folder
from common.checkpoints import content_hash
from common.data.split_volumes import SplitVolumes
from common.files import write_text_atomically
from common.records import read_record, write_record
from common.tables import write_table

from .plots import draw_curve
from .report.numbers import number_of, with_error

logger = logging.getLogger(__name__)

_MODEL, _RESULT = "model.pt", "result.json"


class CurveError(ValueError):
    """A curve that cannot be measured like this."""


@dataclass(frozen=True)
class Point:
    """What was measured with some labelled volumes.

    Attributes:
        order: number of the random order of the volumes, from 1.
        labelled: ids of the labelled volumes, the first ones of that order.
        volumes: for each held-out volume "id", Dice of each structure and their "mean", None for what is not known.
        mean: mean Dice over structures, then over volumes; None if it is of none.
    """

    order: int
    labelled: tuple[str, ...]
    volumes: Sequence[Mapping[str, Any]]
    mean: float | None


def curve(
    dataset_dir: str,
    bundle: str = "acdc",
    numbers: int | Sequence[int] = (1, 2, 4, 8),
    orders: int = 3,
    output_dir: str = "runs/curve",
    **settings: Any,
) -> None:
    """Train with more and more labelled volumes, and evaluate each network on the test volumes of the split.

    The labelled volumes of a number are the first ones of a random order, so that those of a smaller number are among
    them; each order is one line. What is finished is not run again. Nothing is said of numbers that were not trained.

    Args:
        dataset_dir: the dataset's folder.
        bundle: its bundle by name or folder; its pre-trained encoder is what trainings start from, unless
            `initialisation` and `pretrained_dir` say otherwise. Its split file names the test volumes, and the draw the
            validation volumes; all others with a label are drawn from.
        numbers: of labelled volumes, rising.
        orders: how many random orders there are; their scatter is that of the draws of volumes and of the training.
        output_dir: gets a folder for each training, `curve.json`, `curve.csv` and `curve.png`.
        **settings: values of further ids of `train.json` and `evaluate.json`, such as `steps` or `draw`.

    Raises:
        CurveError: if the numbers do not rise from 1 or more, there is no order, there are too few labelled volumes, or
            no config has an id of the settings.
    """
    folder, root = bundle_folder(str(bundle)), Path(output_dir).resolve()
    wanted = _checked_numbers(numbers, orders)
    own = {name: _own_settings(folder, name, settings) for name in ("train", "evaluate")}
    if unknown := set(settings) - set(own["train"]) - set(own["evaluate"]):
        raise CurveError(
            f"{', '.join(sorted(unknown))}: neither train.json nor evaluate.json of {folder} has such an id."
        )
    split = load_config(folder, "train", dataset_dir=str(dataset_dir), **own["train"]).get_parsed_content("split")
    candidates = _candidates(split, dataset_dir)
    if wanted[-1] > len(candidates):
        raise CurveError(
            f"numbers must be at most {len(candidates)}, the labelled volumes of {dataset_dir} that are neither for "
            f"the test nor for the validation, got {wanted[-1]}: ask for fewer, or label more."
        )
    points = []
    for order in range(1, orders + 1):
        shuffled = random.Random(order).sample(candidates, len(candidates))
        for number in wanted:
            place = root / f"order{order}_{number}"
            logger.info(f"Order {order}, {number} labelled: {place}.")
            points.append(measure(folder, place, str(dataset_dir), order, tuple(shuffled[:number]), own))
    _write(root, points, wanted)


def _checked_numbers(numbers: int | Sequence[int], orders: int) -> list[int]:
    wanted: list[Any] = list(numbers) if isinstance(numbers, (list, tuple)) else [numbers]
    if not wanted or not all(type(number) is int and number > 0 for number in wanted) or sorted(set(wanted)) != wanted:
        raise CurveError(f"numbers must be whole numbers from 1 that rise, such as 1,2,4,8, got {numbers!r}.")
    if type(orders) is not int or orders < 1:
        raise CurveError(f"orders must be a whole number from 1, got {orders!r}.")
    return wanted


def _own_settings(bundle: Path, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a config has."""
    known = load_config(bundle, name).get()
    return {key: value for key, value in settings.items() if key.split("#")[0] in known}


def _candidates(split: SplitVolumes, dataset_dir: str) -> list[str]:
    """List the ids of the labelled volumes that may be trained on."""
    taken = {item["id"] for name in ("test", "validation") for item in split.subset(name)}
    return sorted(item["id"] for item in split.datalist(dataset_dir) if "label" in item and item["id"] not in taken)


def measure(
    bundle: Path,
    folder: Path,
    dataset_dir: str,
    order: int,
    labelled: tuple[str, ...],
    settings: Mapping[str, Mapping[str, Any]],
) -> Point:
    """Train on these volumes and evaluate on the test volumes, each unless it is finished.

    Args:
        bundle: the bundle's folder, whose pre-trained encoder is started from.
        folder: gets all that is written; `result.json` has what was measured.
        dataset_dir: the dataset's folder.
        order: number of the order, which is also the seed.
        labelled: ids of the volumes.
        settings: further values of the ids of "train" and of "evaluate".
    """
    shared = {"dataset_dir": dataset_dir, "output_dir": folder, "ckpt_dir": folder}
    training = {"pretrained_dir": bundle / "models", "seed": order, **settings["train"], **shared}
    run_config(bundle, "train", **{**training, "labelled": list(labelled)})
    weights = content_hash(folder / _MODEL)
    result = folder / _RESULT
    if result.is_file():
        known = read_record(result, "delete it to evaluate the weights again")
        if known["weights_sha256"] == weights:
            return Point(order, labelled, known["volumes"], known["mean"])
    output = folder / "test"
    run_config(bundle, "evaluate", **{**settings["evaluate"], **shared, "output_dir": output})
    summary = json.loads((output / "evaluation.json").read_text(encoding="utf-8"))
    point = Point(order, labelled, summary["volumes"], summary["mean_dice"]["mean"])
    record = {"weights_sha256": weights, "labelled": list(labelled), "volumes": point.volumes, "mean": point.mean}
    write_record(result, record)
    return point


def gains(points: Sequence[Point], numbers: Sequence[int]) -> dict[str, list[float]]:
    """Return by how much mean Dice rises from one number to the next, a value for each order that has both.

    Args:
        points: of all orders.
        numbers: of labelled volumes, rising.
    """
    means = {(point.order, len(point.labelled)): point.mean for point in points}
    found: dict[str, list[float]] = {}
    for low, high in pairwise(numbers):
        pairs = [(means.get((order, low)), means.get((order, high))) for order in sorted({order for order, _ in means})]
        found[f"{low} to {high}"] = [last - first for first, last in pairs if first is not None and last is not None]
    return found


def _write(root: Path, points: Sequence[Point], numbers: Sequence[int]) -> None:
    rows = [
        {"order": point.order, "number": len(point.labelled), "labelled": " ".join(point.labelled), **volume}
        for point in points
        for volume in point.volumes
    ]
    by_step = gains(points, numbers)
    write_table(root / "curve.csv", rows, list(rows[0]))
    content = {
        "points": [
            {"order": point.order, "number": len(point.labelled), "labelled": list(point.labelled), "mean": point.mean}
            for point in points
        ],
        "gains": by_step,
    }
    write_text_atomically(root / "curve.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
    lines: dict[int, dict[int, float]] = {}
    volumes: dict[int, list[float]] = {number: [] for number in numbers}
    for point in points:
        if point.mean is not None:
            lines.setdefault(point.order, {})[len(point.labelled)] = point.mean
        volumes[len(point.labelled)] += [volume["mean"] for volume in point.volumes if volume["mean"] is not None]
    draw_curve(root / "curve.png", lines, volumes)
    for number in numbers:
        known = [line[number] for line in lines.values() if number in line]
        spread = f" ± {number_of(statistics.stdev(known))}" if len(known) > 1 else ""
        print(
            f"{number:4d} labelled: Dice {number_of(statistics.mean(known))}{spread} ({len(known)} orders)"
            if known
            else ""
        )
    for step, values in by_step.items():
        if values:
            print(f"{step} labelled: {with_error(values)} (mean and standard error of {len(values)} orders)")
    print(f"Wrote curve.json, curve.csv and curve.png to {root}. Nothing is said of other numbers.")
