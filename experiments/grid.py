"""What is run: the tables of the paper's supplement as cells, and schedules.

Chaitanya, Erdil, Karani, Konukoglu, NeurIPS 2020, arXiv 2006.10511. The numbers of the paper are in `paper.json`: mean
test Dice by table, dataset, row and number of labelled volumes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from release.results import short_hash

from .recipes import PHOTOGRAPH_RECIPES, RECIPES, RECOMMENDED, Recipe


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
        return _row_name(self.pretraining, self.recipe)

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


def _row_name(pretraining: Pretraining, recipe: Recipe) -> str:
    return pretraining.name + ("" if recipe.name == Recipe.name else f"+{recipe.name}")


@dataclass(frozen=True)
class Row:
    """A row of a table: cells that differ in what is labelled."""

    pretraining: Pretraining
    num_labelled: tuple[int | str, ...] = (1, 2, 8)
    recipe: Recipe = RECIPES["paper"]

    @property
    def name(self) -> str:
        """The name that its cells have as well."""
        return _row_name(self.pretraining, self.recipe)


@dataclass(frozen=True)
class Table:
    """A table of the supplement, or one of our own."""

    title: str
    rows: Mapping[str, Sequence[Row]]
    """By dataset."""
    baseline: str = "random"
    """Name of the row that gains are counted from."""
    further_gains: Sequence[tuple[str, str]] = ()
    """Names of two rows each: one that gains are counted from as well, and one that may be better."""
    notes: str = ""


def paper_dice(table: int | str, dataset: str) -> dict[str, dict[int | str, float]]:
    """Return what the paper has in a table for a dataset: mean test Dice by name of the row and number of labels."""
    rows = _PAPER.get(str(table), {}).get(dataset, {})
    return {
        name: {number if number == "all" else int(number): dice for number, dice in values.items()}
        for name, values in rows.items()
    }


_PAPER = json.loads((Path(__file__).parent / "paper.json").read_text(encoding="utf-8"))["tables"]

# Table 6: a row for random initial weights, three for each strategy and decoder length, and the benchmark.
_STRATEGIES = [
    Row(Pretraining()),
    *(
        Row(pretraining)
        for strategy in ("GR", "GD")
        for pretraining in (
            Pretraining(strategy),
            *(Pretraining(strategy, local, blocks) for local in ("LR", "LD") for blocks in (2, 3, 4)),
        )
    ),
    Row(Pretraining(), ("all",)),
]
_REGION_SIZES = [Row(Pretraining("GD", "LD", region_size=size), (1, 2)) for size in (1, 3)]

# Table 8, of photographs; the last rows are what our own fine-tuning adds, and how much of it needs pre-training.
_STREETS = [
    (Pretraining(), PHOTOGRAPH_RECIPES["paper"]),
    (Pretraining("GR"), PHOTOGRAPH_RECIPES["paper"]),
    (Pretraining("GR", "LR"), PHOTOGRAPH_RECIPES["paper"]),
    (Pretraining("GR", "LR"), PHOTOGRAPH_RECIPES["mixup"]),
    (Pretraining("GR", "LR"), PHOTOGRAPH_RECIPES[RECOMMENDED]),
    (Pretraining(), PHOTOGRAPH_RECIPES[RECOMMENDED]),
]
_STREETS_REMARKS: dict[str, Any] = {
    "further_gains": [("random+recommended", "GR+LR+recommended")],
    "notes": (
        "Dice of each class over all test photographs together, then the mean over classes; IoU alike. Numbers are of "
        "labelled photographs. `mixup`: Mixup with α = 0.1. `recommended`: the defaults of the bundle's `train.json`."
    ),
}


def _streets(*num_labelled: int | str) -> list[Row]:
    return [
        *(Row(pretraining, num_labelled, recipe) for pretraining, recipe in _STREETS),
        Row(Pretraining(), ("all",), PHOTOGRAPH_RECIPES["paper"]),
    ]


TABLES: dict[int | str, Table] = {
    2: Table(
        "batch size of the global stage",
        # The paper has 450: more than one slice of each partition of 52 volumes in two views, which are 416.
        {"acdc": [Row(Pretraining("GD", batch_size=size)) for size in (40, 250, 416)]},
    ),
    3: Table(
        "partitions of a volume",
        {"acdc": [Row(Pretraining("GD", num_partitions=number)) for number in (3, 4, 6)]},
    ),
    4: Table(
        "length of the pre-trained decoder and size of the regions",
        {
            "acdc": [
                Row(Pretraining("GD", "LD", blocks, region_size), (1, 2))
                for region_size in (1, 3)
                for blocks in (1, 2, 3, 4, 5)
            ]
        },
    ),
    5: Table("size of the regions", {"prostate": _REGION_SIZES, "mmwhs": _REGION_SIZES}),
    6: Table(
        "global and local strategies",
        {"acdc": _STRATEGIES, "prostate": _STRATEGIES, "mmwhs": _STRATEGIES},
    ),
    7: Table(
        "joint training of encoder and decoder",
        {
            "acdc": [
                Row(Pretraining("GD", "LR", joint_weight=weight), (1, 2)) for weight in (0.0, 1.0, 10.0, 100.0, 1000.0)
            ]
        },
    ),
    8: Table("photographs of streets", {"cityscapes": _streets(100, 200, 400)}, **_STREETS_REMARKS),
    "streets": Table(
        "what table 8 has, on photographs that are at hand", {"camvid": _streets(25, 50, 100)}, **_STREETS_REMARKS
    ),
    "beyond": Table(
        "what can be added to the paper's fine-tuning",
        {
            "acdc": [
                *(Row(Pretraining("GD"), recipe=recipe) for recipe in RECIPES.values()),
                # How much of it the pre-training is still good for.
                Row(Pretraining(), recipe=RECIPES["beyond"]),
                Row(Pretraining(), recipe=RECIPES[RECOMMENDED]),
                *(Row(Pretraining("GD", local), (1, 2), RECIPES[RECOMMENDED]) for local in ("LR", "LE", "LX")),
                *(Row(Pretraining("GD", local), (1,)) for local in ("LE", "LX")),
            ]
        },
        baseline="GD",
        further_gains=(("random+beyond", "GD+beyond"), ("random+recommended", "GD+recommended")),
        notes=(
            "All rows have the same labelled volumes and are tested alike; rows of one initialisation have the same "
            "pre-training. `mixup`: Mixup with α = 0.1. `strong`: wider affine and intensity augmentation. "
            "`averaging`: moving average of the weights. `component`: only the largest connected component of each "
            "structure. `self`: a second fine-tuning; half of its batches are pre-training volumes, labelled by the "
            "network of the paper's recipe. `beyond`: all of these but Mixup. `self` and `beyond` were run by "
            "versions up to 0.7. `recommended`: the defaults of `train.json`, which teaches itself in rounds within "
            f"one run of {RECIPES[RECOMMENDED].steps:,} steps, at a falling rate, with strong augmentation, averaged "
            "weights, and the largest component. `frames`: the same with `--unlabelled_frames all`, which adds the "
            "end-systolic images of the pre-training patients. `LE`, `LX`: local stages of pixels in two views, each "
            "moved by itself; with LX pixels of other patients at the same level are positives too."
        ),
    ),
}


def cells_of(
    table: int | str,
    dataset: str,
    schedule: Schedule,
    draws: Mapping[int | str, Sequence[str]],
    seeds: Sequence[int] = (0,),
) -> list[Cell]:
    """List the cells of a table: draw by draw, so that rows can be compared from the start.

    Args:
        table: its number in the supplement, 2 to 8, or the name of one of our own, "beyond" or "streets".
        dataset: "acdc", "prostate", "mmwhs", "cityscapes" or, for "streets", "camvid".
        schedule: lengths of the stages.
        draws: the draws of the dataset, by number of labelled volumes.
        seeds: of initial weights and batches.

    Raises:
        ValueError: if there is no such table, or it has no such dataset.
    """
    if table not in TABLES:
        raise ValueError(f"table must be one of {', '.join(map(str, TABLES))}, got {table!r}.")
    rows = TABLES[table].rows
    if dataset not in rows:
        raise ValueError(f"dataset must be one of {', '.join(rows)} for table {table}, got {dataset!r}.")
    return [
        Cell(dataset, row.pretraining, num_labelled, draw, seed, schedule, row.recipe)
        for seed in seeds
        for num_labelled, names in draws.items()
        for draw in names
        for row in rows[dataset]
        if num_labelled in row.num_labelled
    ]
