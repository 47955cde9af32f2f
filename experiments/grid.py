"""What is run: the tables of the paper's supplement as cells, and schedules.

Chaitanya, Erdil, Karani, Konukoglu, NeurIPS 2020, arXiv 2006.10511. The numbers of the paper are mean test Dice, by
number of labelled volumes, as far as they are at hand.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any


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
class Pretraining:
    """Where a fine-tuning starts; the defaults are random initial weights.

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
class Recipe:
    """How a network is fine-tuned and its output cleaned; the defaults are the paper's.

    Attributes:
        name: stands for the other values in names of cells.
        augmentation: see `common.transforms.views.fine_tuning_views`.
        mixup_alpha: strength of Mixup, 0 without.
        weight_averaging: decay of the moving average of the weights, 0 without.
        self_training: train once more, also on what the network of the paper's recipe predicts for the pre-training
            volumes.
        largest_component: keep only the largest connected component of each structure in the test volumes.
    """

    name: str = "paper"
    augmentation: str = "paper"
    mixup_alpha: float = 0.0
    weight_averaging: float = 0.0
    self_training: bool = False
    largest_component: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """What differs from the paper among the values of `train.json`."""
        names = ("augmentation", "mixup_alpha", "weight_averaging")
        return {name: getattr(self, name) for name in names if getattr(self, name) != getattr(Recipe, name)}


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(),
        Recipe("mixup", mixup_alpha=0.1),
        Recipe("strong", augmentation="strong"),
        Recipe("averaging", weight_averaging=0.99),
        Recipe("component", largest_component=True),
        Recipe("self", self_training=True),
        Recipe("beyond", "strong", weight_averaging=0.99, self_training=True, largest_component=True),
    )
}


@dataclass(frozen=True)
class Cell:
    """One fine-tuning: where it starts, what is labelled, how it trains, and the seed."""

    dataset: str
    pretraining: Pretraining
    num_labelled: int | str
    combination: str
    seed: int
    schedule: Schedule
    recipe: Recipe = RECIPES["paper"]

    @property
    def row(self) -> str:
        """The name of its row in a table."""
        return _row_name(self.pretraining, self.recipe)

    @property
    def name(self) -> str:
        """A name for folders and files."""
        return f"{self.row}_{self.num_labelled}_{self.combination}_seed{self.seed}"

    @property
    def key(self) -> str:
        """A hash of everything that determines the cell."""
        return digest(asdict(self))

    @property
    def folder(self) -> str:
        """The folder of its run: another one as soon as anything that determines the cell changes."""
        return f"{self.name}_{self.key}"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Cell:
        """Make a cell of what `dataclasses.asdict` made of it."""
        parts = {name: kind(**values[name]) for name, kind in _PARTS.items()}
        return cls(**{**values, **parts})


_PARTS = {"pretraining": Pretraining, "schedule": Schedule, "recipe": Recipe}


def _row_name(pretraining: Pretraining, recipe: Recipe) -> str:
    return pretraining.name + ("" if recipe.name == Recipe.name else f"+{recipe.name}")


@dataclass(frozen=True)
class Row:
    """A row of a table: cells that differ in what is labelled, and what the paper has for them."""

    pretraining: Pretraining
    paper: Mapping[int | str, float] = field(default_factory=dict)
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
    notes: str = ""


def _paper(*values: float) -> dict[int | str, float]:
    return dict(zip((1, 2, 8), values, strict=False))


# Test Dice of GD+LD on ACDC by K, one value for each decoder length 1 to 5, with one and with two labelled volumes.
_GD_LD = {
    1: ((0.738, 0.704, 0.705, 0.702, 0.683), (0.780, 0.777, 0.770, 0.774, 0.764)),
    3: ((0.703, 0.737, 0.725, 0.726, 0.690), (0.783, 0.793, 0.787, 0.776, 0.777)),
}


def _strategies(**paper: Sequence[float]) -> list[Row]:
    """Rows of table 6; what the paper has for them by strategies and decoder length."""
    rows = [Row(Pretraining())]
    for strategy in ("GR", "GD"):
        rows.append(Row(Pretraining(strategy), _paper(*paper.get(strategy, ()))))
        rows += [
            Row(Pretraining(strategy, local, blocks), _paper(*paper.get(f"{strategy}_{local}_{blocks}", ())))
            for local in ("LR", "LD")
            for blocks in (2, 3, 4)
        ]
    return [*rows, Row(Pretraining(), dict(zip(("all",), paper.get("benchmark", ()), strict=False)), ("all",))]


