"""Checks of single values that were read from JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


class WrongValue(ValueError):
    """What is wrong with a value, without the file that it is in."""


def check_names(values: Any, names: Sequence[str] | Mapping[str, Any], what: str) -> None:
    """Check that `values` is a JSON object that has these names.

    Raises:
        WrongValue: if it is not; `what` is what it is called there.
    """
    missing = [name for name in names if name not in check_mapping(values, what)]
    if missing:
        raise WrongValue(f"{what} must have {', '.join(names)}, {', '.join(missing)} is missing")


def check_mapping(values: Any, what: str) -> Mapping[str, Any]:
    """Return a JSON object.

    Raises:
        WrongValue: if it is anything else.
    """
    if not isinstance(values, Mapping):
        raise WrongValue(f"{what} must be a JSON object, got {values!r}")
    return values


def check_text(value: Any, name: str) -> str:
    """Return a text that is not empty.

    Raises:
        WrongValue: if it is anything else.
    """
    if not isinstance(value, str) or not value:
        raise WrongValue(f"{name} must be a text, got {value!r}")
    return value


def check_number(value: Any, name: str, lowest: float, highest: float = math.inf) -> float:
    """Return a number of a range, both ends included; true and false are none.

    Raises:
        WrongValue: if it is anything else.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not lowest <= value <= highest:
        limits = f"from {lowest:g} to {highest:g}" if highest < math.inf else f"from {lowest:g}"
        raise WrongValue(f"{name} must be a number {limits}, got {value!r}")
    return float(value)


def check_share(value: Any, name: str) -> float:
    """Return a number from 0 to 1, such as a Dice or an accuracy.

    Raises:
        WrongValue: if it is anything else.
    """
    return check_number(value, name, 0, 1)
