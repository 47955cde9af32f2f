"""What is read of result files and records of stages, and what is refused."""

from __future__ import annotations

import re

import pytest

from common.records import write_record
from experiments.grid import SCHEDULES, Cell, Pretraining
from experiments.results import cell_of, read_any_result, read_result, read_stage_record
from release.results import ResultError, short_hash

from .made_up import make_result

CELL = Cell("acdc", Pretraining("GD"), 1, "c2", 3, SCHEDULES["reduced"])
OTHER = Cell("acdc", Pretraining("GR"), 1, "c2", 3, SCHEDULES["reduced"])
RECORD = {"config": "train", "seconds": 1.5, "finished": True, "images": 32}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "result.json"


def test_a_result(path):
    assert read_result(path, CELL) is None
    write_record(path, make_result(CELL))
    assert read_result(path, CELL) == read_any_result(path) == make_result(CELL)
    assert cell_of(read_any_result(path)) == CELL


def test_the_result_of_another_cell(path):
    write_record(path, make_result(OTHER))
    with pytest.raises(
        ResultError, match=f"is of a cell with other settings .key {OTHER.key}, expected {CELL.key}.: move it away"
    ):
        read_result(path, CELL)


@pytest.mark.parametrize("values", [{}, {"dataset": "acdc", "pretraining": 3}], ids=["empty", "wrong types"])
def test_a_cell_of_no_grid(path, values):
    write_record(path, make_result(CELL, cell=values, key=short_hash(values)))
    with pytest.raises(ResultError, match="is not a whole result file: cell does not say which cell.*; move it away"):
        read_any_result(path)


def test_a_damaged_result(path):
    path.write_bytes(b"{")
    with pytest.raises(ResultError, match=f"^{re.escape(str(path))} is damaged"):
        read_result(path, CELL)


def test_no_file(path):
    with pytest.raises(ResultError, match=f"{path} cannot be read .*: name a result that `reproduce` wrote"):
        read_any_result(path)


def test_a_record_of_a_stage(path):
    write_record(path, RECORD)
    assert read_stage_record(path) == RECORD


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"finished": "false"}, "finished must be true or false, got 'false'"),
        ({"finished": 0}, "finished must be true or false, got 0"),
        ({"seconds": -3.0}, "seconds must be a number from 0, got -3.0"),
        ({"seconds": None}, "seconds must be a number from 0, got None"),
        ({"images": -32}, "images must be a whole number from 1, got -32"),
        ({"images": 1.5}, "images must be a whole number from 1, got 1.5"),
        ({"images": True}, "images must be a whole number from 1, got True"),
        ({"config": ["train"]}, r"config must be a text, got \['train'\]"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_values_of_a_stage(path, changes, message):
    write_record(path, {**RECORD, **changes})
    with pytest.raises(
        ResultError, match=f"^{re.escape(str(path))} is not a whole record of a stage: {message}; delete it to let"
    ):
        read_stage_record(path)
