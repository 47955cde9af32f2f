"""Print the first error once more at the end.

MONAI wraps an error into others, whose messages come last in the traceback and do not name the file or the remedy.
"""

from __future__ import annotations

import sys
import traceback
from types import TracebackType


def root_cause(error: BaseException) -> BaseException:
    """Follow `raise ... from ...` through MONAI's wrappers, all RuntimeErrors, to the error that started it all."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def show_cause_last() -> None:
    """Make this process end an uncaught error's traceback with the message of its root cause.

    Called first in every `run` list: there `monai.bundle` reports "Failed to evaluate" and an expression, far below
    the message that names the file and the remedy.
    """
    sys.excepthook = _report


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    traceback.print_exception(kind, error, trace)
    cause = root_cause(error)
    if cause is not error:
        print(f"\nCause: {type(cause).__name__}: {cause}", file=sys.stderr)
