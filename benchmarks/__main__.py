"""`python -m benchmarks run [NAME...] | measure NAME | report`."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from typing import Any

import fire

from . import harness
from .report import report, tables

_PARTS = ("scale", "only", "case")  # options that leave a part of a benchmark out


def run(
    *names: str,
    dataset_dir: str = "",
    checkpoint: str = "",
    scale: float = 1.0,
    only: str = "",
    case: int | None = None,
    seed: int = 0,
    runs_dir: str = "",
    num_files: int | None = None,
    output: str = "",
) -> None:
    """Run benchmarks one after another, each in a process of its own, so that its memory is its own.

    A benchmark that fails does not stop the others; it is named at the end and the exit status is 1.

    Args:
        *names: of the benchmarks; none for all.
        dataset_dir: folder of ACDC, for the benchmarks that can use its slices; without it they use phantoms.
        checkpoint: weights of the bundle's network (`model.pt`) for `review`, and for `inference` and `folder`, where
            they are random without it.
        scale: share of the cases of `robustness`, 1 for all. A part of them is shown, but written to `output` only.
        only: kinds of trouble for `robustness`, separated by commas; empty for all.
        case: number of a case of `robustness`, to repeat it alone.
        seed: of `robustness`.
        runs_dir: where `strong_baseline` keeps its trainings, to go on with those of an earlier call; without it they
            are in a temporary folder.
        num_files: files in the folder that `folder` segments; without it 20.
        output: file for the result of a single benchmark, in place of the one in `benchmarks/results`.

    Raises:
        ValueError: if there is no benchmark of a name, or `output` is for several.
    """
    for name in names:
        _check_name(name)
    if output and len(names) != 1:
        raise ValueError(f"output must come with the name of one benchmark, got {output!r} and {names}; name it.")
    given = _given(dataset_dir, checkpoint, scale, only, case, seed, runs_dir, num_files, output)
    options = [f"--{option}={value}" for option, value in given.items()]
    failed = []
    for name in names or harness.NAMES:
        print(f"{name}", flush=True)
        command = [sys.executable, "-m", "benchmarks", "measure", name, *options]
        if subprocess.run(command, check=False).returncode != 0:
            failed.append(name)
    if failed:
        raise SystemExit(f"failed, see above: {', '.join(failed)}")


def measure(
    name: str,
    dataset_dir: str = "",
    checkpoint: str = "",
    scale: float = 1.0,
    only: str = "",
    case: int | None = None,
    seed: int = 0,
    runs_dir: str = "",
    num_files: int | None = None,
    output: str = "",
) -> None:
    """Run a benchmark in this process, write `benchmarks/results/<name>.json` and print its tables.

    Args:
        name: of the benchmark.
        dataset_dir: folder of ACDC; not used by benchmarks that need no slices.
        checkpoint: weights of the bundle's network; used by `inference`, `folder` and `review`.
        scale: see `run`; used by `robustness` alone, like the next three.
        only: see `run`.
        case: see `run`.
        seed: see `run`.
        runs_dir: see `run`; used by `strong_baseline` alone.
        num_files: see `run`; used by `folder` alone.
        output: file for the result; without one, a part of a benchmark is not written.

    Raises:
        ValueError: if there is no benchmark of that name.
    """
    _check_name(name)
    # Not imported above: what one benchmark needs is not loaded, or missed, by the others.
    benchmark = importlib.import_module(f".{name}", __package__)
    accepted = inspect.signature(benchmark.measure).parameters
    given = _given(dataset_dir, checkpoint, scale, only, case, seed, runs_dir, num_files)
    options = {key: value for key, value in given.items() if key in accepted}
    outcome = benchmark.measure(**options)
    shown = {"dataset_dir": "DIR", "checkpoint": "CHECKPOINT", "runs_dir": "DIR"}  # whose folders they are says nothing
    outcome["command"] += "".join(f" --{option} {shown.get(option, value)}" for option, value in options.items())
    print(tables(outcome))
    if output or not set(options) & set(_PARTS):
        print(f"Wrote {harness.write(outcome, output)}.")


def _given(
    dataset_dir: str,
    checkpoint: str,
    scale: float,
    only: str | tuple[str, ...],
    case: int | None,
    seed: int,
    runs_dir: str = "",
    num_files: int | None = None,
    output: str = "",
) -> dict[str, Any]:
    """Return the options that are not what they are by default."""
    if not isinstance(only, str):  # Fire makes a tuple of a list with commas
        only = ",".join(only)
    options = {
        "dataset_dir": dataset_dir,
        "checkpoint": checkpoint,
        "only": only,
        "seed": seed,
        "runs_dir": runs_dir,
        "num_files": num_files,
        "output": output,
    }
    given = {key: value for key, value in options.items() if value}
    return given | ({"scale": scale} if scale != 1 else {}) | ({"case": case} if case is not None else {})


def _check_name(name: str) -> None:
    if name not in harness.NAMES:
        raise ValueError(f"name must be one of {', '.join(harness.NAMES)}, got {name!r}; choose one of them")


if __name__ == "__main__":
    fire.Fire({"run": run, "measure": measure, "report": report})
