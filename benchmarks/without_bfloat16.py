"""Training steps on CPUs without bfloat16 instructions: is the default the fastest there?

Such processors are made of this one: in a process of their own, oneDNN, torch's own kernels, its compiler and MKL are
told to use no more than one set of instructions, by the variables in `INSTRUCTIONS`:

    AVX2          most processors in desktops and notebooks
    AVX512_CORE   AVX-512 without bfloat16 and AMX, as in servers of 2017 to 2020

Contenders: all of float32 and bfloat16, the default memory layout and channels_last, one thread and one for each core,
each with several sizes of batches; and the default after `torch.compile`. Timed are
forward, loss, backward and optimiser on one batch of noise, for fine-tuning and for global pre-training. What `auto`
chooses is asked with the processor's own answer to whether it has such instructions, which the variables do not change,
replaced by "no".
"""

from __future__ import annotations

import dataclasses
import itertools
import multiprocessing
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from tqdm import tqdm

from common.data.cores import num_cores
from common.engines import AutocastInferer, StageTrainer, resolve_precision
from common.networks.regions import region_positions

from . import harness, step
from .precision import train_once

INSTRUCTIONS = {
    "AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "AVX512_CORE": {
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
        "ATEN_CPU_CAPABILITY": "avx512",
        "MKL_ENABLE_INSTRUCTIONS": "AVX512",
    },
}
# Images of a batch, views included; the first is the bundles' default. GD needs whole volumes of four partitions.
BATCH_SIZES = {"fine-tuning": (20, 10, 5), "global": (40, 24, 16)}
LAYOUTS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}
DEFAULT_LAYOUT = "channels_last"
PRECISIONS = ("float32", "bfloat16")
MOST_TIMES_FASTEST = 1.05
_Timed = tuple[list[dict[str, Any]], list[str]]  # rows and notes
_CPU = torch.device("cpu")
_TOO_SLOW = 3.0
_PROBES = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")


def measure(
    repetitions: int = 3,
    instructions: Sequence[str] | None = None,
    threads: Sequence[int] | None = None,
    batch_sizes: Mapping[str, Sequence[int]] | None = None,
    compiled: bool = True,
    side: int = step.SIDE,
    own_processes: bool = True,
) -> dict[str, Any]:
    """Time the contenders for each set of instructions and stage.

    Args:
        repetitions: timed steps of each contender.
        instructions: keys of `INSTRUCTIONS`; None takes those that this processor has.
        threads: numbers of threads, the last one that of the default; None takes one and one for each core.
        batch_sizes: images of batches by stage, the largest first; None takes `BATCH_SIZES`.
        compiled: also time compiled networks.
        side: H and W of the slices.
        own_processes: False times in this process, with whatever instructions it uses.

    Returns:
        Result with a row for each contender: images a second (median, lowest and highest), and the time of an image
        as a multiple of that of the default.

    Raises:
        ValueError: if this processor has none of the sets.
    """
    names = available() if instructions is None else list(instructions)
    if not names:
        raise ValueError(
            f"instructions must be some that this processor has, of {', '.join(INSTRUCTIONS)}, got none: "
            f"torch uses {torch.backends.cpu.get_cpu_capability()} on it. Run this on an x86 processor with AVX2."
        )
    rows: list[dict[str, Any]] = []
    targets: list[dict[str, Any]] = []
    notes: list[str] = []
    counts = sorted({1, num_cores()}) if threads is None else list(threads)
    context = multiprocessing.get_context("spawn")
    for name in names:
        notes.append(f"{name}: oneDNN says that it uses {onednn_instructions(INSTRUCTIONS[name])}.")
        for stage, sizes in tqdm((batch_sizes or BATCH_SIZES).items(), desc=name):
            call = partial(time_stage, stage, list(sizes), counts, repetitions, side=side)
            if own_processes:
                with patch.dict(os.environ, INSTRUCTIONS[name]):
                    rows_of_stage, notes_of_stage = _in_a_process(context, call, compiled)
            else:
                rows_of_stage, notes_of_stage = call(compiled)
            target, note = judge(rows_of_stage, default_contender(counts[-1]))
            targets.append({**target, "rule": f"{name}, {stage}: {target['rule']}"})
            rows += [{"instructions": name, **row} for row in rows_of_stage]
            notes += [f"{name}, {stage}: {text}" for text in (*notes_of_stage, note)]
    return harness.result("without_bfloat16", rows, targets, notes)


def _in_a_process(context: Any, call: Callable[[bool], _Timed], compiled: bool) -> _Timed:
    """Call with whether compiled networks are timed; without them if they end the process, as a compiler's bug can."""
    try:
        with ProcessPoolExecutor(1, context) as process:
            return process.submit(call, compiled).result()
    except BrokenProcessPool:
        if not compiled:
            raise
    rows, notes = _in_a_process(context, call, False)
    return rows, [*notes, "the compiled network is left out: it ended its process without an error message."]


def available() -> list[str]:
    """Return those keys of `INSTRUCTIONS` that this processor has, by what torch uses on it."""
    has = {"AVX2": ["AVX2"], "AVX512": ["AVX2", "AVX512_CORE"]}
    return has.get(torch.backends.cpu.get_cpu_capability(), [])


def onednn_instructions(variables: Mapping[str, str]) -> str:
    """Return what oneDNN says that it uses in a process with such variables."""
    code = "import torch; torch.nn.Conv2d(16, 16, 3)(torch.rand(1, 16, 64, 64))"  # a smaller one is not given to it
    environment = {**os.environ, **variables, "ONEDNN_VERBOSE": "1"}
    command = [sys.executable, "-c", code]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found = re.search(r"cpu,isa:(.+)", process.stdout)
    return found[1].strip() if found else "what it does not tell"


