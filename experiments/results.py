"""Result files of cells and records of stages, read: every type and range is checked before a number is used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.records import RecordError, read_record
from release.results import RUN_AGAIN, ResultError, parse_result
from release.values import WrongValue, check_names, check_number, check_text

from .grid import Cell

_GO_ON = "delete it to let the stage go on from its last checkpoint"


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
        ResultError: if the file is missing or damaged, or its cell is none of the grid's.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ResultError(f"{path} cannot be read ({error}): name a result that `reproduce` wrote.") from error
    result = parse_result(text, str(path))
    try:
        cell_of(result)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ResultError(
            f"{path} is not a whole result file: cell does not say which cell this is ({error!r}); {RUN_AGAIN}."
        ) from error
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
        check_names(record, ("config", "seconds", "finished", "images"), "a record")
        check_text(record["config"], "config")
        check_number(record["seconds"], "seconds", 0)
        if type(record["finished"]) is not bool:
            raise WrongValue(f"finished must be true or false, got {record['finished']!r}")
        if type(record["images"]) is not int or record["images"] < 1:
            raise WrongValue(f"images must be a whole number from 1, got {record['images']!r}")
    except RecordError as error:
        raise ResultError(str(error)) from error
    except WrongValue as error:
        raise ResultError(f"{path} is not a whole record of a stage: {error}; {_GO_ON}.") from error
    return record
