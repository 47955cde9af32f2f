"""From slices in memory to optimiser steps: ours beside MONAI's stock way, for fine-tuning and global pre-training.

Contenders, with the same network, loss, optimiser, draws and number of images in a batch:

    ours   whole batches augmented at once on the training device; bfloat16 where it computes in it, channels_last
    stock  `CacheDataset` of one dictionary for each slice, random dictionary transforms, `DataLoader` with 2 or no
           workers, a plain loop; float32 and the default memory layout

The stock transforms occur as often as ours do. For fine-tuning: a rotation by up to 15 degrees, any rotation and a
scaling of a fifth of the slices each, a flip of a tenth, then an elastic deformation of half of them. For global
pre-training: a random crop, resized, and a random brightness and contrast of the second view of every slice. The
workers are started before the clock, but not the batches that they fetch ahead. Slices are noise, as many as ACDC's
pre-training set has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from monai.data import CacheDataset, DataLoader
from monai.losses import DiceLoss
from monai.transforms import (
    Compose,
    CopyItemsd,
    EnsureTyped,
    Rand2DElasticd,
    RandAffined,
    RandFlipd,
    RandRotated,
    RandScaleIntensityd,
    RandShiftIntensityd,
    RandSpatialCropd,
    Resized,
)
from torch import Tensor
from torch.utils.data import Sampler
from tqdm import tqdm

from common.data.samplers import PartitionSampler, UniformSampler
from common.data.slices import Slices
from common.engines import StageTrainer

from . import harness, step

BATCH_SIZES = {"fine-tuning": 20, "global": 40}  # images, views included
NUM_WORKERS = (2, 0)


class Draws(Sampler[list[int]]):
    """The indices of an epoch's batches, drawn as ours are.

    Args:
        draw: maps a generator to indices.
        num_batches: length of an epoch.
    """

    def __init__(self, draw: UniformSampler | PartitionSampler, num_batches: int) -> None:
        self.draw = draw
        self.num_batches = num_batches
        self.generator = torch.Generator().manual_seed(0)

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(self.num_batches):
            yield self.draw(self.generator).tolist()


def measure(
    batches: int = 10,
    steps: int | None = None,
    repetitions: int = 5,
    step_repetitions: int = 3,
    side: int = step.SIDE,
    batch_sizes: dict[str, int] | None = None,
) -> dict[str, Any]:
    """Time the data part alone and whole steps, for both stages.

    Args:
        batches: of a run of the data part.
        steps: of a run of whole steps; None takes 4 on a CPU and 50 on a GPU.
        repetitions: runs of the data part.
        step_repetitions: runs of whole steps.
        side: H and W of the slices.
        batch_sizes: images of a batch for each stage; None takes `BATCH_SIZES`.

    Returns:
        Result with a row for each stage, part and number of workers: images per second of ours as a multiple of those
        of the stock way (median, lowest and highest of the paired runs). On a GPU also images per second.
    """
    device = harness.default_device()
    steps = steps or (4 if device.type == "cpu" else 50)
    rows: list[dict[str, Any]] = []
    targets: list[dict[str, Any]] = []
    notes = [f"A run is {batches} batches of the data part, or {steps} whole steps: an epoch of the stock loader."]

    def add(case: dict[str, Any], seconds: dict[str, list[float]], num_images: int, least: float) -> None:
        workers = case["stock workers"]
        rows.append(case | _compare(seconds, f"{workers} workers", num_images, device))
        rule = f"{case['stage']}, {case['part']}: images a second, ours / stock with {workers} workers"
        targets.append(harness.target(rule, rows[-1]["times stock"], at_least=least))

    for stage, batch_size in tqdm((batch_sizes or BATCH_SIZES).items(), desc="pipeline"):
        slices = step.random_slices(stage == "fine-tuning", side, device)
        trainer = step.make_trainer(stage, slices, batch_size)
        make_batch = trainer.data_loader.batch
        case = {"stage": stage, "batch": len(make_batch(0)[0]), "part": "data"}
        seconds = _time_data(stage, slices, trainer, batches, repetitions)
        for workers, least in zip(NUM_WORKERS, (4, 8), strict=True):
            add(case | {"stock workers": workers}, seconds, batches * case["batch"], least)
        if not all(target["met"] for target in targets[-2:]):
            median = harness.spread(seconds["ours"])["median"] / batches
            shares = step.top_operations(partial(make_batch, 0), median)
            notes.append(f"{stage}: operations of our data part that take longest, in per cent of its time: {shares}.")
        seconds = _time_steps(stage, slices, trainer, batch_size, steps, step_repetitions)
        case |= {"part": "whole step", "stock workers": NUM_WORKERS[0]}
        add(case, seconds, steps * case["batch"], 3 if device.type == "cpu" else 10)
    return harness.result("pipeline", rows, targets, notes)


def _time_data(
    stage: str, slices: Slices, trainer: StageTrainer, batches: int, repetitions: int
) -> dict[str, list[float]]:
    device = slices.images.device

    def make_batches() -> None:
        for index in range(batches):
            trainer.data_loader.batch(index)

    def go_through(loader: DataLoader) -> None:
        for batch in loader:
            stock_batch(batch, device)

    sampler = trainer.data_loader.sampler
    loaders = {workers: stock_loader(stage, slices, sampler, batches, workers) for workers in NUM_WORKERS}
    stock = {f"{workers} workers": partial(go_through, loader) for workers, loader in loaders.items()}
    return harness.time_in_turn({"ours": make_batches, **stock}, repetitions, device=device)


def _time_steps(
    stage: str, slices: Slices, trainer: StageTrainer, batch_size: int, steps: int, repetitions: int
) -> dict[str, list[float]]:
    workers = NUM_WORKERS[0]
    loader = stock_loader(stage, slices, trainer.data_loader.sampler, steps, workers)
    step_on = stock_training(stage, slices, batch_size)

    def train() -> None:
        for batch in loader:
            step_on(batch)

    contenders = {"ours": step.resumable(trainer, steps), f"{workers} workers": train}
    seconds = harness.time_in_turn(contenders, repetitions, device=slices.images.device)
    step.finish(trainer)
    return seconds


def stock_transform(stage: str, side: int) -> Compose:
    """Return the dictionary transforms of a stage for slices of `side` x `side` pixels."""
    if stage == "fine-tuning":
        keys, modes = ["image", "label"], ["bilinear", "nearest"]
        spacing, magnitude = (side / 3, side / 3), (4, 6)
        return Compose(
            [
                EnsureTyped(keys),
                RandRotated(keys, range_x=math.radians(15), prob=0.2, mode=modes, padding_mode="zeros"),
                RandRotated(keys, range_x=math.pi, prob=0.2, mode=modes, padding_mode="zeros"),
                RandFlipd(keys, prob=0.1, spatial_axis=1),
                RandAffined(keys, prob=0.2, scale_range=0.05, mode=modes, padding_mode="zeros"),
                Rand2DElasticd(keys, spacing, magnitude, prob=0.5, mode=modes, padding_mode="border"),
            ]
        )
    crop = round(100 * side / step.SIDE)
    return Compose(
        [
            EnsureTyped("image"),
            CopyItemsd("image", times=1, names="view"),
            RandSpatialCropd("view", roi_size=(crop, crop), random_size=False),
            Resized("view", spatial_size=(side, side), mode="bilinear"),
            RandScaleIntensityd("view", factors=0.3, prob=1.0),
            RandShiftIntensityd("view", offsets=0.3, prob=1.0),
        ]
    )


def stock_loader(
    stage: str, slices: Slices, sampler: UniformSampler | PartitionSampler, num_batches: int, num_workers: int
) -> DataLoader:
    """Return the stock loader of a stage, with epochs of so many batches drawn by a sampler of ours."""
    images = slices.images.cpu().numpy()
    items = [{"image": image} for image in images]
    if slices.labels is not None:
        labels = slices.labels.cpu().numpy()
        items = [item | {"label": label[None]} for item, label in zip(items, labels, strict=True)]
    dataset = CacheDataset(items, stock_transform(stage, images.shape[-1]), progress=False)
    draws = Draws(sampler, num_batches)
    return DataLoader(dataset, num_workers, batch_sampler=draws, persistent_workers=num_workers > 0)


def stock_batch(batch: dict[str, Any], device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Return the images of a batch, all first views before all second ones, and the labels if there are any."""
    if "label" in batch:
        return batch["image"].to(device), batch["label"].to(device)
    return torch.cat([batch["image"], batch["view"]]).to(device), None


