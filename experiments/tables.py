"""The tables: those of the paper's supplement and our own, as rows of cells.

Chaitanya, Erdil, Karani, Konukoglu, NeurIPS 2020, arXiv 2006.10511. The numbers of the paper are in `paper.json`: mean
test Dice by table, dataset, row and number of labelled volumes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .grid import Cell, Pretraining, Schedule, row_name
from .recipes import PHOTOGRAPH_RECIPES, RECIPES, RECOMMENDED, Recipe


@dataclass(frozen=True)
class Row:
    """A row of a table: cells that differ in what is labelled."""

    pretraining: Pretraining
    num_labelled: tuple[int | str, ...] = (1, 2, 8)
    recipe: Recipe = RECIPES["paper"]

    @property
    def name(self) -> str:
        """The name that its cells have as well."""
        return row_name(self.pretraining, self.recipe)


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

# Table 8, of photographs; the last rows are what our own fine-tuning adds.
_STREETS = [
    (Pretraining(), PHOTOGRAPH_RECIPES["paper"]),
    (Pretraining("GR"), PHOTOGRAPH_RECIPES["paper"]),
    (Pretraining("GR", "LR"), PHOTOGRAPH_RECIPES["paper"]),
    (Pretraining("GR", "LR"), PHOTOGRAPH_RECIPES["mixup"]),
    (Pretraining("GR", "LR"), PHOTOGRAPH_RECIPES[RECOMMENDED]),
    (Pretraining(), PHOTOGRAPH_RECIPES[RECOMMENDED]),
]
_STREETS_REMARKS: dict[str, Any] = {
    "further_gains": [
        ("GR", "GR+LR"),
        ("GR+LR", "GR+LR+mixup"),
        ("GR+LR", "GR+LR+recommended"),
        ("random+recommended", "GR+LR+recommended"),
    ],
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


def _numbers(recipe: Recipe) -> tuple[int | str, ...]:
    return (1, 2, 8, "all") if recipe.name == RECOMMENDED else (1, 2, 8)


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
                *(Row(Pretraining("GD"), _numbers(recipe), recipe) for recipe in RECIPES.values()),
                # How much of it the pre-training is still good for.
                Row(Pretraining(), recipe=RECIPES["beyond"]),
                Row(Pretraining(), recipe=RECIPES[RECOMMENDED]),
                *(Row(Pretraining("GD", local), (1, 2), RECIPES[RECOMMENDED]) for local in ("LR", "LE", "LX")),
                Row(Pretraining("GD", "LE"), (1,), RECIPES["recomputed"]),
                *(Row(Pretraining("GD", local), (1,)) for local in ("LE", "LX")),
            ]
        },
        baseline="GD",
        further_gains=(
            ("random+beyond", "GD+beyond"),
            ("random+recommended", "GD+recommended"),
            *(("GD+recommended", f"GD+{local}+recommended") for local in ("LR", "LE", "LX")),
            *(("GD+recomputed", other) for other in ("GD+recommended", "GD+frames", "GD+LE+recomputed")),
        ),
        notes=(
            "Where numbers of runs differ, rows are of other draws: compare them by the paired gains, not by their "
            "means. Rows of one initialisation have the same pre-training. `mixup`: Mixup with α = 0.1. `strong`: "
            "wider affine and intensity augmentation. `averaging`: moving average of the weights. `component`: only "
            "the largest connected component of each structure of the test volumes. `self`: a second fine-tuning; half "
            "of its batches are pre-training volumes, labelled by the network of the paper's recipe. `beyond`: all of "
            "these but Mixup. `self` and `beyond` were run by versions up to 0.7. `recommended`: the defaults of "
            f"`train.json`, which teaches itself in rounds within one run of {RECIPES[RECOMMENDED].steps:,} steps, at "
            "a falling rate, with strong augmentation, averaged weights, and the largest component; its bias field "
            "correction is that of today, that of the paper's fine-tuning is of version 0.8. `recomputed`: the same "
            "with `--batch_norm_statistics recomputed` (without labelled slices in them) and `--kept_weights best`, "
            "the defaults before. `frames`: `recomputed` with `--unlabelled_frames all`, which adds the end-systolic "
            "images of the pre-training patients. `LR`: the paper's local stage. `LE`, `LX`: local stages of pixels in "
            "two views, each moved by itself; with LX pixels of other patients at the same level are positives too."
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
