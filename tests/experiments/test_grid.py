"""Cells, tables and schedules."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace

import pytest

from experiments.grid import SCHEDULES, Cell, Pretraining, Schedule
from experiments.recipes import PHOTOGRAPH_RECIPES, RECIPES, Recipe
from experiments.tables import TABLES, cells_of, paper_dice
from tests.places import REPOSITORY

CELL = Cell("acdc", Pretraining("GD", "LR"), 1, "c1", 0, SCHEDULES["full"])
CHANGES = {
    "dataset": "prostate",
    "pretraining": Pretraining(),
    "num_labelled": 2,
    "draw": "c2",
    "seed": 1,
    "schedule": SCHEDULES["smoke"],
    "recipe": RECIPES["beyond"],
}
PRETRAINING_CHANGES = {
    "global_strategy": "GR",
    "local_strategy": "LD",
    "num_blocks": 2,
    "region_size": 1,
    "batch_size": 250,
    "num_partitions": 6,
    "joint_weight": 10.0,
}
RECIPE_CHANGES = {
    "name": "other",
    "augmentation": "strong",
    "mixup_alpha": 0.1,
    "weight_averaging": 0.9,
    "self_training": True,
    "largest_component": True,
    "self_training_rounds": 2,
    "copy_paste": 0.5,
    "learning_rate_decay": "cosine",
    "batch_norm_statistics": "mixed",
    "kept_weights": "last",
    "unlabelled_frames": "all",
    "steps": 100,
    "batch_size": 10,
}
DRAWS = {1: ("c1", "c2"), 2: ("c1",), 8: ("c1",), "all": ("c1",)} | {n: ("c1",) for n in (25, 50, 100, 200, 400)}
COLUMNS = [(number, dataset) for number, table in TABLES.items() for dataset in table.rows]


@pytest.mark.parametrize(
    ("type_", "changes"), [(Cell, CHANGES), (Pretraining, PRETRAINING_CHANGES), (Recipe, RECIPE_CHANGES)]
)
def test_every_field_is_covered_below(type_, changes):
    assert set(changes) == {field.name for field in fields(type_)}


@pytest.mark.parametrize("name", CHANGES)
def test_key_changes_with_every_field(name):
    changed = replace(CELL, **{name: CHANGES[name]})
    assert changed.key != CELL.key
    assert changed.folder != CELL.folder
    # Datasets and schedules have folders of their own.
    assert (changed.name != CELL.name) == (name not in ("dataset", "schedule"))


@pytest.mark.parametrize("name", PRETRAINING_CHANGES)
def test_key_and_name_change_with_every_field_of_the_pretraining(name):
    changed = replace(CELL, pretraining=replace(CELL.pretraining, **{name: PRETRAINING_CHANGES[name]}))
    assert changed.key != CELL.key
    assert changed.name != CELL.name


@pytest.mark.parametrize("name", RECIPE_CHANGES)
def test_key_changes_with_every_field_of_the_recipe(name):
    changed = replace(CELL, recipe=replace(CELL.recipe, **{name: RECIPE_CHANGES[name]}))
    assert changed.key != CELL.key


def test_keys_are_those_of_older_results():
    """Their files call the draw by an older name, which the key is a hash of."""
    assert CELL.to_dict()["combination"] == "c1" and "draw" not in CELL.to_dict()
    path = next((REPOSITORY / "experiments/results/acdc/reduced").glob("GD_1_c2_*.json"))
    stored = json.loads(path.read_text())
    cell = Cell.from_dict(stored["cell"])
    assert (cell.draw, cell.key, cell.to_dict()) == ("c2", stored["key"], stored["cell"])


def test_the_recommended_recipe_is_the_default():
    recipe = RECIPES["recommended"]
    content = json.loads((REPOSITORY / "bundle_acdc/configs/train.json").read_text())
    paper = json.loads((REPOSITORY / "bundle_acdc/configs/paper.json").read_text())
    values = recipe.settings | {"steps": recipe.steps, "batch_size": recipe.batch_size}
    assert values == {name: content[name] for name in values}
    assert set(paper) - set(values) == {"initialisation", "steps_per_epoch", "val_interval"}
    assert content["initialisation"] == Pretraining("GD").initialisation


def test_recipes_of_photographs_are_those_of_their_bundles():
    for bundle in ("bundle_cityscapes", "experiments/bundle_camvid"):
        train, paper = (
            json.loads((REPOSITORY / bundle / f"configs/{name}.json").read_text()) for name in ("train", "paper")
        )
        recipe = PHOTOGRAPH_RECIPES["recommended"]
        values = recipe.settings | {"steps": recipe.steps, "batch_size": recipe.batch_size}
        assert values == {name: train[name] for name in values}
        assert PHOTOGRAPH_RECIPES["paper"].settings == {"augmentation": paper["augmentation"]}
        assert not train["largest_component"]
        assert not [own for own in PHOTOGRAPH_RECIPES.values() if own.largest_component]


def test_table_8_is_the_papers(paper_tables):
    table = json.loads(paper_tables.read_text())["table_8"]
    numbers = paper_dice(8, "cityscapes")
    for row, dice in table["rows"].items():
        assert [numbers[row][number] for number in (100, 200, 400)] == dice
    assert numbers["random"]["all"] == table["benchmark"]
    rows = [row.name for row in TABLES[8].rows["cityscapes"]]
    assert rows == ["random", "GR", "GR+LR", "GR+LR+mixup", "GR+LR+recommended", "random+recommended", "random"]


def test_a_recipe_has_its_own_length_but_when_the_code_is_tried():
    cell = replace(CELL, recipe=replace(CELL.recipe, steps=7, batch_size=3))
    assert CELL.fine_tuning_length == (10_000, 40)
    assert cell.fine_tuning_length == (7, 3)
    assert replace(cell, schedule=SCHEDULES["smoke"]).fine_tuning_length == (4, 8)


def test_recipes_differ_in_more_than_their_names():
    assert len({replace(recipe, name="") for recipe in RECIPES.values()}) == len(RECIPES)
    assert all(recipe.name == name for name, recipe in RECIPES.items())


@pytest.mark.parametrize("name", [field.name for field in fields(Schedule)])
def test_key_changes_with_every_field_of_the_schedule(name):
    value = getattr(CELL.schedule, name)
    changed = replace(CELL.schedule, **{name: value + "2" if isinstance(value, str) else value + 1})
    assert replace(CELL, schedule=changed).key != CELL.key


def test_equal_cells_have_one_key_also_from_a_file():
    again = Cell.from_dict(json.loads(json.dumps(CELL.to_dict())))
    assert again == CELL
    assert again.key == CELL.key
    assert re.fullmatch("[0-9a-f]{12}", CELL.key)


@pytest.mark.parametrize(
    ("pretraining", "name", "initialisation"),
    [
        (Pretraining(), "random", "random"),
        (Pretraining("GR"), "GR", "encoder"),
        (Pretraining("GD", batch_size=250), "GD.N250", "encoder"),
        (Pretraining("GD", num_partitions=6), "GD.S6", "encoder"),
        (Pretraining("GD", "LR"), "GD+LR", "encoder_decoder"),
        (Pretraining("GD", "LR", 2), "GD+LR.d2", "encoder_decoder"),
        (Pretraining("GD", "LD", 1, 1), "GD+LD.d1.K1", "encoder_decoder"),
        (Pretraining("GD", "LR", joint_weight=1000.0), "GD+LR.joint1000", "encoder_decoder"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_names_of_pretrainings(pretraining, name, initialisation):
    assert (pretraining.name, pretraining.initialisation) == (name, initialisation)


def test_name_of_a_cell():
    assert replace(CELL, recipe=RECIPES["mixup"], num_labelled="all").name == "GD+LR+mixup_all_c1_seed0"


@pytest.mark.parametrize(("table", "dataset"), COLUMNS, ids=str)
def test_cells_of_a_table_are_distinct(table, dataset):
    cells = cells_of(table, dataset, SCHEDULES["full"], DRAWS, (0, 1))
    names = {cell.name.lower() for cell in cells}  # some file systems take a and A for the same
    assert len(cells) == len(names) == len({cell.key for cell in cells}) > 0
    assert all(re.fullmatch(r"[A-Za-z0-9+._]+", cell.name) for cell in cells)
    assert {cell.dataset for cell in cells} == {dataset}


def test_cells_that_tables_share_are_the_same():
    by_key = {}
    for table, dataset in COLUMNS:
        for cell in cells_of(table, dataset, SCHEDULES["full"], DRAWS):
            assert by_key.setdefault((dataset, cell.name), cell) == cell
    gd = [cell for table in (2, 3, 6) for cell in cells_of(table, "acdc", SCHEDULES["full"], DRAWS) if cell.row == "GD"]
    assert len({cell.key for cell in gd}) == len(gd) / 3 == 4


def test_cells_come_draw_by_draw():
    cells = cells_of(2, "acdc", SCHEDULES["reduced"], {1: ("c2", "c1"), "all": ("c1",)}, (5,))
    assert [(cell.draw, cell.row) for cell in cells] == [
        (draw, row) for draw in ("c2", "c1") for row in ("GD", "GD.N250", "GD.N416")
    ]
    assert {(cell.num_labelled, cell.seed, cell.schedule.name) for cell in cells} == {(1, 5, "reduced")}


def test_all_labels_are_for_the_benchmark_only():
    cells = cells_of(6, "acdc", SCHEDULES["full"], {"all": ("c1",)})
    assert [cell.name for cell in cells] == ["random_all_c1_seed0"]


def test_table_6_has_every_strategy():
    rows = {row.pretraining.name for row in TABLES[6].rows["acdc"]}
    decoders = {"d2": ".d2", "d3": "", "d4": ".d4"}
    expected = {f"{g}+{local}{suffix}" for g in ("GR", "GD") for local in ("LR", "LD") for suffix in decoders.values()}
    assert rows == {"random", "GR", "GD", *expected}


@pytest.mark.parametrize(
    ("table", "dataset", "message"),
    [
        (1, "acdc", "table must be one of 2, 3, 4, 5, 6, 7, 8, streets, beyond, got 1"),
        ("6", "acdc", "table must be one of .* got '6'"),
        (5, "acdc", "dataset must be one of prostate, mmwhs for table 5, got 'acdc'"),
        (6, "ACDC", "dataset must be one of acdc, prostate, mmwhs for table 6, got 'ACDC'"),
    ],
)
def test_unknown_tables_and_datasets(table, dataset, message):
    with pytest.raises(ValueError, match=message):
        cells_of(table, dataset, SCHEDULES["full"], DRAWS)


def test_schedules():
    assert all(schedule.name == name for name, schedule in SCHEDULES.items())
    for schedule in SCHEDULES.values():  # the trainers want whole epochs
        steps = (schedule.global_steps, schedule.local_steps, schedule.fine_tuning_steps)
        assert all(value % schedule.steps_per_epoch == 0 for value in steps), schedule
    full = SCHEDULES["full"]
    assert {full.global_steps, full.local_steps, full.fine_tuning_steps} == {10_000}


def flatten(values, *keys):
    """Yield (keys, Dice) of nested dictionaries."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flatten(value, *keys, key)
        else:
            yield (*keys, key), value


