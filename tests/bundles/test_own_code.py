"""Another package `common` is noticed, and the message says which was found and what to do."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bundles.own_code import WrongCodeError, check_own_code
from tests.places import REPOSITORY

COMMANDS = [["bundles", "path", "acdc"], ["release", "verify", "x.zip"], ["experiments", "demo"]]


def test_that_of_the_repository_is_taken():
    check_own_code()
    check_own_code(REPOSITORY)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_folder_of_that_name_is_refused(command, tmp_path):
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "__init__.py").touch()
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}"}
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode and not done.stdout
    message = done.stderr.rstrip().splitlines()[-1]
    assert str(tmp_path / "common" / "__init__.py") in message and str(REPOSITORY / "common") in message
    assert "run this from another folder" in message and "pip uninstall common" in message


@pytest.mark.parametrize("has_init", [True, False], ids=["package", "folder"])
def test_another_place_is_named(has_init, tmp_path, monkeypatch):
    (tmp_path / "common").mkdir()
    if has_init:
        (tmp_path / "common" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(WrongCodeError, match="comes first"):
        check_own_code(tmp_path / "elsewhere")


def test_a_package_that_was_installed_over_ours_is_refused(monkeypatch):
    monkeypatch.delattr("common.OF_BUNDLES")
    with pytest.raises(WrongCodeError, match="installed over it: `pip uninstall common`"):
        check_own_code()
