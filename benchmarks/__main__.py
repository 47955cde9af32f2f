"""`python -m benchmarks run step`: measure, print, and write `benchmarks/results/<name>.json`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import fire

from common.files import write_text_atomically

from . import step

RESULTS = Path(__file__).resolve().parent / "results"


def run(name: str) -> None:
    """Run a benchmark.

    Args:
        name: "step".

    Raises:
        ValueError: if there is no such benchmark.
    """
    if name != "step":
        raise ValueError(f"name must be 'step', got {name!r}.")
    results = []
    for stage in step.STAGES:
        # A process for each stage, so that its peak memory is its own.
        command = [sys.executable, "-m", "benchmarks", "stage", stage]
        results.append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
        row = results[-1]
        print(
            f"{stage:12s} batch {row['batch_size']}  whole step / network alone {row['ratio']:.3f}  "
            f"peak memory {row['peak_memory_gib']:.2f} GiB  ({row['device']})"
        )
    write_text_atomically(RESULTS / "step.json", json.dumps(results, indent=1) + "\n")


def stage(name: str) -> None:
    """Measure one stage in this process and print its result as JSON."""
    print(json.dumps(step.measure(name)))


if __name__ == "__main__":
    fire.Fire({"run": run, "stage": stage})
