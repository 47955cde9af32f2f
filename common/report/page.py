"""The page: its parts, and the HTML file that is made of them."""

from __future__ import annotations

import base64
import functools
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2

from ..display import Display, Displayed
from ..files import write_text_atomically
from .layers import data_url, encode
from .words import number

FILE = "report.html"
"""Name of a report in the folder of what it reports on."""
NOTICE = "For research, not for clinical use."
_FOLDER = Path(__file__).parent
_MOST_CHARACTERS = 12_000_000  # of the slices of all cases; a browser opens a page of this size at once
_MOST_OF_A_CASE = 600_000

Value = float | int | str | None


@dataclass(frozen=True)
class Column:
    """A column of the table of cases.

    Attributes:
        key: by which `Case.values` has its values.
        name: its heading.
        digits: behind the point of a number.
        is_share: values are from 0 to 1, and are drawn as bars.
        is_detail: the opened case has it among its details.
    """

    key: str
    name: str
    digits: int = 3
    is_share: bool = False
    is_detail: bool = False


@dataclass(frozen=True)
class Case:
    """A row of the table, and what opens from it.

    Attributes:
        name: of the volume, photograph or run.
        values: by the keys of the columns; what is missing is shown as a dash.
        layers: its slices, see `Report.encode`; None shows none.
        details: by structure (row) and measure (column), for the opened case.
        note: a sentence for the opened case.
    """

    name: str
    values: Mapping[str, Value]
    layers: Mapping[str, Any] | None = None
    details: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Plot:
    """A picture of the page.

    Attributes:
        path: PNG file.
        title: what stands below it.
        description: what is to be seen, for who cannot see it.
    """

    path: Path
    title: str
    description: str


class Report:
    """Collects cases, and writes the page.

    Args:
        kind: what is reported, such as "Evaluation".
        number: how many cases there are going to be; the more, the smaller are their slices.
        noun: what a case is, in the singular.
        class_names: names of the classes of the maps, the background's first; none without maps.
        colours: of the classes from 1, as "#rrggbb".
        filled: show classes as areas at first, as of photographs, and not only as outlines.
    """

    def __init__(
        self,
        kind: str,
        number: int,
        noun: str,
        class_names: Sequence[str] = (),
        colours: Sequence[str] = (),
        filled: bool = False,
    ) -> None:
        self.kind = kind
        self.noun = noun
        self.classes = [{"name": name, "colour": colour} for name, colour in zip(class_names[1:], colours, strict=True)]
        self.filled = filled
        self.cases: list[Case] = []
        self._most = min(_MOST_OF_A_CASE, _MOST_CHARACTERS // max(1, number))

    @classmethod
    def of(cls, kind: str, number: int, display: Display, class_names: Sequence[str] = ()) -> Report:
        """Make a report on images that are displayed like this."""
        colours = display.colours(len(class_names) - 1) if class_names else []
        return cls(kind, number, display.noun, class_names, colours, display.filled)

    def encode(self, shown: Displayed, names: Sequence[str] = ()) -> dict[str, Any]:
        """Encode the slices of a case, see `layers.encode`."""
        return encode(shown, self._most, names)

    def add(self, case: Case) -> None:
        """Add a case."""
        self.cases.append(case)

    def write(
        self,
        path: str | os.PathLike[str],
        title: str,
        lead: str,
        columns: Sequence[Column],
        order: str,
        tiles: Sequence[tuple[str, str]] = (),
        plots: Sequence[Plot] = (),
        facts: Mapping[str, Mapping[str, Any]] | None = None,
        descending: bool = False,
    ) -> None:
        """Write the page, whole or not at all.

        Args:
            path: the HTML file; its folder is made.
            title: of the page.
            lead: a sentence below it.
            columns: of the table of cases.
            order: key of the column by which the cases are sorted at first.
            tiles: names of the main numbers, and the numbers.
            plots: whose files are there.
            facts: what else is to be known, by headings, such as "Settings".
            descending: the highest comes first.

        Raises:
            WriteError: if the folder cannot be written to.
        """
        cases = _sorted(self.cases, order, descending)
        data = {"classes": self.classes, "noun": self.noun, "filled": self.filled}
        program = _text("page.js")
        page = _template().render(
            kind=self.kind,
            title=title,
            lead=lead,
            notice=NOTICE,
            noun=self.noun,
            tiles=tiles,
            columns=columns,
            order=order,
            descending=descending,
            cases=[_shown(case, columns) for case in cases],
            has_slices=any(case.layers for case in cases),
            opens=any(map(_opens, cases)),
            plots=[(plot, data_url(plot.path.read_bytes(), "image/png")) for plot in plots],
            facts=facts or {},
            data=data,
            style=_text("page.css"),
            program=program,
            program_hash=base64.b64encode(hashlib.sha256(program.encode()).digest()).decode("ascii"),
            written=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        )
        write_text_atomically(path, page)


def _sorted(cases: Sequence[Case], order: str, descending: bool) -> list[Case]:
    """Sort cases by a value; those without it come last."""
    known = [case for case in cases if case.values.get(order) is not None]
    known.sort(key=lambda case: case.values[order], reverse=descending)  # type: ignore[arg-type,return-value]
    return known + [case for case in cases if case.values.get(order) is None]


def _shown(case: Case, columns: Sequence[Column]) -> dict[str, Any]:
    """Return a case as the template needs it."""
    measures = list(dict.fromkeys(name for own in case.details.values() for name in own))
    opened = {
        "name": case.name,
        "note": case.note,
        "values": [
            [column.name, number(case.values[column.key], column.digits)]
            for column in columns
            if not column.is_detail and case.values.get(column.key) is not None
        ],
        "measures": measures,
        "structures": [[name, *(number(own.get(key)) for key in measures)] for name, own in case.details.items()],
        "layers": case.layers,
    }
    cells = [(column, case.values.get(column.key)) for column in columns]
    return {
        "name": case.name,
        "has_slices": case.layers is not None,
        "opens": _opens(case),
        "cells": [(column, value, number(value, column.digits)) for column, value in cells],
        "opened": opened,
    }


def _opens(case: Case) -> bool:
    """Whether there is more of a case than its row."""
    return bool(case.layers or case.details or case.note)


@functools.cache
def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(_FOLDER)
    # All text is escaped, whatever the file is called: names of files and classes come from outside.
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html.jinja")


@functools.cache
def _text(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
