"""Precision, memory layout and compilation: seconds of a training step, and whether the loss still falls as far.

Contenders, with the same weights and batches:

    float32, bfloat16    autocast to bfloat16 or none, with the default memory layout (NCHW)
    ... channels_last    the network's weights in that layout, which the maps then have too
    ... compiled         the same after `torch.compile` with its default options; on a GPU also with CUDA graphs

Timed are forward, loss, backward and optimiser on one batch of noise, for all three stages. The loss curves are those
of whole training runs from the same weights and with the same batches, on slices of ACDC or of phantoms, preprocessed
as the bundle does it but without N4.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser
from tqdm import tqdm

from common.data.slices import Slices
from common.engines import AutocastInferer, StageTrainer, resolve_precision
from common.networks.regions import region_positions
from phantom import write_acdc_phantom, write_phantom_splits

from . import harness, step

BUNDLE = Path(__file__).resolve().parents[1] / "bundle_acdc"
REFERENCE = "float32"
# Name -> (precision, memory format, whether compiled).
CONTENDERS = {
    "float32": ("float32", torch.contiguous_format, False),
    "float32 channels_last": ("float32", torch.channels_last, False),
    "bfloat16": ("bfloat16", torch.contiguous_format, False),
    "bfloat16 channels_last": ("bfloat16", torch.channels_last, False),
    "float32 channels_last, compiled": ("float32", torch.channels_last, True),
    "bfloat16 channels_last, compiled": ("bfloat16", torch.channels_last, True),
}
# On a GPU alone: what the host spends on launching kernels is spared by replaying them.
CUDA_GRAPHS = {"bfloat16 channels_last, compiled with CUDA graphs": ("bfloat16", torch.channels_last, True)}
CONFIGS = {"global": "pretrain_global.json", "fine-tuning": "train.json"}
CURVE_BATCH_SIZES = {"global": 16, "fine-tuning": 8}  # images, views included
MEAN_OF = 20  # steps at the end of a run whose mean loss is compared
EVERY = 10  # steps between two points of a curve


def measure(
    dataset_dir: str | None = None,
    batch_size: int = 40,
    repetitions: int = 2,
    curve_steps: int = 200,
    curve_batch_sizes: dict[str, int] | None = None,
    num_phantoms: int = 12,
    side: int = step.SIDE,
) -> dict[str, Any]:
    """Time the contenders and run the loss curves.

    Args:
        dataset_dir: folder of ACDC, of which the curves take the bundle's pre-training volumes and its first draw of
            eight labelled ones; None makes phantoms.
        batch_size: images of a batch that is timed, views included.
        repetitions: timed steps of each contender.
        curve_steps: length of the runs, a multiple of 10 and at least 20.
        curve_batch_sizes: images of a batch of the runs for each of their stages; None takes `CURVE_BATCH_SIZES`.
        num_phantoms: patients of which two are kept out and the others pre-trained on and labelled.
        side: H and W of the slices.

    Returns:
        Result with a row for each stage and contender: time as a multiple of that in float32 with the default layout
        (median, lowest and highest of the paired steps), and memory at the peak. Then one for each run: mean and
        standard deviation of the loss of its last 20 steps. On a GPU also milliseconds. The further key
        "curves" holds for each of the runs the losses of every tenth step.
    """
    device = harness.default_device()
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    for stage in tqdm(step.STAGES, desc="precision, time"):
        rows_of_stage, notes_of_stage = _time_stage(stage, batch_size, repetitions, side, device)
        rows += rows_of_stage
        notes += notes_of_stage

    curves: dict[str, dict[str, list[float]]] = {}
    targets = []
    for stage, images in tqdm((curve_batch_sizes or CURVE_BATCH_SIZES).items(), desc="precision, loss"):
        slices = read_slices(stage, dataset_dir, num_phantoms, side, device)
        losses = {name: loss_curve(stage, slices, images, curve_steps, name) for name in ("float32", "bfloat16")}
        curves[stage] = {"step": list(range(EVERY, curve_steps + 1, EVERY))}
        curves[stage] |= {name: values[EVERY - 1 :: EVERY] for name, values in losses.items()}
        means = {name: statistics.mean(values[-MEAN_OF:]) for name, values in losses.items()}
        column = f"mean loss of steps {curve_steps - MEAN_OF + 1}-{curve_steps}"
        rows += [
            {
                "stage": stage,
                "batch": images,
                "contender": f"{name} channels_last",
                column: means[name],
                "standard deviation": statistics.stdev(values[-MEAN_OF:]),
            }
            for name, values in losses.items()
        ]
        rule = f"{stage}: {column}, bfloat16 / float32, channels_last"
        targets.append(harness.target(rule, means["bfloat16"] / means["float32"], at_most=1.05))
        differences = [a - b for a, b in zip(losses["bfloat16"][-MEAN_OF:], losses["float32"][-MEAN_OF:], strict=True)]
        error = statistics.stdev(differences) / MEAN_OF**0.5 / means["float32"]
        notes.append(
            f"{stage}: the standard error of that ratio is {error:.3f}, from the scatter of the {MEAN_OF} pairs of "
            "steps; runs whose roundings differ drift apart however good they are."
        )

    source = f"{num_phantoms} phantom patients" if dataset_dir is None else "ACDC"
    notes += [
        f"The loss curves are of slices of {source}, left without N4 to save time; times are of slices of noise.",
        _choice(rows, all(target["met"] for target in targets), device),
    ]
    return harness.result("precision", rows, targets, notes) | {"curves": curves}


def loss_curve(stage: str, slices: Slices, batch_size: int, steps: int, precision: str) -> list[float]:
    """Train a stage with its default options and channels_last; return the loss of every step."""
    trainer = step.make_trainer(stage, slices, batch_size, precision)
    losses: list[float] = []

    def record(engine: Engine) -> None:
        losses.append(engine.state.output["loss"].item())

    trainer.add_event_handler(Events.ITERATION_COMPLETED, record)
    step.resumable(trainer, steps)()
    step.finish(trainer)
    return losses


def read_slices(stage: str, dataset_dir: str | None, num_phantoms: int, side: int, device: torch.device) -> Slices:
    """Return the slices that the bundle would train a stage on, but for N4, of ACDC or of phantoms.

    Args:
        stage: "global" or "fine-tuning".
        dataset_dir: folder of ACDC, or None for phantoms.
        num_phantoms: patients to make then.
        side: H and W of the slices.
        device: where they are kept.
    """
    parser = ConfigParser()
    parser.read_config(BUNDLE / "configs" / CONFIGS[stage])
    parser["n4_shrink"] = None
    with tempfile.TemporaryDirectory() as folder:
        settings: dict[str, Any] = {"bundle_root": str(BUNDLE), "dataset_dir": dataset_dir, "cache_dir": None}
        settings |= {"device": device, "image_size": [side, side], "num_labelled": 8}
        if dataset_dir is None:
            ids = write_acdc_phantom(folder, num_phantoms)
            number = num_phantoms - 2
            write_phantom_splits(f"{folder}/splits.json", ids, number, [number])
            settings |= {"dataset_dir": folder, "split_path": f"{folder}/splits.json", "num_labelled": number}
        for name, value in settings.items():
            parser[name] = value
        return parser.get_parsed_content("train#slices")


def _time_stage(
    stage: str, batch_size: int, repetitions: int, side: int, device: torch.device
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the rows of a stage, and notes on the compiled contenders."""
    slices = step.random_slices(stage == "fine-tuning", side, device)
    trainers = {
        memory_format: step.make_trainer(stage, slices, batch_size, memory_format=memory_format)
        for memory_format in (torch.contiguous_format, torch.channels_last)
    }
    images, targets = trainers[torch.channels_last].data_loader.batch(0)
    steps: dict[str, Callable[[], None]] = {}
    peaks: dict[str, float | None] = {}
    first: dict[str, float] = {}
    notes = []
    for trainer in trainers.values():  # what a first step allocates for the optimiser is no contender's memory
        train_once(trainer, trainer.network, AutocastInferer(precision=REFERENCE), images, targets)
    contenders = CONTENDERS | (CUDA_GRAPHS if device.type == "cuda" else {})
    for name, (precision, memory_format, compiled) in contenders.items():
        trainer = trainers[memory_format]
        torch.compiler.assume_constant_result(region_positions)  # tables, which tracing would not take for constants
        options: dict[str, Any] = {"mode": "reduce-overhead"} if name in CUDA_GRAPHS else {}
        network = torch.compile(trainer.network, **options) if compiled else trainer.network
        train = partial(train_once, trainer, network, AutocastInferer(precision=precision), images, targets)
        try:
            if compiled:
                first[name] = harness.time_in_turn({name: train}, 1, warm_up=0, device=device)[name][0]
            peaks[name] = harness.peak_memory_mib(train, device)
        except RuntimeError as error:  # of the compiler, or of what it has made
            if not compiled:
                raise
            notes.append(f"{stage}: {name} is left out: {str(error).splitlines()[0]}")
        else:
            steps[name] = train
    seconds = harness.time_in_turn(steps, repetitions, warm_up=0, device=device)
    torch._dynamo.reset()  # forgets what was compiled for this network
    medians = {name: harness.spread(values)["median"] for name, values in seconds.items()}
    compilations = [f"{name} {first[name] - medians[name]:.0f} s" for name in steps if name in first]
    if compilations:
        notes.append(
            f"{stage}: compilation took {', '.join(compilations)} on top of the first step; less if the compiler's "
            "cache had it from an earlier run."
        )
    rows = []
    for name in steps:
        times = harness.ratios(seconds, name, REFERENCE)
        row = {"stage": stage, "batch": len(images), "contender": name}
        row |= {f"times {REFERENCE}": times["median"], "low": times["low"], "high": times["high"]}
        row["peak MiB"] = peaks[name]
        if device.type == "cuda":
            row["ms"] = 1000 * medians[name]
        rows.append(row)
    return rows, notes


