"""Settings of a run in a form that checkpoints and JSON hold, so that they can be kept beside results and compared."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

_NUM_SHOWN = 3  # entries of a container that a message names


def plain_settings(value: Any) -> Any:
    """Turn settings into dictionaries, lists, numbers, text and None.

    Args:
        value: a setting or a mapping of them.

    Returns:
        The same with text for what has no plain form, such as a path or a device, and None for NaN and infinity.
    """
    if isinstance(value, Mapping):
        return {str(key): plain_settings(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_settings(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (int, float, str, bool, type(None))) else str(value)


def describe_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Say which settings differ, within containers which entries; nothing if all are equal.

    Args:
        old: plain settings, see `plain_settings`.
        new: the same, of now.

    Returns:
        Such as "seed was 0, is 1; data_sha256: patient004 changed"; hashes are shortened.
    """
    return "; ".join(
        _describe_change(name, old.get(name), new.get(name))
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    )


def _describe_change(name: str, old: Any, new: Any) -> str:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        changes = {
            "changed": [key for key in old if key in new and old[key] != new[key]],
            "is gone": [key for key in old if key not in new],
            "is new": [key for key in new if key not in old],
        }
        return f"{name}: {_describe_entries(changes)}"
    if isinstance(old, list) and isinstance(new, list) and max(len(old), len(new)) > _NUM_SHOWN:
        changes = {
            "is gone": _without(old, new),
            "is new": _without(new, old),
        }
        return f"{name}: {_describe_entries(changes) or 'the order changed'}"
    return f"{name} was {_shorten(old)}, is {_shorten(new)}"


def _without(entries: list[Any], others: list[Any]) -> list[Any]:
    known = set(map(repr, others))  # not the entries themselves, which can be lists
    return [entry for entry in entries if repr(entry) not in known]


def _describe_entries(changes: Mapping[str, list[Any]]) -> str:
    return ", ".join(
        f"{' and '.join(map(str, entries[:_NUM_SHOWN]))}"
        f"{f' and {len(entries) - _NUM_SHOWN} more' if len(entries) > _NUM_SHOWN else ''} {what}"
        for what, entries in changes.items()
        if entries
    )


def _shorten(value: Any) -> str:
    """Return a value as text; of a SHA-256 its first digits."""
    return f"{value[:8]}..." if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) else repr(value)