@pytest.mark.parametrize(("table", "dataset"), COLUMNS, ids=str)
def test_every_number_of_the_paper_has_a_row(table, dataset):
    cells = {(cell.row, cell.num_labelled) for cell in cells_of(table, dataset, SCHEDULES["full"], DRAWS)}
    numbers = dict(flatten(paper_dice(table, dataset)))
    assert bool(numbers) == (table != "streets") and set(numbers) <= cells
    assert all(0.4 < dice < 0.95 for dice in numbers.values())


def test_rows_without_a_number_of_the_paper_are_random_weights_and_own_recipes():
    cells = {
        (number, dataset, cell.row, cell.num_labelled)
        for number, dataset in COLUMNS
        for cell in cells_of(number, dataset, SCHEDULES["full"], DRAWS)
    }
    own = ("beyond", "streets")
    known = {
        (number, dataset, *keys) for number, dataset in COLUMNS for keys, _ in flatten(paper_dice(number, dataset))
    }
    assert {
        row.partition("+")[0] for number, _, row, _ in cells - known if number not in own and "recomm" not in row
    } == {"random"}


@pytest.mark.parametrize("dataset", ["acdc", "prostate", "mmwhs"])
def test_table_6_is_the_papers(dataset, paper_tables):
    numbers = dict(flatten(paper_dice(6, dataset)))
    for (strategy, number, *blocks), dice in flatten(json.loads(paper_tables.read_text())["table_6"][dataset]):
        row = strategy if blocks in ([], ["d3"]) else f"{strategy}.{blocks[0]}"
        assert numbers.pop((row, int(number))) == dice
    assert set(numbers) <= {("random", "all")}


@pytest.mark.parametrize(
    ("table", "dataset", "row", "number", "dice"),
    [
        (2, "acdc", "GD.N416", 1, 0.668),
        (3, "acdc", "GD", 2, 0.789),
        (4, "acdc", "GD+LD.d1.K1", 1, 0.738),
        (5, "mmwhs", "GD+LD", 2, 0.681),
        (6, "acdc", "random", "all", 0.912),
        (7, "acdc", "GD+LR.joint10", 2, 0.73),
        (8, "cityscapes", "GR+LR+mixup", 400, 0.569),
        ("beyond", "acdc", "GD", 8, 0.87),
    ],
)
def test_numbers_of_the_other_tables(table, dataset, row, number, dice):
    assert paper_dice(table, dataset)[row][number] == dice