def stock_training(stage: str, slices: Slices, batch_size: int) -> Callable[[dict[str, Any]], None]:
    """Return a function that trains the network of a stage on a batch of its stock loader, as a plain loop does."""
    device = slices.images.device
    trainer = step.make_trainer(stage, slices, batch_size, memory_format=torch.contiguous_format)
    network, optimizer = trainer.network, trainer.optimizer
    dice = DiceLoss(softmax=True, to_onehot_y=True, smooth_nr=0.0, smooth_dr=1e-10)

    def step_on(batch: dict[str, Any]) -> None:
        images, labels = stock_batch(batch, device)
        optimizer.zero_grad()
        outputs = network(images)
        loss = trainer.loss_function(outputs) if labels is None else dice(outputs, labels)
        loss.backward()
        optimizer.step()

    return step_on


def _compare(seconds: dict[str, list[float]], stock: str, num_images: int, device: torch.device) -> dict[str, float]:
    times_stock = harness.ratios(seconds, stock, "ours")
    row = {"times stock": times_stock["median"], "low": times_stock["low"], "high": times_stock["high"]}
    if device.type == "cuda":
        row["ours, images/s"] = num_images / harness.spread(seconds["ours"])["median"]
        row["stock, images/s"] = num_images / harness.spread(seconds[stock])["median"]
    return row
