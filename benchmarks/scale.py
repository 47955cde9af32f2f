"""Steps and memory of global pre-training as the slices grow from 500 to 500,000: does their number cost anything?

The same stage (GD, default options) on stores of several sizes, each in a process of its own, which run in turn:

    in memory      up to a set size the slices are one tensor on the device
    memory-mapped  beyond, they are a file, from which a thread reads the batches ahead

Timed are the draw of the indices, the data part (draw, read, move to the device, views) and the whole step with the
network, as multiples of what the smallest store takes. The slices are noise; what they show makes no difference here.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks import harness
from common.data.disk_space import check_room
from common.data.loader import BatchLoader
from common.data.samplers import contrastive_sampler
from common.data.slice_store import StoreShape
from common.data.slices import MappedSlices, Slices
from common.engines import AutocastInferer
from common.losses import GlobalContrastiveLoss
from common.networks import GlobalPretrainingNet, UNet2d
from common.strategies import make_layout
from common.transforms.intensity_views import RandomIntensity
from common.transforms.spatial_views import RandomCropResize
from common.transforms.views import Augmentations, ContrastiveViews

DEPTH = 10  # slices of a volume
PARTS = {"draw": 100, "data": 20, "step": 4}  # what is timed, and how many of it make a run


class Volumes:
    """Gives volumes (1, side, side, DEPTH) of noise without holding more than one of them."""

    def __init__(self, number: int, side: int) -> None:
        self.number = number
        self.noise = torch.rand(1, side, side, DEPTH, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return self.number

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for number in range(self.number):
            yield {"image": self.noise * (1 - number / (2 * self.number))}  # so that no two are alike


class Trial:
    """The stage on one store.

    Args:
        num_slices: of the store.
        side: of a slice.
        batch_size: images of a batch, views included.
        in_memory_gib: see `Slices.from_volumes`.
        cache_dir: folder of the file.
        sparse: file whose end is to have no content, for stores that would fill a disk; empty if there is none.
    """

    def __init__(
        self, num_slices: int, side: int, batch_size: int, in_memory_gib: float, cache_dir: str, sparse: str
    ) -> None:
        torch.manual_seed(0)
        self.device = harness.default_device()
        self.made_mib: float | None = None
        if sparse:
            shape = StoreShape(num_slices, side, side, False)
            os.truncate(sparse, shape.num_bytes)
            with open(sparse, "rb") as file:
                starts = torch.arange(0, num_slices + 1, DEPTH)
                self.slices: Slices = MappedSlices(file, shape, starts, device=self.device)
        else:
            made: list[Slices] = []
            settings = (Volumes(num_slices // DEPTH, side), self.device, in_memory_gib, cache_dir, False)
            self.made_mib = harness.peak_memory_mib(
                lambda: made.append(Slices.from_volumes(*settings)), torch.device("cpu")
            )
            self.slices = made[0]
        layout = make_layout("GD", batch_size)
        self.sampler = contrastive_sampler(layout, self.slices)
        crop = RandomCropResize(side * 100 // 192, (side * 10 // 192, side * 69 // 192))
        views = ContrastiveViews("GD", Augmentations([crop, RandomIntensity()]))
        self.batches = iter(BatchLoader(self.slices, self.sampler, views, steps_per_epoch=1))
        network = GlobalPretrainingNet(UNet2d(4), (side, side))
        # The argument is in torch's documentation, but not in its types.
        self.network = network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # untyped
        self.loss = GlobalContrastiveLoss(layout)
        self.inferer = AutocastInferer()
        parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(parameters, lr=1e-3)
        self.generator = torch.Generator().manual_seed(0)
        self.noise = torch.rand(side, side, device=self.device)

    def kind(self) -> str:
        """Return where the slices are."""
        return "memory-mapped" if isinstance(self.slices, MappedSlices) else "in memory"

    def making_mib(self) -> float | None:
        """Return what making the store needed at its peak, where it was made and the machine tells."""
        return self.made_mib

    def seconds(self, part: str, number: int) -> float:
        """Return how long one of `PARTS` took, on average over so many in a row."""
        harness.synchronise(self.device)
        started = time.perf_counter()
        for _ in range(number):
            getattr(self, part)()
        harness.synchronise(self.device)
        return (time.perf_counter() - started) / number

    def draw(self) -> None:
        """Draw the indices of a batch."""
        self.sampler(self.generator)

    def data(self) -> Tensor:
        """Make a batch."""
        return next(self.batches)[0]

    def step(self) -> None:
        """Make a batch and train with it."""
        # What comes out of a hole is zeros, whose gradients are so small that a CPU takes long for them.
        images = self.data() + self.noise
        self.optimizer.zero_grad(set_to_none=True)
        self.loss(self.inferer(images, self.network)).backward()
        self.optimizer.step()

    def resident_mib(self) -> float:
        """Return the memory of this process, its own and that of mapped files; NaN where the machine does not tell."""
        return harness.resident_mib("RssAnon", "RssFile")


class _Process(BaseManager):
    """A process of its own for a trial."""


_Process.register("Trial", Trial)


def measure(
    sizes: Sequence[int] = (500, 5_000, 50_000, 500_000),
    in_memory_gib: float = 2.0,
    real_gib: float = 8.0,
    side: int = 192,
    batch_size: int = 40,
    repetitions: int = 9,
    own_processes: bool = True,
) -> dict[str, Any]:
    """Time all sizes in turn.

    Args:
        sizes: slices of each store, increasing multiples of 10.
        in_memory_gib: up to which size a store is in memory.
        real_gib: up to which size a file is written in full; a larger one is the largest of these, extended by a hole,
            which reads as zeros and takes no room.
        side: of a slice.
        batch_size: images of a batch, views included.
        repetitions: timed runs of each part, after one that is not timed.
        own_processes: False runs all in this process, so that their memory cannot be told apart.

    Raises:
        OSError: if the disk has not twice the room that is needed.
    """
    gib = {size: StoreShape(size, side, side, False).num_bytes / 2**30 for size in sizes}
    written = [size for size in sizes if in_memory_gib < gib[size] <= real_gib]
    seconds: dict[str, dict[str, list[float]]] = {part: {str(size): [] for size in sizes} for part in PARTS}
    resident: dict[int, float] = dict.fromkeys(sizes, 0.0)
    trials: dict[int, Any] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as processes:
        room = int(2 * sum(gib[size] for size in written) * 2**30)
        check_room(folder, room, "twice the files of slices", "set TMPDIR to a folder that has it")
        for size in tqdm(sizes, desc="Making the stores", file=sys.stderr):
            start = Trial
            if own_processes:
                process = _Process(ctx=multiprocessing.get_context("spawn"))
                start = processes.enter_context(process).Trial  # type: ignore[attr-defined]  # by `register`
            sparse = str(_largest_file(folder)) if gib[size] > max(in_memory_gib, real_gib) else ""
            trials[size] = start(size, side, batch_size, in_memory_gib, folder, sparse)
        for repetition in tqdm(range(1 + repetitions), desc="Timing", file=sys.stderr):
            for part, number in PARTS.items():
                for size, trial in trials.items():
                    _forget_files(folder)
                    value = trial.seconds(part, number)
                    if repetition > 0:
                        seconds[part][str(size)].append(value)
                    resident[size] = max(resident[size], trial.resident_mib())
        kinds = {size: trial.kind() for size, trial in trials.items()}
        making = {size: trial.making_mib() for size, trial in trials.items()}
        trials.clear()

    smallest, largest = str(sizes[0]), sizes[-1]
    rows: list[dict[str, Any]] = []
    for size in sizes:
        step = harness.ratios(seconds["step"], str(size), smallest)
        row: dict[str, Any] = {
            "slices": size,
            "GiB": gib[size],
            "kind": kinds[size],
            f"step, times {smallest} slices": step["median"],
            "low": step["low"],
            "high": step["high"],
            "data": harness.ratios(seconds["data"], str(size), smallest)["median"],
            "draw": harness.ratios(seconds["draw"], str(size), smallest)["median"],
            "resident MiB": resident[size],
            "MiB while made": making[size],
        }
        if harness.default_device().type == "cuda":
            row["steps a second"] = 1 / statistics.median(seconds["step"][str(size)])
        rows.append(row)
    mapped = [size for size in sizes if kinds[size] == "memory-mapped"]
    targets = [
        harness.target(
            f"whole step, times that with {smallest} slices, the worst size",
            max(row[f"step, times {smallest} slices"] for row in rows),
            at_most=1.1,
        ),
        harness.target(
            f"resident memory with {largest} slices, times that with {mapped[0]} (the fewest memory-mapped ones)",
            resident[largest] / resident[mapped[0]],
            at_most=1.2,
        ),
    ]
    share = statistics.median(seconds["data"][smallest]) / statistics.median(seconds["step"][smallest])
    notes = [
        f"GD, {batch_size} images of {side} x {side}, of which half are read; {DEPTH} slices a volume. Data (draw, "
        "read, move to the device, views) and draw are times those of the smallest store as well; there the data part "
        f"takes {100 * share:.1f} % of a step.",
        f"Slices are in memory up to {in_memory_gib} GiB, then memory-mapped.",
        f"Files up to {real_gib} GiB are written in full, and dropped from the page cache before each run, so that "
        "what is read comes from the disk. A larger one is the largest of these extended by a hole, since it would "
        "fill the disk: most of what is read of it is zeros that the system makes up.",
        "Resident: RssAnon + RssFile of the process, the highest after any run; it includes the network, the optimiser "
        "and the libraries. While made: the peak of making the store beyond what was in use before.",
    ]
    return harness.result("scale", rows, targets, notes)


def _largest_file(folder: str) -> Path:
    """Return the largest store in a folder, or an empty one if there is none."""
    paths = sorted(Path(folder).glob("*.slices"), key=lambda path: path.stat().st_size)
    if not paths:
        paths = [Path(folder, "empty.slices")]
        paths[0].touch()
    return paths[-1]


def _forget_files(folder: str) -> None:
    """Make the system read the files of a folder from the disk again, where it can be asked to."""
    if hasattr(os, "posix_fadvise"):
        for path in Path(folder).iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())  # what is not yet written is not dropped
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
