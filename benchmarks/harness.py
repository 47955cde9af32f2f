"""Time contenders in turn, measure their peak memory, and say in a result file where, when and with what.

A result file `results/<benchmark>.json` is one dictionary:

    benchmark, command, commit, date, device, threads, versions
    rows      one dictionary for each contender and case; the keys are the columns of its table in the report
    targets   what was to be reached: rule, limit, measured, met
    notes     what a reader has to know besides
"""

from __future__ import annotations

import ctypes
import datetime
import gc
import importlib.metadata
import math
import platform
import re
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from common.records import write_record

# In the order in which they are run and reported: what a person waits for comes first.
NAMES = (
    "time_to_model",
    "inference",
    "folder",
    "prepare",
    "review",
    "validation",
    "peers",
    "step",
    "global_loss",
    "local_loss",
    "pipeline",
    "precision",
    "without_bfloat16",
    "scale",
    "ddp",
    "strong_baseline",
    "robustness",
)
RESULTS = Path(__file__).resolve().parent / "results"
RUN_SECONDS = 0.05  # length of a run of calls that are too short to be timed one by one
_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_PACKAGES = ("torch", "monai", "numpy", "itk-filtering", "pytorch-metric-learning", "lightly")


def default_device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_in_turn(
    contenders: Mapping[str, Callable[[], object]],
    repetitions: int,
    warm_up: int = 1,
    device: torch.device | None = None,
    calls: Mapping[str, int] | None = None,
) -> dict[str, list[float]]:
    """Run every contender once, then every contender once more, and so on: drifts of the machine meet all alike.

    Args:
        contenders: what is timed, by name.
        repetitions: timed runs of each.
        warm_up: untimed runs of each before that.
        device: where they compute; waited for before each reading of the clock.
        calls: by name, how many calls make one run, for contenders that one reading of the clock is too coarse for;
            1 where a name is not in it.

    Returns:
        Seconds per call of each timed run, by name.

    Raises:
        ValueError: if there is nothing to time.
    """
    if repetitions < 1 or warm_up < 0 or not contenders:
        raise ValueError(
            "repetitions must be at least 1, warm_up at least 0 and contenders not empty, got "
            f"{repetitions!r}, {warm_up!r} and {list(contenders)}; give something to time"
        )
    device = device or default_device()
    calls = calls or {}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for repetition in range(warm_up + repetitions):
        for name, contender in contenders.items():
            num_calls = calls.get(name, 1)
            synchronise(device)
            started = time.perf_counter()
            for _ in range(num_calls):
                contender()
            synchronise(device)
            if repetition >= warm_up:
                seconds[name].append((time.perf_counter() - started) / num_calls)
    return seconds


@dataclass(frozen=True)
class Call:
    """One call of a contender: what it returned, how long it took and what it needed at its peak."""

    value: float
    seconds: float
    peak_mib: float | None


def observe(function: Callable[[], torch.Tensor], device: torch.device | None = None) -> Call:
    """Call a function that returns a scalar once, for its value, its memory and the order of its cost."""
    device = device or default_device()
    observed: list[tuple[float, float]] = []

    def timed() -> None:
        started = time.perf_counter()
        value = function()
        synchronise(device)
        observed.append((value.item(), time.perf_counter() - started))

    peak = peak_memory_mib(timed, device)
    return Call(*observed[0], peak)


def calls_per_run(function: Callable[[], object], observed: Call, device: torch.device | None = None) -> int:
    """Return how many calls fill a run of `RUN_SECONDS`; 1 if the observed call was slow enough by far."""
    if observed.seconds > 4 * RUN_SECONDS:
        return 1
    fastest = min(time_in_turn({"one": function}, repetitions=3, warm_up=0, device=device)["one"])
    return math.ceil(RUN_SECONDS / fastest)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, lowest and highest."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def ratios(seconds: Mapping[str, Sequence[float]], contender: str, reference: str) -> dict[str, float]:
    """Return how many times as long as the reference a contender took, pairing runs that followed one another."""
    return spread([a / b for a, b in zip(seconds[contender], seconds[reference], strict=True)])


def peak_memory_mib(function: Callable[[], object], device: torch.device | None = None) -> float | None:
    """Return what a call needs at its peak beyond what is in use before it.

    On a GPU that is its tensors, on Linux the resident memory of the process; None elsewhere.
    """
    device = device or default_device()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        synchronise(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    if not _CLEAR_REFS.exists():
        return None
    ctypes.CDLL(None).malloc_trim(0)  # what was freed earlier would otherwise be used again without being seen
    _CLEAR_REFS.write_text("5")  # resets the peak, VmHWM
    resident = resident_mib("VmRSS")
    function()
    return max(0.0, resident_mib("VmHWM") - resident)


def resident_mib(*names: str) -> float:
    """Return the sum of entries of `/proc/self/status`, such as "VmRSS"; NaN where the system has no such file."""
    if not _STATUS.exists():
        return math.nan
    entries = dict(re.findall(r"^(\w+):\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE))
    return sum(int(entries[name]) for name in names) / 1024


def target(rule: str, measured: float, at_most: float | None = None, at_least: float | None = None) -> dict[str, Any]:
    """Compare a measured value with what was to be reached.

    Args:
        rule: in words, with its unit.
        measured: the value.
        at_most: the limit, if it is an upper one.
        at_least: the limit, if it is a lower one.

    Raises:
        ValueError: if not exactly one limit is given.
    """
    if (at_most is None) == (at_least is None):
        raise ValueError(f"target must have one limit, at_most or at_least, got {at_most!r} and {at_least!r}.")
    met = (at_most is None or measured <= at_most) and (at_least is None or measured >= at_least)
    limit = {"at_most": at_most} if at_most is not None else {"at_least": at_least}
    return {"rule": rule, **limit, "measured": measured, "met": bool(met)}


def result(
    benchmark: str, rows: Sequence[dict[str, Any]], targets: Sequence[dict[str, Any]], notes: Sequence[str] = ()
) -> dict[str, Any]:
    """Put together what is written to a result file."""
    device = default_device()
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "absent"
    return {
        "benchmark": benchmark,
        "command": f"python -m benchmarks run {benchmark}",
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"CPU ({_processor()})",
        "threads": torch.get_num_threads(),
        "versions": versions,
        "rows": list(rows),
        "targets": list(targets),
        "notes": list(notes),
    }


def source(benchmark: str) -> Path:
    """Return the file that is run for a benchmark: a module, or the first of a package."""
    module = Path(__file__).with_name(f"{benchmark}.py")
    return module if module.exists() else Path(__file__).with_name(benchmark) / "__init__.py"


def write(outcome: dict[str, Any], output: str = "") -> Path:
    """Write a result file, whole or not at all; a GPU's stands beside the CPU's, `output` in the place of both."""
    suffix = "" if outcome["device"].startswith("CPU") else "_gpu"
    path = Path(output) if output else RESULTS / f"{outcome['benchmark']}{suffix}.json"
    write_record(path, outcome)
    return path


def _commit() -> str:
    """Name the commit, "-dirty" if files but results were changed since: a run of several benchmarks changes those."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(exclude,top)*/results/*")
    commit = git("rev-parse", "--short=12", "HEAD")
    return commit + ("-dirty" if changed else "") or "unknown"


def _processor() -> str:
    try:
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        match = None
    return match.group(1) if match else platform.machine()
