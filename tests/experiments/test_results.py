"""What is read of result files and records of stages, and what is refused."""

from __future__ import annotations

import json
import re

import pytest

from common.records import write_record
from experiments.grid import SCHEDULES, Cell, Pretraining
from experiments.results import EVALUATIONS, ResultError, cell_of, read_any_result, read_result, read_stage_record

from .made_up import DICE, make_result

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


@pytest.mark.parametrize(
    "changes",
    [
        {"curves": {}},
        {"evaluations": make_result(CELL, {**DICE, "RV": None})["evaluations"]},
        {"seconds_in_this_run": {"train": 3}, "seconds": {}},
    ],
    ids=["no curves", "structure in no volume", "seconds of an older version"],
)
def test_what_may_differ(path, changes):
    write_record(path, make_result(CELL, **changes))
    assert read_result(path, CELL)


@pytest.mark.parametrize(
    "content",
    [b"", b'{"key": "0123', b"[]", b"\xff\x00", json.dumps({"key": CELL.key}).encode()],
    ids=["empty", "half-written", "list", "binary", "a key only"],
)
def test_no_record(path, content):
    path.write_bytes(content)
    with pytest.raises(
        ResultError, match=f"^{re.escape(str(path))} is damaged.*: move it away to run the cell again.$"
    ):
        read_result(path, CELL)


def test_every_digit_counts(path):
    write_record(path, make_result(CELL))
    text = path.read_text()
    for match in re.finditer(r"\d", text):
        path.write_text(text[: match.start()] + str(9 - int(match[0])) + text[match.end() :])
        with pytest.raises(ResultError, match="is damaged"):
            read_result(path, CELL)


def evaluation(**changes):
    """A result one of whose evaluations is changed."""
    evaluations = make_result(CELL)["evaluations"]
    name = list(EVALUATIONS)[1]
    return {"evaluations": {**evaluations, name: {**evaluations[name], **changes}}}


def curve(*points):
    return {"curves": {"mean_dice": list(points)}}


WRONG = [
    ({"key": 5}, "key must be a text, got 5"),
    ({"key": OTHER.key}, f"key must be that of its cell, {CELL.key}, got {OTHER.key}"),
    ({"cell": {}}, "cell does not say which cell this is"),
    ({"cell": None}, "cell does not say which cell this is"),
    ({"commit": ""}, "commit must be a text, got ''"),
    ({"device": None}, "device must be a text, got None"),
    ({"versions": []}, r"versions must name packages, got \[\]"),
    ({"seconds": {"train": -1.0}}, "seconds of train must be a number from 0, got -1.0"),
    ({"seconds": {"train": "1"}}, "seconds of train must be a number from 0, got '1'"),
    ({"seconds": {"train": True}}, "seconds of train must be a number from 0, got True"),
    ({"seconds": 3}, "seconds must be a JSON object, got 3"),
    ({"evaluations": {}}, "evaluations must have selected, recomputed, .*, last, running average is missing"),
    ({"evaluations": [1]}, r"evaluations must be a JSON object, got \[1\]"),
    (evaluation(mean_dice={"RV": 0.5}), "mean_dice of 'selected, running average' must have mean, mean is missing"),
    (evaluation(mean_dice={**DICE, "mean": None}), "mean_dice of .* must be a number from 0 to 1, got None"),
    (evaluation(mean_dice={**DICE, "RV": 1.0001}), "Dice of RV in mean_dice of .* from 0 to 1, got 1.0001"),
    (evaluation(mean_dice={**DICE, "RV": "0.5"}), "Dice of RV in mean_dice of .* from 0 to 1, got '0.5'"),
    (evaluation(volumes=[]), r"volumes of .* must be a list of at least one volume, got \[\]"),
    (evaluation(volumes="ab"), "volumes of .* must be a list of at least one volume, got 'ab'"),
    (evaluation(volumes=[{**DICE}]), "a volume of .* must have id, mean, id is missing"),
    (evaluation(volumes=[{"id": "a", **DICE, "LV": -0.1}]), "Dice of LV in a of .* from 0 to 1, got -0.1"),
    (evaluation(volumes=[{"id": "a", **DICE}] * 2), "volumes of .* have 'a' twice"),
    (evaluation(volumes=[{"id": "a", "mean": None}]), "no volume of 'selected, running average' has a Dice"),
    (curve(5), r"curve 'mean_dice' must be a list of pairs of step and value, got \[5\]"),
    (curve([-1, 0.5]), "step of curve 'mean_dice' must be a number from 0, got -1"),
    (curve([1, 1.5]), "value of curve 'mean_dice' must be a number from -inf to 1, got 1.5"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=[message[:50] for _, message in WRONG])
def test_wrong_values(path, changes, message):
    write_record(path, make_result(CELL, **changes))
    with pytest.raises(
        ResultError,
        match=f"^{re.escape(str(path))} is not a whole result file: .*{message}.*; move it away to run the cell again",
    ):
        read_result(path, CELL)


@pytest.mark.parametrize("name", ["key", "cell", "commit", "configs_sha256", "device", "versions", "evaluations"])
def test_missing_values(path, name):
    write_record(path, {key: value for key, value in make_result(CELL).items() if key != name})
    with pytest.raises(ResultError, match=f"a result must have .*, {name} is missing; move it away"):
        read_result(path, CELL)


def test_the_result_of_another_cell(path):
    write_record(path, make_result(OTHER))
    with pytest.raises(
        ResultError, match=f"is of a cell with other settings .key {OTHER.key}, expected {CELL.key}.: move it away"
    ):
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
