"""Cells and schedules."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from experiments.grid import PRETRAININGS, SCHEDULES, Cell, Schedule, acdc_cells

CELL = Cell("GD", 1, "c1", 0, SCHEDULES["full"])
CHANGES = {"pretraining": "random", "num_labelled": 2, "combination": "c2", "seed": 1, "schedule": SCHEDULES["smoke"]}


def test_every_field_is_covered_below():
    assert set(CHANGES) == {field.name for field in fields(Cell)}


@pytest.mark.parametrize("name", CHANGES)
def test_key_changes_with_every_field(name):
    changed = replace(CELL, **{name: CHANGES[name]})
    assert changed.key != CELL.key
    assert (changed.name != CELL.name) == (name != "schedule")  # schedules have folders of their own


@pytest.mark.parametrize("name", [field.name for field in fields(Schedule)])
def test_key_changes_with_every_field_of_the_schedule(name):
    value = getattr(CELL.schedule, name)
    changed = replace(CELL.schedule, **{name: value + "2" if isinstance(value, str) else value + 1})
    assert replace(CELL, schedule=changed).key != CELL.key


def test_equal_cells_have_one_key():
    same = Cell("GD", 1, "c1", 0, replace(SCHEDULES["full"]))
    assert same.key == CELL.key and len(CELL.key) == 12


def test_cells_come_draw_by_draw():
    cells = acdc_cells(SCHEDULES["reduced"], ["c2", "c1"], num_labelled=2, seed=5)
    assert [(cell.combination, cell.pretraining) for cell in cells] == [
        ("c2", "random"),
        ("c2", "GD"),
        ("c2", "GD+LR"),
        ("c1", "random"),
        ("c1", "GD"),
        ("c1", "GD+LR"),
    ]
    assert {(cell.num_labelled, cell.seed, cell.schedule.name) for cell in cells} == {(2, 5, "reduced")}
    assert len({cell.key for cell in cells}) == len({cell.name for cell in cells}) == 2 * len(PRETRAININGS)
    assert cells[1].name == "GD_2_c2_seed5"


def test_schedules():
    assert all(schedule.name == name for name, schedule in SCHEDULES.items())
    for schedule in SCHEDULES.values():  # the trainers want whole epochs
        steps = (schedule.global_steps, schedule.local_steps, schedule.fine_tuning_steps)
        assert all(value % schedule.steps_per_epoch == 0 for value in steps), schedule
    full = SCHEDULES["full"]
    assert {full.global_steps, full.local_steps, full.fine_tuning_steps} == {10_000}


def test_runs_are_kept_apart_by_what_determines_them():
    cell = Cell("GD", 1, "c1", 0, SCHEDULES["reduced"])
    longer = replace(cell, schedule=replace(cell.schedule, global_steps=cell.schedule.global_steps + 1))
    tuned = replace(cell, schedule=replace(cell.schedule, fine_tuning_steps=cell.schedule.fine_tuning_steps + 1))
    assert len({cell.folder, longer.folder, tuned.folder}) == 3
    assert cell.pretraining_folder == tuned.pretraining_folder != longer.pretraining_folder