@dataclass(frozen=True)
class Contender:
    """A training step, by what may make it fast."""

    precision: str
    layout: str
    threads: int
    compiled: bool = False

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'' if self.threads == 1 else 's'}"
        return f"{self.precision}, {self.layout}, {threads}{', compiled' if self.compiled else ''}"


def default_contender(threads: int) -> Contender:
    """Return what the bundles do on a CPU without bfloat16 instructions.

    Args:
        threads: as many as torch takes.
    """
    with ExitStack() as stack:
        for probe in _PROBES:
            stack.enter_context(patch.object(torch.cpu, probe, lambda: False))
        precision = resolve_precision("auto", _CPU)
    return Contender(str(precision).removeprefix("torch."), DEFAULT_LAYOUT, threads)


def time_stage(
    stage: str, batch_sizes: Sequence[int], threads: Sequence[int], repetitions: int, compiled: bool, side: int
) -> tuple[list[dict[str, Any]], list[str]]:
    """Time all contenders for a stage in this process, the smallest batches first.

    One that takes three times as long as the fastest has one run, and none with larger batches, which would take hours.

    Args:
        stage: "fine-tuning" or "global".
        batch_sizes: images of batches, views included.
        threads: numbers of threads.
        repetitions: timed steps of each contender.
        compiled: also time the default after `torch.compile`, for the largest batches.
        side: H and W of the slices.

    Returns:
        A row for each contender, and notes on compilation.
    """
    slices = step.random_slices(stage == "fine-tuning", side, _CPU)
    contenders = [Contender(*case) for case in itertools.product(PRECISIONS, LAYOUTS, threads)]
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    before = torch.get_num_threads()
    try:
        for batch_size in sorted(batch_sizes):
            trainers = {
                layout: step.make_trainer(stage, slices, batch_size, memory_format=memory_format)
                for layout, memory_format in LAYOUTS.items()
            }
            images, targets = trainers[DEFAULT_LAYOUT].data_loader.batch(0)
            steps = {each: partial(_train, each, trainers[each.layout], images, targets) for each in contenders}
            first = {each: _once(call) for each, call in steps.items()}
            contenders = [each for each in contenders if first[each] <= _TOO_SLOW * min(first.values())]
            repeated = {str(each): steps[each] for each in contenders}
            if compiled and batch_size == max(batch_sizes):
                best = dataclasses.replace(default_contender(threads[-1]), compiled=True)
                torch.compiler.assume_constant_result(region_positions)  # tables, which tracing takes for no constants
                network = torch.compile(trainers[best.layout].network)
                call = partial(_train, best, trainers[best.layout], images, targets, network)
                try:
                    first[best] = _once(call)
                except RuntimeError as error:  # of the compiler, or of what it has made
                    notes.append(f"{best} is left out: {str(error).splitlines()[0]}")
                else:
                    repeated[str(best)] = call
                    notes.append(f"{best}: the first step, which compiles, took {first[best]:.0f} s.")
            seconds = harness.time_in_turn(repeated, repetitions, warm_up=0, device=_CPU)
            for each, value in first.items():
                taken = seconds.get(str(each), [value])
                rates = harness.spread([len(images) / value for value in taken])
                row = {"stage": stage, "batch": len(images), "contender": str(each)}
                row |= {"images/s": rates["median"], "low": rates["low"], "high": rates["high"], "runs": len(taken)}
                rows.append(row)
    finally:
        torch.set_num_threads(before)
        torch._dynamo.reset()  # forgets what was compiled for these networks
    return rows, notes


def judge(rows: list[dict[str, Any]], default: Contender) -> tuple[dict[str, Any], str]:
    """Compare the default with the fastest contender that needs no compiler, and put the comparison into the rows.

    Args:
        rows: of a stage; they get "times default", the time of an image as a multiple of the default's.
        default: with the largest batches.

    Returns:
        A target, and a note that names the fastest ones.
    """
    largest = max(row["batch"] for row in rows)
    same = [row for row in rows if row["batch"] == largest]
    rate = next(row["images/s"] for row in same if row["contender"] == str(default))
    for row in rows:
        row["times default"] = rate / row["images/s"]

    def fastest(candidates: list[dict[str, Any]]) -> str:
        best = min(candidates, key=lambda row: row["times default"])
        return f"{best['contender']}, batch {best['batch']} ({best['times default']:.2f})"

    compiled = [row for row in rows if "compiled" in row["contender"]]
    eager = [row for row in rows if row not in compiled]
    measured = 1 / min(row["times default"] for row in eager)
    target = harness.target(
        "time of an image by default, times that of the fastest contender", measured, at_most=MOST_TIMES_FASTEST
    )
    note = (
        f"the default is {default}, batch {largest}. Fastest, by the time of an image as a multiple of the default's: "
        f"{fastest(eager)}; with batches of that size {fastest([row for row in same if row in eager])}"
        + (f"; compiled {fastest(compiled)}, which is no part of the target: it needs a compiler." if compiled else ".")
    )
    return target, note


def _train(
    contender: Contender, trainer: StageTrainer, images: torch.Tensor, targets: Any, network: Any = None
) -> None:
    torch.set_num_threads(contender.threads)
    inferer = AutocastInferer(precision=contender.precision)
    train_once(trainer, trainer.network if network is None else network, inferer, images, targets)


def _once(call: Callable[[], object]) -> float:
    return harness.time_in_turn({"call": call}, repetitions=1, warm_up=0, device=_CPU)["call"][0]
