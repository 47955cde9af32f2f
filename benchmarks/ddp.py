"""Two processes on the CPU, one core and one thread each, beside one process with as many images of its own.

Contenders, in turn, with the defaults of the bundles; a process always has as many images of a batch:

    one process    the plain trainer, while the other process waits
    side by side   both at once, each with a trainer of its own: what the machine itself loses
    gradients      both make one step: the gradients are averaged, each process normalises its own images
    one step       what `multi_gpu_<stage>.json` makes: batch normalisation over all images, contrastive losses over all
                   embeddings, gradients averaged

`torchrun` starts the processes, and gloo connects them. Efficiency is the rate of all processes by the rate of one, by
the number of processes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import fire
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from bundles.run import REPOSITORY
from common import distributed
from common.data.cores import num_cores
from common.engines import StageTrainer

from . import harness, step

BATCH_SIZES = {"global": 40, "fine-tuning": 20}  # images of a process, views included
ONE, SIDE_BY_SIDE, GRADIENTS, ONE_STEP = "one process", "side by side", "gradients", "one step"
LEAST_EFFICIENCY = 0.9
_CPU = torch.device("cpu")


def measure(
    processes: int = 2,
    repetitions: int = 5,
    steps: int = 2,
    batch_sizes: Mapping[str, int] | None = None,
    side: int = step.SIDE,
) -> dict[str, Any]:
    """Start the processes for each stage and compare what they take.

    Args:
        processes: how many.
        repetitions: timed runs of each contender.
        steps: of a run.
        batch_sizes: images of a batch of one process by stage; None takes `BATCH_SIZES`.
        side: H and W of the slices.

    Returns:
        The result.

    Raises:
        RuntimeError: if a process fails, with the end of what it says.
    """
    rows: list[dict[str, Any]] = []
    targets: list[dict[str, Any]] = []
    notes: list[str] = []
    for stage, batch_size in tqdm((batch_sizes or BATCH_SIZES).items(), desc="ddp"):
        found = _start(processes, stage, batch_size, repetitions, steps, side)
        seconds = {name: [value / steps for value in values] for name, values in found["seconds"].items()}
        rows_of_stage = compare(stage, seconds, found["images"], processes)
        rows += rows_of_stage
        efficiency = {row["contender"]: row["efficiency"] for row in rows_of_stage}
        rule = f"{stage}: images a second of {processes} processes by those of one, by {processes}"
        targets.append(harness.target(rule, efficiency[ONE_STEP], at_least=LEAST_EFFICIENCY))
        notes.append(
            f"{stage}: a step averages {found['gradients MiB']:.1f} MiB of gradients. Of the efficiency lost, "
            f"{1 - efficiency[SIDE_BY_SIDE]:.2f} is lost side by side already, "
            f"{efficiency[SIDE_BY_SIDE] - efficiency[GRADIENTS]:.2f} more by averaging gradients, and "
            f"{efficiency[GRADIENTS] - efficiency[ONE_STEP]:.2f} by batch normalisation and loss over all images."
        )
    if (cores := num_cores()) < processes:
        notes.append(f"{processes} processes shared {cores} core{'s' if cores > 1 else ''}: this says nothing of more.")
    notes.append("Only what processes on one machine exchange is measured; a network between machines is slower.")
    return harness.result("ddp", rows, targets, notes)


def compare(
    stage: str, seconds: Mapping[str, Sequence[float]], num_images: int, processes: int
) -> list[dict[str, Any]]:
    """Return a row for each contender.

    Args:
        stage: its name.
        seconds: of a step in each run, by contender.
        num_images: of a step of one process.
        processes: that all but the first contender have.
    """
    rows = []
    for name, values in seconds.items():
        images = num_images * (1 if name == ONE else processes)
        rates = harness.spread([images / value for value in values])
        # With equal images a process, the rates' quotient by the number of processes is that of the times.
        efficiency = harness.ratios(seconds, ONE, name)
        rows.append(
            {
                "stage": stage,
                "contender": name,
                "processes": 1 if name == ONE else processes,
                "images a process": num_images,
                "images/s": rates["median"],
                "efficiency": efficiency["median"],
                "low": efficiency["low"],
                "high": efficiency["high"],
            }
        )
    return rows


def observe(stage: str, batch_size: int, repetitions: int, steps: int, side: int) -> dict[str, Any]:
    """Time all contenders in this process of a group, in step with the others.

    Returns:
        "seconds" of the runs by contender, "images" of a step of one process, and "gradients MiB".
    """
    rank, processes = dist.get_rank(), dist.get_world_size()
    slices = step.random_slices(stage == "fine-tuning", side, _CPU)

    def make(size: int) -> StageTrainer:
        return step.make_trainer(stage, slices, size)

    own, averaged, shared = make(batch_size), make(batch_size), make(processes * batch_size)
    averaged.network = DistributedDataParallel(averaged.network)
    share(shared, stage)
    runs = {
        name: step.resumable(trainer, steps)
        for name, trainer in zip((ONE, GRADIENTS, ONE_STEP), (own, averaged, shared), strict=True)
    }
    runs[SIDE_BY_SIDE] = runs[ONE]
    seconds: dict[str, list[float]] = {name: [] for name in (ONE, SIDE_BY_SIDE, GRADIENTS, ONE_STEP)}
    for repetition in range(1 + repetitions):  # the first is not counted
        for name, values in seconds.items():
            dist.barrier()
            started = time.perf_counter()
            if name != ONE or rank == 0:
                runs[name]()
            if repetition:
                values.append(time.perf_counter() - started)
    for trainer in (own, averaged, shared):
        step.finish(trainer)
    dist.barrier()
    num_images = len(own.data_loader.batch(0)[0])
    assert len(shared.data_loader.batch(0)[0]) == num_images
    gradients = sum(p.numel() * p.element_size() for p in shared.network.parameters() if p.requires_grad)
    return {"seconds": seconds, "images": num_images, "gradients MiB": gradients / 2**20}


def share(trainer: StageTrainer, stage: str) -> None:
    """Let a trainer make its steps together with the other processes, as the overlay of its stage does."""
    trainer.network = distributed.distribute(trainer.network, _CPU)
    trainer.data_loader.views = distributed.RankViews(trainer.data_loader.views)
    wrap: Callable[..., Any] = distributed.MeanLoss if stage == "fine-tuning" else distributed.GatheredLoss
    trainer.loss_function = wrap(trainer.loss_function)


def work(stage: str, batch_size: int, repetitions: int, steps: int, side: int, output: str) -> None:
    """Be one of the processes that `torchrun` has started; the first one writes what it has observed to a file."""
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[rank % len(cores)]})
    distributed.join()
    found = observe(stage, batch_size, repetitions, steps, side)
    if rank == 0:
        Path(output).write_text(json.dumps(found), encoding="utf-8")
    distributed.leave()


def _start(processes: int, stage: str, batch_size: int, repetitions: int, steps: int, side: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "seconds.json")
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        command += ["-m", f"{__package__}.ddp", stage, str(batch_size), str(repetitions), str(steps), str(side)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        process = subprocess.run(
            [*command, str(output)], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
        )
        if process.returncode != 0:
            raise RuntimeError(f"{stage}: the processes must end well, got\n{process.stderr[-3000:]}")
        found: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
        return found


if __name__ == "__main__":
    fire.Fire(work)
