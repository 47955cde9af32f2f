"""JSON as a person would lay it out: what fits stands on one line, short values fill lines."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

_WIDTH = 120
_INDENT = 4


def layout(value: dict[str, Any]) -> str:
    """Return a JSON object as text: each of its members begins a line, and so does each that does not fit on one.

    Args:
        value: of plain JSON.
    """
    return _block("{", _filled([_member(key, entry, 1) for key, entry in value.items()], 1), "}", 0) + "\n"


def _member(key: str, value: Any, depth: int) -> str:
    name = f"{json.dumps(key, ensure_ascii=False)}: "
    return name + _value(value, depth, len(name))


def _value(value: Any, depth: int, taken: int) -> str:
    """Lay out a value that begins `taken` characters behind the indentation of this depth."""
    line = json.dumps(value, ensure_ascii=False)
    if _INDENT * depth + taken + len(line) < _WIDTH or not isinstance(value, (dict, list)) or not value:
        return line
    if isinstance(value, dict):
        entries = [_member(key, entry, depth + 1) for key, entry in value.items()]
    else:
        entries = [_value(entry, depth + 1, 0) for entry in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return _block(opening, _filled(entries, depth + 1), closing, depth)


def _filled(entries: Iterable[str], depth: int) -> list[str]:
    """Put neighbours on one line as long as they fit; an object, and what has several lines, stands alone."""
    lines: list[str] = []
    for entry in entries:
        joined = f"{lines[-1]}, {entry}" if lines else entry
        fits = _INDENT * depth + len(joined) < _WIDTH and "\n" not in joined
        if lines and fits and "{" not in joined:
            lines[-1] = joined
        else:
            lines.append(entry)
    return lines


def _block(opening: str, lines: Iterable[str], closing: str, depth: int) -> str:
    inner, outer = " " * _INDENT * (depth + 1), " " * _INDENT * depth
    return f"{opening}\n" + ",\n".join(f"{inner}{line}" for line in lines) + f"\n{outer}{closing}"
