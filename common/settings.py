"""Settings of a run in a form that checkpoints and JSON hold, so that they can be kept beside results and compared."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


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
