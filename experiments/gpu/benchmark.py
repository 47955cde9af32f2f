"""The GPU columns of the benchmarks, each in a process and a time limit of its own."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import harness

from .gpu_tests import facts_of
from .kit import KIT, REPOSITORY, STARTED, WORK, KitError
from .outcome import Outcome, seconds_since

# Seconds that each may take, in the order in which they run. `prepare` has no GPU column.
LIMITS = {
    "step": 90,
    "precision": 240,
    "pipeline": 150,
    "scale": 120,
    "inference": 90,
    "local_loss": 120,
    "global_loss": 120,
}
# A loop over pairs waits for the GPU at every number, and needs no more runs than one to be out of sight.
_GPU_OPTIONS: dict[str, dict[str, Any]] = {"local_loss": {"repetitions": 2}}
_GPU_LOOP_EXPONENTIALS = 10_000
_REHEARSAL_PATIENCE = 4
_REHEARSAL: dict[str, dict[str, Any]] = {
    "step": {"batch_size": 16, "repetitions": 1, "side": 64},
    "precision": {
        "batch_size": 16,
        "repetitions": 1,
        "curve_steps": 20,
        "curve_batch_sizes": {"global": 16},
        "num_phantoms": 4,
        "side": 64,
    },
    "pipeline": {
        "batches": 1,
        "steps": 1,
        "repetitions": 1,
        "step_repetitions": 1,
        "side": 64,
        "batch_sizes": {"fine-tuning": 4, "global": 16},
    },
    "scale": {"sizes": (20, 40), "side": 64, "batch_size": 16, "repetitions": 1, "in_memory_gib": 0.0004},
    "inference": {"repetitions": 1, "warm_up": 1, "num_candidates": 1, "size": (64, 72)},
    "local_loss": {"num_slices": 12, "repetitions": 1},
    "global_loss": {"sizes": (16, 24), "repetitions": 1},
}


def benchmarks(
    out: str,
    device: str = "cuda",
    names: Sequence[str] = tuple(LIMITS),
    max_minutes: float = 9.0,
    kit: str = str(KIT),
    work: str = str(WORK),
) -> None:
    """Run benchmarks; every result is in the folder as soon as it is there.

    Args:
        out: folder that comes back.
        device: "cuda", or "cpu" to rehearse with inputs so small that the numbers say nothing.
        names: of the benchmarks, in the order in which they run.
        max_minutes: for all together; what has not begun by then is left out and named in the report.
        kit: folder of the kit, whose wheels are installed.
        work: folder that they are installed in.

    Raises:
        SystemExit: with status 1 if one fails, is stopped or left out.
    """
    wanted = [names] if isinstance(names, str) else list(names)
    if unknown := [name for name in wanted if name not in LIMITS]:
        raise KitError(f"names must be among {', '.join(LIMITS)}, got {', '.join(map(str, unknown))}.")
    outcome = Outcome(Path(out), facts_of("benchmarks", device, Path(kit)))
    results = Path(work).resolve() / "benchmarks"
    states: dict[str, Any] = {}
    for name in wanted:
        left = 60 * max_minutes - seconds_since(STARTED)
        if left < 20:
            states[name] = "left out: no time"
            continue
        began = time.monotonic()
        log = results / f"{name}.log"
        limit = LIMITS[name] * (1 if device == "cuda" else _REHEARSAL_PATIENCE)
        state = _run(name, device, results, log, min(limit, left), outcome.facts["commit"])
        states[name] = f"{state}, {seconds_since(began):.0f} s"
        outcome.add(f"logs/{log.name}", log.read_bytes())
        for path in results.glob(f"{name}*.json"):
            folder = "benchmarks/results" if device == "cuda" else "rehearsal"
            outcome.add(f"{folder}/{path.name}", path.read_bytes())
        outcome.report(benchmarks=states, seconds=seconds_since(STARTED))
        print(f"{name}: {states[name]}", flush=True)
    outcome.report(benchmarks=states, seconds=seconds_since(STARTED))
    if bad := [f"{name} ({state})" for name, state in states.items() if not state.startswith("done")]:
        raise SystemExit(f"not done: {'; '.join(bad)}")


def measure(name: str, device: str, results: Path, commit: str) -> None:
    """Run a benchmark in this process and write its result file to a folder."""
    module: Any = importlib.import_module(f"benchmarks.{name}")
    options = (_REHEARSAL if device == "cpu" else _GPU_OPTIONS).get(name, {})
    if name == "global_loss" and device == "cuda":
        module.MAX_LOOP_EXPONENTIALS = _GPU_LOOP_EXPONENTIALS
    harness.RESULTS = results
    harness.write({**module.measure(**options), "commit": commit})


def _run(name: str, device: str, results: Path, log: Path, seconds: float, commit: str) -> str:
    results.mkdir(parents=True, exist_ok=True)
    for path in results.glob(f"{name}*.json"):
        path.unlink()
    call = f"measure({name!r}, {device!r}, Path({str(results)!r}), {commit!r})"
    lines = ["from pathlib import Path", "from experiments.gpu.benchmark import measure"]
    lines.append(f"if __name__ == '__main__': {call}")
    script = results / f"{name}_process.py"  # a file, since processes that a benchmark starts import it
    script.write_text("\n".join(lines), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])}
    if device == "cpu":
        environment["TORCHDYNAMO_DISABLE"] = "1"  # compiling for a processor takes minutes and is another matter
    with log.open("w") as target:
        process = subprocess.Popen(
            [sys.executable, str(script)],
            cwd=REPOSITORY,
            stdout=target,
            stderr=subprocess.STDOUT,
            env=environment,
            process_group=0,  # so that it ends with all processes that it started
        )
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"stopped after {seconds:.0f} s"
    return "done" if status == 0 else f"failed with status {status}"