TABLES: dict[int | str, Table] = {
    2: Table(
        "batch size of the global stage",
        {
            "acdc": [
                Row(Pretraining("GD"), _paper(0.691, 0.784, 0.870)),
                Row(Pretraining("GD", batch_size=250), _paper(0.685, 0.779, 0.862)),
                # The paper has 450: more than one slice of each partition of 52 volumes in two views, which are 416.
                Row(Pretraining("GD", batch_size=416), _paper(0.668, 0.770, 0.857)),
            ]
        },
    ),
    3: Table(
        "partitions of a volume",
        {
            "acdc": [
                Row(Pretraining("GD", num_partitions=3), _paper(0.686, 0.776, 0.868)),
                # The supplement has .789 for 2 volumes here and .784 for the same cell elsewhere.
                Row(Pretraining("GD"), _paper(0.691, 0.784, 0.870)),
                Row(Pretraining("GD", num_partitions=6), _paper(0.652, 0.760, 0.859)),
            ]
        },
    ),
    4: Table(
        "length of the pre-trained decoder and size of the regions",
        {
            "acdc": [
                Row(Pretraining("GD", "LD", blocks, region_size), _paper(*values), (1, 2))
                for region_size, by_labels in _GD_LD.items()
                for blocks, values in enumerate(zip(*by_labels, strict=True), start=1)
            ]
        },
    ),
    5: Table(
        "size of the regions",
        {
            "prostate": [
                Row(Pretraining("GD", "LD", region_size=1), _paper(0.554, 0.614), (1, 2)),
                Row(Pretraining("GD", "LD"), _paper(0.567, 0.607), (1, 2)),
            ],
            "mmwhs": [
                Row(Pretraining("GD", "LD", region_size=1), _paper(0.559, 0.674), (1, 2)),
                Row(Pretraining("GD", "LD"), _paper(0.574, 0.681), (1, 2)),
            ],
        },
    ),
    6: Table(
        "global and local strategies",
        {
            "acdc": _strategies(
                GR=(0.631, 0.729, 0.847),
                GD=(0.691, 0.784, 0.870),
                GD_LR_3=(0.725, 0.789, 0.872),
                **{f"GD_LD_{blocks}": [values[blocks - 1] for values in _GD_LD[3]] for blocks in (2, 3, 4)},
                benchmark=(0.912,),
            ),
            "prostate": _strategies(GR=(0.521, 0.580, 0.654), GD=(0.579, 0.600, 0.677)),
            "mmwhs": _strategies(GR=(0.500, 0.659, 0.785), GD=(0.553, 0.686, 0.793)),
        },
    ),
    7: Table(
        "joint training of encoder and decoder",
        {
            "acdc": [
                Row(Pretraining("GD", "LR"), _paper(0.725, 0.789), (1, 2)),
                *(
                    Row(Pretraining("GD", "LR", joint_weight=weight), _paper(*values), (1, 2))
                    for weight, values in (
                        (1.0, (0.634, 0.741)),
                        (10.0, (0.633, 0.730)),
                        (100.0, (0.643, 0.745)),
                        (1000.0, (0.644, 0.739)),
                    )
                ),
            ]
        },
    ),
    "beyond": Table(
        "what can be added to the paper's fine-tuning",
        {
            "acdc": [
                # What the paper has with the same pre-training and labels.
                Row(Pretraining("GD"), _paper(0.691, 0.784, 0.870)),
                *(Row(Pretraining("GD"), recipe=recipe) for recipe in list(RECIPES.values())[1:]),
                # How much of it the pre-training is still good for.
                Row(Pretraining(), recipe=RECIPES["beyond"]),
            ]
        },
        baseline="GD",
        notes=(
            "All rows have the same labelled volumes and are tested alike; all but the last have the same pre- "
            "training. `mixup`: Mixup with α = 0.1. `strong`: wider affine and intensity augmentation. `averaging`: "
            "moving average of the weights. `component`: only the largest connected component of each structure. "
            "`self`: a second fine-tuning, half of whose batches are pre-training volumes with the labels that the "
            "network of the paper's recipe predicts. `beyond`: all of these but Mixup."
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
        table: its number in the supplement, 2 to 7, or "beyond".
        dataset: "acdc", "prostate" or "mmwhs".
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
        for num_labelled, combinations in draws.items()
        for draw in combinations
        for row in rows[dataset]
        if num_labelled in row.num_labelled
    ]


def digest(value: object) -> str:
    """Return 12 hexadecimal digits that stand for a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
