"""`python -m benchmarks run [NAME...] | measure NAME | report`."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import fire

from . import harness
from .report import report, tables


def run(*names: str, dataset_dir: str = "", checkpoint: str = "") -> None:
    """Run benchmarks one after another, each in a process of its own, so that its memory is its own.

    A benchmark that fails does not stop the others; it is named at the end and the exit status is 1.

    Args:
        *names: of the benchmarks; none for all.
        dataset_dir: folder of ACDC, for the benchmarks that can use its slices; without it they use phantoms.
        checkpoint: weights of the bundle's network (`model.pt`) for `inference`; without it they are random.

    Raises:
        ValueError: if there is no benchmark of a name.
    """
    for name in names:
        _check_name(name)
    options = [f"--{option}={value}" for option, value in _given(dataset_dir, checkpoint).items()]
    failed = []
    for name in names or harness.NAMES:
        print(f"{name}", flush=True)
        command = [sys.executable, "-m", "benchmarks", "measure", name, *options]
        if subprocess.run(command, check=False).returncode != 0:
            failed.append(name)
    if failed:
        raise SystemExit(f"failed, see above: {', '.join(failed)}")


def measure(name: str, dataset_dir: str = "", checkpoint: str = "") -> None:
    """Run a benchmark in this process, write `benchmarks/results/<name>.json` and print its tables.

    Args:
        name: of the benchmark.
        dataset_dir: folder of ACDC; not used by benchmarks that need no slices.
        checkpoint: weights of the bundle's network; used by `inference` alone.

    Raises:
        ValueError: if there is no benchmark of that name.
    """
    _check_name(name)
    # Not imported above: what one benchmark needs is not loaded, or missed, by the others.
    benchmark = importlib.import_module(f".{name}", __package__)
    accepted = inspect.signature(benchmark.measure).parameters
    options = {key: value for key, value in _given(dataset_dir, checkpoint).items() if key in accepted}
    outcome = benchmark.measure(**options)
    outcome["command"] += "".join(f" --{option} {option.split('_')[-1].upper()}" for option in options)
    path = harness.write(outcome)
    print(f"{tables(outcome)}\nWrote {path}.")


def _given(dataset_dir: str, checkpoint: str) -> dict[str, str]:
    options = {"dataset_dir": dataset_dir, "checkpoint": checkpoint}
    return {key: value for key, value in options.items() if value}


def _check_name(name: str) -> None:
    if name not in harness.NAMES:
        raise ValueError(f"name must be one of {', '.join(harness.NAMES)}, got {name!r}; choose one of them")


if __name__ == "__main__":
    fire.Fire({"run": run, "measure": measure, "report": report})
