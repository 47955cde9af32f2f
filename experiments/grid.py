"""What a cell of a table is: an initialisation, what is labelled, a recipe, a seed and the lengths of its stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from release.results import short_hash

from .recipes import RECIPES, Recipe


@dataclass(frozen=True)
class Schedule:
    """Lengths of the stages in steps, and the images of a fine-tuning batch."""

    name: str
    global_steps: int
    local_steps: int
    fine_tuning_steps: int
    fine_tuning_batch_size: int
    steps_per_epoch: int

    @property
    def lengths(self) -> str:
        """How long the stages are, in words."""
        return (
            f"{self.global_steps:,} global, {self.local_steps:,} local and {self.fine_tuning_steps:,} fine-tuning "
            f"steps at batch {self.fine_tuning_batch_size}"
        )


SCHEDULES = {
    schedule.name: schedule
    for schedule in (
        Schedule("full", 10_000, 10_000, 10_000, 40, 50),
        Schedule("reduced", 2_500, 500, 400, 20, 50),
        Schedule("smoke", 4, 4, 4, 8, 2),
    )
}
TRIAL = "smoke"
"""Name of the schedule that is for rehearsals."""


@dataclass(frozen=True)
class Pretraining:
    """How a network is initialised for fine-tuning; the defaults are random initial weights.

    Attributes:
        global_strategy: "GR", "GD-", "GD", or "" for none.
        local_strategy: "LR", "LD", or "" for none; only after a global one.
        num_blocks: l, decoder blocks that the local stage trains.
        region_size: K, side of its regions.
        batch_size: images of a batch of the global stage.
        num_partitions: S, partitions of a volume in the global stage.
        joint_weight: λ, if both are trained at once with Lg + λ Ll; 0 if one after the other.
    """

    global_strategy: str = ""
    local_strategy: str = ""
    num_blocks: int = 3
    region_size: int = 3
    batch_size: int = 40
    num_partitions: int = 4
    joint_weight: float = 0.0

    @property
    def name(self) -> str:
        """A name in the paper's terms, also for files: what differs from the defaults is appended."""
        strategies = "+".join(filter(None, (self.global_strategy, self.local_strategy))) or "random"
        letters = {
            "num_blocks": "d",
            "region_size": "K",
            "batch_size": "N",
            "num_partitions": "S",
            "joint_weight": "joint",
        }
        changed = [
            f"{letters[entry.name]}{getattr(self, entry.name):g}"
            for entry in fields(self)
            if entry.name in letters and getattr(self, entry.name) != entry.default
        ]
        return ".".join([strategies, *changed])

    @property
    def initialisation(self) -> str:
        """What fine-tuning takes over, as `train.json` calls it."""
        if not self.global_strategy:
            return "random"
        return "encoder_decoder" if self.local_strategy else "encoder"


@dataclass(frozen=True)
class Cell:
    """One fine-tuning: its initialisation, what is labelled, how it trains, and the seed."""

    dataset: str
    pretraining: Pretraining
    num_labelled: int | str
    draw: str
    seed: int
    schedule: Schedule
    recipe: Recipe = RECIPES["paper"]

    @property
    def fine_tuning_length(self) -> tuple[int, int]:
        """Steps and batch size of the fine-tuning: the recipe's, but for the schedule that only tries the code."""
        schedule, recipe = self.schedule, self.recipe
        if schedule.name == TRIAL:
            return schedule.fine_tuning_steps, schedule.fine_tuning_batch_size
        return recipe.steps or schedule.fine_tuning_steps, recipe.batch_size or schedule.fine_tuning_batch_size

    @property
    def lengths(self) -> str:
        """How long its stages are, in words."""
        steps, batch_size = self.fine_tuning_length
        return replace(self.schedule, fine_tuning_steps=steps, fine_tuning_batch_size=batch_size).lengths

    @property
    def is_run(self) -> bool:
        """Whether this version can run it: the former self-training has its results only."""
        return not self.recipe.self_training

    @property
    def row(self) -> str:
        """The name of its row in a table."""
        return row_name(self.pretraining, self.recipe)

    @property
    def name(self) -> str:
        """A name for folders and files."""
        return f"{self.row}_{self.num_labelled}_{self.draw}_seed{self.seed}"

    @property
    def key(self) -> str:
        """A hash of everything that determines the cell."""
        return short_hash(self.to_dict())

    @property
    def folder(self) -> str:
        """The folder of its run: another one as soon as anything that determines the cell changes."""
        return f"{self.name}_{self.key}"

    def to_dict(self) -> dict[str, Any]:
        """Return what result files have of the cell, in their names, from which keys and folders are hashed."""
        values = {**asdict(self), "recipe": self.recipe.to_dict()}
        return {STORED_NAMES.get(name, name): value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Cell:
        """Make a cell of what `to_dict` made of it."""
        own = {stored: name for name, stored in STORED_NAMES.items()}
        parts = {name: kind(**values[name]) for name, kind in _PARTS.items()}
        return cls(**{own.get(name, name): value for name, value in {**values, **parts}.items()})


STORED_NAMES = {"draw": "combination"}
"""What result files and hashes call a name, where that is an older one. They stay valid by that."""
_PARTS = {"pretraining": Pretraining, "schedule": Schedule, "recipe": Recipe}


def row_name(pretraining: Pretraining, recipe: Recipe) -> str:
    """Return the name of a row of a table: of its pre-training and, if it is not the paper's, its recipe."""
    return pretraining.name + ("" if recipe.name == Recipe.name else f"+{recipe.name}")
