"""The result file of a run, read: every type and range is checked before a number is used.

Which cell of a grid it is of is the experiments' business; here it is checked that the file's key is that of its cell.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from common.records import RecordError, parse_record

from .values import WrongValue, check_mapping, check_names, check_number, check_share, check_text

EVALUATIONS = {
    "selected, recomputed": "model.pt",
    "selected, running average": "model_running_average.pt",
    "last, recomputed": "last.pt",
    "last, running average": "last_running_average.pt",
}
"""The evaluations in a result, and the file of the weights that were evaluated."""
MAIN_EVALUATION = next(iter(EVALUATIONS))
"""That of the weights that are released."""
RUN_AGAIN = "move it away to run the cell again"
_ENTRIES = ("key", "cell", "commit", "configs_sha256", "device", "versions", "evaluations")


class ResultError(ValueError):
    """A result file or a record of a stage is not what its name says; it is left alone."""


def parse_result(text: str | bytes, where: str) -> dict[str, Any]:
    """Return what the text of a result file says.

    Args:
        text: of the file.
        where: what the file is called in an error.

    Raises:
        ResultError: if the text is damaged, or a value is missing, of another type or out of its range.
    """
    try:
        result = parse_record(text, where, RUN_AGAIN)
        _check_result(result)
    except RecordError as error:
        raise ResultError(str(error)) from error
    except WrongValue as error:
        raise ResultError(f"{where} is not a whole result file: {error}; {RUN_AGAIN}.") from error
    return result


def metrics_of(result: Mapping[str, Any]) -> dict[str, float]:
    """Return what a result says of its selected checkpoint: mean test Dice and that of each structure."""
    dice = result["evaluations"][MAIN_EVALUATION]["mean_dice"]
    return {"mean_dice": dice["mean"], **{f"{name}_dice": value for name, value in dice.items() if name != "mean"}}


def short_hash(value: object) -> str:
    """Return 12 hexadecimal digits that stand for a JSON value, such as the key of a cell."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def _check_result(result: Mapping[str, Any]) -> None:
    check_names(result, _ENTRIES, "a result")
    for name in ("key", "commit", "configs_sha256", "device"):
        check_text(result[name], name)
    key = short_hash(check_mapping(result["cell"], "cell"))
    if key != result["key"]:
        raise WrongValue(f"key must be that of its cell, {key}, got {result['key']}")
    if not isinstance(result["versions"], Mapping):
        raise WrongValue(f"versions must name packages, got {result['versions']!r}")
    evaluations = result["evaluations"]
    check_names(evaluations, EVALUATIONS, "evaluations")
    for name in EVALUATIONS:
        _check_evaluation(evaluations[name], name)
    # Not in all results: the first were written without.
    for name in ("seconds", "seconds_in_this_run"):
        for config, seconds in check_mapping(result.get(name, {}), name).items():
            check_number(seconds, f"{name} of {config}", 0)
    for name, points in check_mapping(result.get("curves", {}), "curves").items():
        _check_curve(points, f"curve {name!r}", 1 if name == "mean_dice" else math.inf)


def _check_evaluation(evaluation: Any, name: str) -> None:
    """Check the mean Dice of structures and volumes; None stands for a structure that is in no volume."""
    check_names(evaluation, ("mean_dice", "volumes"), f"evaluation {name!r}")
    means, volumes = evaluation["mean_dice"], evaluation["volumes"]
    check_names(means, ("mean",), f"mean_dice of {name!r}")
    check_share(means["mean"], f"mean_dice of {name!r}")
    _check_dice(means, f"mean_dice of {name!r}")
    if "mean_iou" in evaluation:  # of photographs
        iou = evaluation["mean_iou"]
        check_names(iou, ("mean",), f"mean_iou of {name!r}")
        _check_dice(iou, f"mean_iou of {name!r}", "IoU")
    if not isinstance(volumes, Sequence) or isinstance(volumes, str) or not volumes:
        raise WrongValue(f"volumes of {name!r} must be a list of at least one volume, got {volumes!r}")
    seen: set[str] = set()
    for volume in volumes:
        check_names(volume, ("id", "mean"), f"a volume of {name!r}")
        check_text(volume["id"], f"id of a volume of {name!r}")
        if volume["id"] in seen:
            raise WrongValue(f"volumes of {name!r} have {volume['id']!r} twice")
        seen.add(volume["id"])
        _check_dice({key: value for key, value in volume.items() if key != "id"}, f"{volume['id']} of {name!r}")
    if all(volume["mean"] is None for volume in volumes):
        raise WrongValue(f"no volume of {name!r} has a Dice")


def _check_dice(scores: Mapping[str, Any], where: str, what: str = "Dice") -> None:
    for structure, value in scores.items():
        if value is not None:
            check_share(value, f"{what} of {structure} in {where}")


def _check_curve(points: Any, name: str, highest: float) -> None:
    if not isinstance(points, list) or not all(isinstance(point, list) and len(point) == 2 for point in points):
        raise WrongValue(f"{name} must be a list of pairs of step and value, got {str(points)[:80]}")
    for step, value in points:
        check_number(step, f"step of {name}", 0)
        check_number(value, f"value of {name}", -math.inf, highest)
