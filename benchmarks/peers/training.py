"""The steps of fine-tuning and of global pre-training beside those of peers, on one network and batches of one size."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import harness, pipeline, step
from common.data.cores import num_cores
from common.data.slices import Slices
from common.engines import StageTrainer
from common.engines.precision import resolve_precision

from .feed import Feed

CLASS_NAMES = ("background", *(f"class {number}" for number in range(1, step.NUM_CLASSES)))
DATA, WHOLE = "data", "whole step"
NO_PRECISION = "–"  # of the data part, which is in float32
NNUNET, LIGHTLY, STOCK = "nnU-Net", "lightly", "stock MONAI"
NEVER_BEHIND, TIMES_STOCK = 1, 3


@dataclass(frozen=True)
class Case:
    """What is trained, and whom ours is compared with.

    Attributes:
        work: its name in the tables.
        stage: see `step.make_trainer`.
        batch_size: images of a batch, views included.
        peers: by name.
        strategy: see `step.make_trainer`.
        augmentation: see there.
    """

    work: str
    stage: str
    batch_size: int
    peers: tuple[str, ...]
    strategy: str = "GD"
    augmentation: str = "paper"


CASES = (
    Case("fine-tuning, nnU-Net's changes", "fine-tuning", 20, (NNUNET,), augmentation="strong+elastic"),
    Case("fine-tuning, the paper's changes", "fine-tuning", 20, (STOCK,)),
    Case("pre-training, GR", "global", 40, (LIGHTLY,), strategy="GR"),
    Case("pre-training, GD", "global", 40, (LIGHTLY, STOCK)),
)


@dataclass(frozen=True)
class Peer:
    """A way to train, with a number of workers.

    Attributes:
        name: of the peer.
        workers: processes that make its batches, 0 if the training process does.
        feed: the batches.
        images: takes the images of a batch, all views (N, 1, H, W), to the training device, and its labels as well.
        step_on: takes a training step on a batch.
    """

    name: str
    workers: int
    feed: Feed[Any]
    images: Callable[[Any], Tensor]
    step_on: Callable[[Any], object]

    @property
    def label(self) -> str:
        """Its name with the number of workers."""
        return f"{self.name}, {self.workers} worker{'' if self.workers == 1 else 's'}"

    @property
    def ahead(self) -> int:
        """The most batches that are there before they are asked for: nnU-Net has two queues of 6 and the workers'."""
        return 13 + 2 * self.workers if self.workers else 0

    def load(self, batches: int) -> None:
        """Make so many batches."""
        for batch in self.feed.take(batches):
            self.images(batch)

    def train(self, steps: int) -> None:
        """Take so many steps."""
        for batch in self.feed.take(steps):
            self.step_on(batch)


