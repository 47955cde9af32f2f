"""Commands run in this process, which saves the seconds in which a new one imports torch and MONAI."""

from __future__ import annotations

import contextlib
import importlib
import logging
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Undo what a run does to the process: log handlers on a captured stdout, the hook for errors, the import path."""
    root, hook, path = logging.getLogger(), sys.excepthook, list(sys.path)
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        root.handlers[:], sys.excepthook, sys.path[:] = handlers, hook, path
        root.setLevel(level)


def run_here(cwd: Path, package: str, *words: str) -> int:
    """Run `python -m package words` in a folder; print an error as Python does. Returns the exit status."""
    path = importlib.import_module(package).__path__[0]
    with undisturbed(), pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.setattr(sys, "argv", [f"{path}/__main__.py", *words])  # as `python -m` sets it
        try:
            runpy.run_module(package, run_name="__main__")
        except Exception:
            sys.excepthook(*sys.exc_info())
            return 1
    return 0
