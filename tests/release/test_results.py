"""What is read of result files, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from common.records import write_record
from experiments.grid import SCHEDULES, Cell, Pretraining
from experiments.report.runs import STUDIES
from release.results import EVALUATIONS, ResultError, metrics_of, parse_result, short_hash
from tests.experiments.made_up import DICE, make_result
from tests.places import REPOSITORY

CELL = Cell("acdc", Pretraining("GD"), 1, "c2", 3, SCHEDULES["reduced"])
OTHER = Cell("acdc", Pretraining("GR"), 1, "c2", 3, SCHEDULES["reduced"])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "result.json"


def read(path: Path):
    return parse_result(path.read_bytes(), str(path))


def test_a_result(path):
    write_record(path, make_result(CELL))
    assert read(path) == make_result(CELL)
    assert metrics_of(read(path)) == {"mean_dice": 0.8, "RV_dice": 0.7, "Myo_dice": 0.8, "LV_dice": 0.9}


def test_committed_results_are_whole():
    paths = [path for path in (REPOSITORY / "experiments/results").glob("*/*/*.json") if path.name not in STUDIES]
    assert len(paths) > 40 and all(map(read, paths))


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
    assert read(path)


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
        read(path)


def test_every_digit_counts(path):
    write_record(path, make_result(CELL))
    text = path.read_text()
    for match in re.finditer(r"\d", text):
        path.write_text(text[: match.start()] + str(9 - int(match[0])) + text[match.end() :])
        with pytest.raises(ResultError, match="is damaged"):
            read(path)


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
    ({"cell": {}}, f"key must be that of its cell, {short_hash({})}, got {CELL.key}"),
    ({"cell": None}, "cell must be a JSON object, got None"),
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
    (evaluation(mean_iou={"mean": 0.5, "road": 2}), "IoU of road in mean_iou of .* from 0 to 1, got 2"),
    (evaluation(mean_iou={}), "mean_iou of .* must have mean, mean is missing"),
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
        read(path)


@pytest.mark.parametrize("name", ["key", "cell", "commit", "configs_sha256", "device", "versions", "evaluations"])
def test_missing_values(path, name):
    write_record(path, {key: value for key, value in make_result(CELL).items() if key != name})
    with pytest.raises(ResultError, match=f"a result must have .*, {name} is missing; move it away"):
        read(path)
