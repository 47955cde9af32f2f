"""Tables as CSV files, written whole or not at all."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from typing import Any

from .files import atomic_file


def write_table(path: str | os.PathLike[str], rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Write a table with a line of column names.

    Args:
        path: the CSV file, in UTF-8; its folder is made.
        rows: a value for each column; None is an empty cell.
        columns: the names of the columns, in their order.

    Raises:
        ValueError: if a row has a value for another column.
        WriteError: if the folder cannot be written to.
    """
    with atomic_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