def measure_case(
    case: Case, slices: Slices, modules: dict[str, Any], folder: Path, batches: int, steps: int, repetitions: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
    """Time the data part and whole steps of ours and of all peers that are there, in turn.

    Args:
        case: what is trained.
        slices: of its stage.
        modules: by name, the modules of the peers that import.
        folder: for what peers store.
        batches: of a run of the data part.
        steps: of a run of whole steps.
        repetitions: runs of each.

    Returns:
        Rows, targets and notes; none if no peer is there.

    Raises:
        RuntimeError: if the batch of a peer is not like ours.
    """
    device = slices.images.device
    trainers = {
        _name(resolve_precision(precision, device)): step.make_trainer(
            case.stage, slices, case.batch_size, precision, strategy=case.strategy, augmentation=case.augmentation
        )
        for precision in ("auto", "float32")
    }
    with peers_of(case, slices, modules, folder) as peers:
        if not peers:
            return [], [], []
        ours = next(iter(trainers.values()))
        images = ours.data_loader.batch(0)[0]
        check_alike(images, peers)
        rows = []

        def compare(part: str, own: Mapping[str, Callable[[], object]], method: str, number: int) -> None:
            theirs = {peer.label: partial(getattr(peer, method), number) for peer in peers}
            # Two runs before those that count: then the workers of a peer are as far ahead as they get in the long run.
            seconds = harness.time_in_turn({**own, **theirs}, repetitions, warm_up=2, device=device)
            for name in own:
                for peer in theirs:
                    row = {"work": case.work, "part": part, "images": len(images), "peer": peer, "ours in": name}
                    rows.append(row | comparison(seconds, name, peer, number, len(images)))

        for peer in peers:
            peer.load(peer.ahead)  # of a part that only makes batches they are none
        compare(DATA, {NO_PRECISION: partial(_load, ours, batches)}, "load", batches)
        own = {precision: step.resumable(trainer, steps) for precision, trainer in trainers.items()}
        compare(WHOLE, own, "train", steps)
        made = targets(rows)
        runs: dict[str, Callable[[], object]] = {
            f"{case.work}, {DATA}": partial(_load, ours, batches),
            f"{case.work}, {WHOLE}": ours.run,
        }
        missed = {entry["rule"].partition(":")[0] for entry in made if not entry["met"]}
        notes = [_profile(what, run, device) for what, run in runs.items() if what in missed]
        for trainer in trainers.values():
            step.finish(trainer)
    return rows, made, notes


@contextmanager
def peers_of(case: Case, slices: Slices, modules: dict[str, Any], folder: Path) -> Iterator[list[Peer]]:
    """Start the peers of a case that are there; they end with the block."""
    makers: dict[str, Callable[..., Iterable[Peer]]] = {NNUNET: _nnunet, LIGHTLY: _lightly, STOCK: _stock}
    with ExitStack() as stack:
        yield [
            peer
            for name in case.peers
            if name == STOCK or name in modules
            for peer in makers[name](case, slices, modules.get(name), folder, stack)
        ]


def _nnunet(case: Case, slices: Slices, nnunet: Any, folder: Path, stack: ExitStack) -> Iterable[Peer]:
    nnunet.store(slices, folder)
    trainer = nnunet.make_trainer(slices, case.batch_size, CLASS_NAMES, folder)

    def images(batch: dict[str, Tensor]) -> Tensor:
        on_device = {key: batch[key].to(slices.images.device, non_blocking=True) for key in ("data", "target")}
        return on_device["data"]

    for workers in sorted({nnunet.default_workers(), 1, 0}, reverse=True):
        feed = stack.enter_context(nnunet.feed(trainer, workers))
        yield Peer(NNUNET, workers, feed, images, trainer.train_step)


def _lightly(case: Case, slices: Slices, simclr: Any, folder: Path, stack: ExitStack) -> Iterable[Peer]:
    def images(views: list[Tensor]) -> Tensor:
        return torch.cat([view.to(slices.images.device) for view in views])

    for workers in _workers():
        feed = stack.enter_context(simclr.feed(slices, case.batch_size, workers))
        yield Peer(LIGHTLY, workers, feed, images, simclr.training(slices, case.batch_size))


def _stock(case: Case, slices: Slices, _: None, folder: Path, stack: ExitStack) -> Iterable[Peer]:
    sampler = step.make_trainer(case.stage, slices, case.batch_size).data_loader.sampler

    def images(batch: dict[str, Tensor]) -> Tensor:
        return pipeline.stock_batch(batch, slices.images.device)[0]

    for workers in _workers():
        loader = pipeline.stock_loader(case.stage, slices, sampler, sys.maxsize, workers)
        feed = stack.enter_context(Feed(partial(iter, loader)))
        yield Peer(STOCK, workers, feed, images, pipeline.stock_training(case.stage, slices, case.batch_size))


def _workers() -> list[int]:
    return [num_cores(), 0]


def _load(trainer: StageTrainer, batches: int) -> None:
    for index in range(batches):
        trainer.data_loader.batch(index)


def check_alike(images: Tensor, peers: Sequence[Peer]) -> None:
    """Raise a RuntimeError if a peer's first batch has other images than ours (N, 1, H, W): another size or type."""
    for peer in peers:
        theirs = peer.images(peer.feed.first)
        if (theirs.shape, theirs.dtype) != (images.shape, images.dtype):
            raise RuntimeError(
                f"batches must be alike to be compared, got {tuple(images.shape)} {images.dtype} of ours and "
                f"{tuple(theirs.shape)} {theirs.dtype} of {peer.label}; give both the same size"
            )


def comparison(seconds: dict[str, list[float]], ours: str, peer: str, number: int, images: int) -> dict[str, float]:
    """Return the columns that compare two contenders.

    Args:
        seconds: of their runs, by name.
        ours: name of ours.
        peer: name of the other.
        number: batches, steps or volumes of a run.
        images: of each of those.
    """
    each = {name: harness.spread(seconds[name])["median"] / number for name in (ours, peer)}
    times = harness.ratios(seconds, peer, ours)
    return {
        "ours, s": each[ours],
        "peer, s": each[peer],
        "ours, images/s": images / each[ours],
        "peer, images/s": images / each[peer],
        "ours / peer": times["median"],
        "low": times["low"],
        "high": times["high"],
    }


def targets(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Compare ours with the best number of workers of each peer: never behind, and three times the stock pipeline.

    The factor of three is for ours in its default precision, which comes first among the rows of whole steps.
    """
    groups: dict[tuple[str, str, str, str], list[float]] = {}
    for row in rows:
        peer = row["peer"].partition(",")[0]
        groups.setdefault((row["work"], row["part"], row["ours in"], peer), []).append(row["ours / peer"])
    default = next(row["ours in"] for row in rows if row["part"] == WHOLE)
    made = []
    for (work, part, precision, peer), factors in groups.items():
        least = TIMES_STOCK if peer == STOCK and precision in (NO_PRECISION, default) else NEVER_BEHIND
        ours = "ours" if precision == NO_PRECISION else f"ours in {precision}"
        rule = f"{work}, {part}: images a second, {ours} / {peer}"
        made.append(harness.target(rule, min(factors), at_least=least))
    return made


def _profile(what: str, run: Callable[[], object], device: torch.device) -> str:
    """Name the operations that a run of ours spends its time in."""
    (seconds,) = harness.time_in_turn({what: run}, repetitions=1, warm_up=0, device=device)[what]
    shares = step.top_operations(run, seconds, number=8)
    return f"{what}: operations of ours that take longest, in per cent of its time: {shares}."


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def import_peers(notes: list[str], remedy: str) -> dict[str, Any]:
    """Import the modules of the peers that are installed, and note why another is absent and the remedy."""
    modules = {}
    for name, module in ((NNUNET, "nnunet"), (LIGHTLY, "simclr")):
        try:
            modules[name] = importlib.import_module(f".{module}", __package__)
        except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision made for another torch
            notes.append(f"{name} is absent: {error}. {remedy}")
    return modules
