"""Result files of cells and records of stages, read: every type and range is checked before a number is used."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.records import RecordError, parse_record, read_record

from .grid import Cell

EVALUATIONS = {
    "selected, recomputed": "model.pt",
    "selected, running average": "model_running_average.pt",
    "last, recomputed": "last.pt",
    "last, running average": "last_running_average.pt",
}
_RESULT = ("key", "cell", "commit", "configs_sha256", "device", "versions", "evaluations")
_RUN_AGAIN = "move it away to run the cell again"
_GO_ON = "delete it to let the stage go on from its last checkpoint"


class ResultError(ValueError):
    """A result file or a record of a stage is not what its name says; it is left alone."""


def read_result(path: Path, cell: Cell) -> dict[str, Any] | None:
    """Return the result of a cell, or None if there is none yet.

    Raises:
        ResultError: if the file is damaged or belongs to a cell that was determined otherwise.
    """
    if not path.is_file():
        return None
    result = read_any_result(path)
    if result["key"] != cell.key:
        raise ResultError(
            f"{path} is of a cell with other settings (key {result['key']}, expected {cell.key}): move it away to run "
            "this one."
        )
    return result


def read_any_result(path: Path) -> dict[str, Any]:
    """Return the result of whatever cell a file is of; `cell_of` gives the cell.

    Raises:
        ResultError: if the file is missing or damaged.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ResultError(f"{path} cannot be read ({error}): name a result that `reproduce` wrote.") from error
    return parse_result(text, str(path))


def parse_result(text: str | bytes, where: str) -> dict[str, Any]:
    """Return what the text of a result file says; `where` is what the file is called in an error.

    Raises:
        ResultError: if the text is damaged, or a value is missing, of another type or out of its range.
    """
    try:
        result = parse_record(text, where, _RUN_AGAIN)
        _check_result(result)
    except RecordError as error:
        raise ResultError(str(error)) from error
    except _Wrong as error:
        raise ResultError(f"{where} is not a whole result file: {error}; {_RUN_AGAIN}.") from error
    return result


def cell_of(result: Mapping[str, Any]) -> Cell:
    """Return the cell that a result is of."""
    return Cell.from_dict(result["cell"])


def read_stage_record(path: Path) -> dict[str, Any]:
    """Return what is known of the runs of a stage: config, seconds, finished, images.

    Raises:
        ResultError: if the file is damaged, or a value is missing, of another type or out of its range.
    """
    try:
        record = read_record(path, _GO_ON)
        _need(record, ("config", "seconds", "finished", "images"), "a record")
        _text(record["config"], "config")
        _number(record["seconds"], "seconds", 0)
        if type(record["finished"]) is not bool:
            raise _Wrong(f"finished must be true or false, got {record['finished']!r}")
        if type(record["images"]) is not int or record["images"] < 1:
            raise _Wrong(f"images must be a whole number from 1, got {record['images']!r}")
    except RecordError as error:
        raise ResultError(str(error)) from error
    except _Wrong as error:
        raise ResultError(f"{path} is not a whole record of a stage: {error}; {_GO_ON}.") from error
    return record


def check_share(value: Any, what: str) -> float:
    """Return a number from 0 to 1, such as a Dice or an accuracy.

    Args:
        value: as read from JSON.
        what: it is, for the error.

    Raises:
        ValueError: if it is anything else.
    """
    return _number(value, what, 0, 1)


class _Wrong(ValueError):
    """What is wrong with a value, without the file that it is in."""


def _check_result(result: Mapping[str, Any]) -> None:
    _need(result, _RESULT, "a result")
    for name in ("key", "commit", "configs_sha256", "device"):
        _text(result[name], name)
    _check_cell(result)
    if not isinstance(result["versions"], Mapping):
        raise _Wrong(f"versions must name packages, got {result['versions']!r}")
    evaluations = result["evaluations"]
    _need(evaluations, EVALUATIONS, "evaluations")
    for name in EVALUATIONS:
        _check_evaluation(evaluations[name], name)
    # Not in all results: the first were written without.
    for name in ("seconds", "seconds_in_this_run"):
        for config, seconds in _mapping(result.get(name, {}), name).items():
            _number(seconds, f"{name} of {config}", 0)
    for name, points in _mapping(result.get("curves", {}), "curves").items():
        _check_curve(points, f"curve {name!r}", 1 if name == "mean_dice" else math.inf)


def _check_cell(result: Mapping[str, Any]) -> None:
    try:
        key = cell_of(result).key
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _Wrong(f"cell does not say which cell this is ({error!r})") from error
    if key != result["key"]:
        raise _Wrong(f"key must be that of its cell, {key}, got {result['key']}")


def _check_evaluation(evaluation: Any, name: str) -> None:
    """Check the mean Dice of structures and volumes; None stands for a structure that is in no volume."""
    _need(evaluation, ("mean_dice", "volumes"), f"evaluation {name!r}")
    means, volumes = evaluation["mean_dice"], evaluation["volumes"]
    _need(means, ("mean",), f"mean_dice of {name!r}")
    check_share(means["mean"], f"mean_dice of {name!r}")
    _check_dice(means, f"mean_dice of {name!r}")
    if not isinstance(volumes, Sequence) or isinstance(volumes, str) or not volumes:
        raise _Wrong(f"volumes of {name!r} must be a list of at least one volume, got {volumes!r}")
    seen: set[str] = set()
    for volume in volumes:
        _need(volume, ("id", "mean"), f"a volume of {name!r}")
        _text(volume["id"], f"id of a volume of {name!r}")
        if volume["id"] in seen:
            raise _Wrong(f"volumes of {name!r} have {volume['id']!r} twice")
        seen.add(volume["id"])
        _check_dice({key: value for key, value in volume.items() if key != "id"}, f"{volume['id']} of {name!r}")
    if all(volume["mean"] is None for volume in volumes):
        raise _Wrong(f"no volume of {name!r} has a Dice")


def _check_dice(scores: Mapping[str, Any], where: str) -> None:
    for structure, value in scores.items():
        if value is not None:
            check_share(value, f"Dice of {structure} in {where}")


def _check_curve(points: Any, name: str, highest: float) -> None:
    if not isinstance(points, list) or not all(isinstance(point, list) and len(point) == 2 for point in points):
        raise _Wrong(f"{name} must be a list of pairs of step and value, got {str(points)[:80]}")
    for step, value in points:
        _number(step, f"step of {name}", 0)
        _number(value, f"value of {name}", -math.inf, highest)


def _need(values: Any, names: Sequence[str] | Mapping[str, Any], what: str) -> None:
    missing = [name for name in names if name not in _mapping(values, what)]
    if missing:
        raise _Wrong(f"{what} must have {', '.join(names)}, {', '.join(missing)} is missing")


def _mapping(values: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise _Wrong(f"{what} must be a JSON object, got {values!r}")
    return values


def _text(value: Any, name: str) -> None:
    if not isinstance(value, str) or not value:
        raise _Wrong(f"{name} must be a text, got {value!r}")


def _number(value: Any, name: str, lowest: float, highest: float = math.inf) -> float:
    """Return a number of a range; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not lowest <= value <= highest:
        limits = f"from {lowest:g} to {highest:g}" if highest < math.inf else f"from {lowest:g}"
        raise _Wrong(f"{name} must be a number {limits}, got {value!r}")
    return float(value)
