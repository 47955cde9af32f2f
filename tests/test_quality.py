"""Lint, format, types and warnings, as a part of the suite so that a failing check fails it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import warnings

import pytest

from .places import REPOSITORY


@pytest.mark.parametrize(
    "command",
    [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]],
    ids=["lint", "format", "types"],
)
def test_clean(command):
    run = subprocess.run([sys.executable, "-m", *command], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(("module", "fails"), [("common.data.cache", True), ("release", True), ("monai.data", False)])
@pytest.mark.parametrize("category", [DeprecationWarning, FutureWarning])
def test_deprecation_warnings_of_our_own_code_are_errors(module, fails, category):
    with pytest.raises(category) if fails else contextlib.nullcontext():
        exec("warnings.warn('old', category)", {"__name__": module, "warnings": warnings, "category": category})
