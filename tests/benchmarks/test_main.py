from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import harness
from benchmarks.__main__ import measure, run
from tests.places import REPOSITORY

WORKS = '''"""Two things beside each other."""
from . import harness

def measure(dataset_dir="phantoms"):
    return harness.result("step", [{"dataset_dir": dataset_dir}], [harness.target("rule", 2.0, at_most=1.0)])
'''
NEEDS_NO_DATA = '''"""Losses."""
from . import harness

def measure():
    return harness.result("global_loss", [{"contender": "ours"}], [])
'''
FAILS = '''"""Cannot be measured."""

def measure():
    raise RuntimeError("out of luck")
'''


@pytest.fixture
def copy(tmp_path):
    """A `benchmarks` package with made-up benchmarks, to run in processes of its own."""
    package = tmp_path / "benchmarks"
    package.mkdir()
    for name in ("__init__.py", "__main__.py", "harness.py", "plan.py", "report.py"):
        shutil.copy(REPOSITORY / "benchmarks" / name, package)
    (package / "global_loss.py").write_text(NEEDS_NO_DATA)
    (package / "local_loss.py").write_text(FAILS)
    (package / "step.py").write_text(WORKS)
    return package


def command(package: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=package.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_one_that_fails_does_not_stop_the_others(copy):
    outcome = command(copy, "run", "local_loss", "step", "global_loss", "--dataset_dir", "somewhere")
    assert outcome.returncode == 1
    assert "failed, see above: local_loss" in outcome.stderr and "out of luck" in outcome.stderr
    results = {path.name: json.loads(path.read_text()) for path in (copy / "results").iterdir()}
    assert set(results) == {"step.json", "global_loss.json"}
    assert f"Wrote {copy / 'results' / 'step.json'}." in outcome.stdout
    assert results["step.json"]["rows"] == [{"dataset_dir": "somewhere"}]
    assert results["step.json"]["command"] == "python -m benchmarks run step --dataset_dir DIR"
    assert results["global_loss.json"]["command"] == "python -m benchmarks run global_loss"  # takes no dataset_dir
    assert "| somewhere   |" in outcome.stdout and "**NOT met**" in outcome.stdout


def test_all_run_in_order_without_a_name(monkeypatch, capsys):
    commands = []

    def remember(arguments, check):
        commands.append(arguments[2:])
        return subprocess.CompletedProcess(arguments, returncode=0)

    monkeypatch.setattr(subprocess, "run", remember)
    run()
    names = list(harness.NAMES)
    assert commands == [["benchmarks", "measure", name] for name in names]
    assert capsys.readouterr().out.split() == names


@pytest.mark.parametrize("call", [run, measure])
def test_unknown_name(monkeypatch, call):
    monkeypatch.setattr(subprocess, "run", None)
    with pytest.raises(
        ValueError, match=r"name must be one of time_to_model, inference, .*, robustness, got 'steps'; choose"
    ):
        call("steps")


@pytest.mark.parametrize("name", harness.NAMES)
def test_every_benchmark_is_there(name):
    assert harness.source(name).exists()