def train_once(
    trainer: StageTrainer, network: Any, inferer: AutocastInferer, images: torch.Tensor, targets: Any
) -> None:
    """Train with one batch: forward, loss, backward and optimiser.

    Args:
        trainer: has the loss and the optimiser.
        network: that of the trainer, compiled or not.
        inferer: runs it in a precision.
        images: (N, 1, H, W).
        targets: what the loss compares the output with.
    """
    trainer.optimizer.zero_grad(set_to_none=True)
    trainer.loss_function(inferer(images, network), targets).backward()
    trainer.optimizer.step()


def _choice(rows: list[dict[str, Any]], bfloat16_met: bool, device: torch.device) -> str:
    """Say what the default is on this device, and what the rows would choose: the fastest whose loss is good enough."""
    default = str(resolve_precision("auto", device)).removeprefix("torch.") + " channels_last"
    column = f"times {REFERENCE}"
    parts = []
    for stage in step.STAGES:
        times = {row["contender"]: row[column] for row in rows if row["stage"] == stage and column in row}
        allowed = [name for name in times if bfloat16_met or not name.startswith("bfloat16")]
        fastest = min(allowed, key=times.__getitem__)
        eager = min((name for name in allowed if "compiled" not in name), key=times.__getitem__)
        parts.append(
            f"{stage} {fastest} ({times[fastest]:.2f}), without compilation {eager} ({times[eager]:.2f}), the default "
            f"{times[default]:.2f}"
        )
    condition = "float32 and bfloat16, whose" if bfloat16_met else "float32 alone, as bfloat16's"
    verb = "stays" if bfloat16_met else "does not stay"
    return (
        f"Default on this {device.type}: {default} (`auto` of common/engines/precision.py with the bundles' layout). "
        f"Fastest of {condition} loss {verb} within the limit, times {REFERENCE}: {'; '.join(parts)}."
    )
