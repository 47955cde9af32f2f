"""Lint, format and types, as a part of the suite so that a failing check fails it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from .conftest import REPOSITORY


@pytest.mark.parametrize(
    "command",
    [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]],
    ids=["lint", "format", "types"],
)
def test_clean(command):
    run = subprocess.run([sys.executable, "-m", *command], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
