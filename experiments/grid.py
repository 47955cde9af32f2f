"""What is run: cells of the paper's tables as data, and schedules."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

PRETRAININGS = ("random", "GD", "GD+LR")


@dataclass(frozen=True)
class Schedule:
    """Lengths of the stages in steps, and the images of a fine-tuning batch."""

    name: str
    global_steps: int
    local_steps: int
    fine_tuning_steps: int
    fine_tuning_batch_size: int
    steps_per_epoch: int


SCHEDULES = {
    schedule.name: schedule
    for schedule in (
        Schedule("full", 10_000, 10_000, 10_000, 40, 50),
        Schedule("reduced", 2_500, 500, 400, 20, 50),
        Schedule("smoke", 4, 4, 4, 8, 2),
    )
}


@dataclass(frozen=True)
class Cell:
    """One fine-tuning: where it starts, what is labelled, and the seed."""

    pretraining: str
    num_labelled: int
    combination: str
    seed: int
    schedule: Schedule

    @property
    def name(self) -> str:
        """A name for folders and files."""
        return f"{self.pretraining}_{self.num_labelled}_{self.combination}_seed{self.seed}"

    @property
    def key(self) -> str:
        """A hash of everything that determines the cell."""
        return _hash(asdict(self))

    @property
    def folder(self) -> str:
        """The folder of its run: another one as soon as anything that determines the cell changes."""
        return f"{self.name}_{self.key}"

    @property
    def pretraining_folder(self) -> str:
        """The folder of the pre-trained weights, shared by all cells that start from them."""
        schedule = self.schedule
        lengths = (schedule.global_steps, schedule.local_steps, schedule.steps_per_epoch)
        return f"pretrained_seed{self.seed}_{_hash(lengths)}"


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def acdc_cells(schedule: Schedule, combinations: Sequence[str], num_labelled: int = 1, seed: int = 0) -> list[Cell]:
    """List the cells with so many labelled ACDC volumes, draw by draw."""
    return [Cell(start, num_labelled, draw, seed, schedule) for draw in combinations for start in PRETRAININGS]
