"""Settings and numbers in words, as they stand on the page."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import monai
import torch

from ..settings import plain_settings

NOTHING = "–"


def number(value: Any, digits: int = 3, unit: str = "") -> str:
    """Write a value; a number that is no whole one with this many digits behind its point, and a dash for None."""
    if value is None:
        return NOTHING
    text = f"{value:.{digits}f}" if isinstance(value, float) else str(value)
    return f"{text} {unit}" if unit else text


def counted(number: int, noun: str) -> str:
    """Write how many there are of something, such as "1 volume" or "2 volumes"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def texts_of(settings: Mapping[str, Any]) -> dict[str, str]:
    """Write settings in words: lists with commas, yes and no, a dash for nothing."""
    return {name: _text_of(value) for name, value in plain_settings(settings).items()}


def _text_of(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_text_of(entry)}" for key, entry in value.items()) or NOTHING
    if isinstance(value, list):
        return ", ".join(map(_text_of, value)) or NOTHING
    return NOTHING if value is None else str(value)


def versions() -> dict[str, str]:
    """Return the versions of what computes."""
    return {"python": platform.python_version(), "torch": torch.__version__, "monai": monai.__version__}
