"""The rows of a study that takes hours: they are in its file as they come, and are not measured again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.records import read_record


def read_rows(path: Path, settings: Mapping[str, Any], *keys: str) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Return the rows of the file; none if there is no file.

    Args:
        path: of the file, a record with "settings" and "rows".
        settings: with which more rows are to be measured.
        keys: of a row, by whose values it is to be found.

    Raises:
        RecordError: if the file is damaged.
        ValueError: if it is of a run with other settings.
    """
    if not path.is_file():
        return {}
    record = read_record(path, "delete it to measure all again")
    if record["settings"] != settings:
        raise ValueError(
            f"{path} must be of a run with the same settings, {dict(settings)}, got {record['settings']}: name another "
            "output, or delete the file."
        )
    return {tuple(row[key] for key in keys): row for row in record["rows"]}
