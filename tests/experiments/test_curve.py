"""The label-efficiency curve: which volumes are trained on, what is measured, and what a user can get wrong."""

from __future__ import annotations

import csv
import json

import pytest

import experiments.curve as module
from common.records import RecordError
from experiments.curve import CurveError, Point, curve, gains
from tests.phantoms import PREPROCESSING

TEST = ("patient006", "patient007")
CANDIDATES = {f"patient00{number}" for number in range(1, 5)}  # 5 is for validation


@pytest.fixture
def runs(monkeypatch):
    """Stands in for training and evaluation; Dice rises with the number of volumes. The list of what was run."""
    done = []

    def run(bundle, name, **settings):
        done.append((name, settings))
        folder = settings["output_dir"]
        folder.mkdir(parents=True, exist_ok=True)
        if name == "train":
            (folder / "model.pt").write_text(",".join(settings["labelled"]))
        else:
            number = len((settings["ckpt_dir"] / "model.pt").read_text().split(","))
            volumes = [{"id": id_, "LV": 0.1 * number, "mean": 0.1 * number} for id_ in TEST]
            summary = {"mean_dice": {"LV": 0.1 * number, "mean": 0.1 * number}, "volumes": volumes}
            (folder / "evaluation.json").write_text(json.dumps(summary))

    monkeypatch.setattr(module, "run_config", run)
    return done


def options(phantom, folder, **changes):
    return {
        "dataset_dir": str(phantom.dataset_dir),
        "output_dir": str(folder),
        "split_path": str(phantom.split_path),
        **changes,
    }


def test_the_volumes_of_a_number_are_among_those_of_a_larger_one(phantom, runs, tmp_path, capsys):
    curve(**options(phantom, tmp_path, numbers=(1, 2, 4), orders=2, steps=7))
    trainings = [settings for name, settings in runs if name == "train"]
    assert [len(settings["labelled"]) for settings in trainings] == [1, 2, 4, 1, 2, 4]
    for one, two, four in (trainings[:3], trainings[3:]):
        assert one["labelled"] == two["labelled"][:1] and two["labelled"] == four["labelled"][:2]
        assert set(four["labelled"]) == CANDIDATES
    assert trainings[1]["labelled"] != trainings[4]["labelled"]  # another order
    assert [settings["seed"] for settings in trainings] == [1, 1, 1, 2, 2, 2]
    assert all(settings["steps"] == 7 for settings in trainings)
    assert not any("steps" in settings for name, settings in runs if name == "evaluate")
    with open(tmp_path / "curve.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12 and {row["id"] for row in rows} == set(TEST)
    content = json.loads((tmp_path / "curve.json").read_text())
    assert [point["mean"] for point in content["points"]] == pytest.approx([0.1, 0.2, 0.4] * 2)
    assert content["gains"] == {"1 to 2": pytest.approx([0.1, 0.1]), "2 to 4": pytest.approx([0.2, 0.2])}
    said = capsys.readouterr().out
    assert "   2 labelled: Dice .200 ± .000 (2 orders)" in said and "2 to 4 labelled: +0.200 ± .000" in said
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_measured_is_not_evaluated_again(phantom, runs, tmp_path):
    given = options(phantom, tmp_path, numbers=1, orders=1)
    curve(**given)
    curve(**given)
    assert [name for name, _ in runs] == ["train", "evaluate", "train"]  # training itself finds that it is finished
    result = tmp_path / "order1_1" / "result.json"
    result.write_text(result.read_text().replace("0.1", "0.9"))
    with pytest.raises(RecordError, match=r"result\.json is damaged.*delete it to evaluate the weights again"):
        curve(**given)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"numbers": (2, 1)}, r"numbers must be whole numbers from 1 that rise.*got \(2, 1\)"),
        ({"numbers": (0, 1)}, "numbers must be"),
        ({"numbers": ()}, "numbers must be"),
        ({"numbers": "1;2"}, "numbers must be"),
        ({"numbers": (1, 1)}, "numbers must be"),
        ({"orders": 0}, "orders must be a whole number from 1, got 0"),
        ({"numbers": (1, 5)}, "at most 4, the labelled volumes.*got 5: ask for fewer, or label more"),
        ({"stepz": 5}, r"stepz: neither train\.json nor evaluate\.json"),
    ],
)
def test_what_cannot_be_measured(phantom, runs, tmp_path, changes, message):
    with pytest.raises(CurveError, match=message):
        curve(**options(phantom, tmp_path / "out", **changes))
    assert not runs and not (tmp_path / "out").exists()


def test_gains_are_paired():
    points = [Point(1, ("a",), (), 0.5), Point(1, ("a", "b"), (), 0.6), Point(2, ("c",), (), 0.2)]
    points += [Point(2, ("c", "d"), (), None), Point(3, ("e",), (), 0.1), Point(3, ("e", "f"), (), 0.4)]
    assert gains(points, [1, 2]) == {"1 to 2": [pytest.approx(0.1), pytest.approx(0.3)]}
    assert gains(points, [1]) == {}


def test_a_curve_of_phantoms(phantom, tmp_path):
    small = {**PREPROCESSING, "device": "cpu", "cache_dir": str(phantom.cache_dir), "initialisation": "random"}
    small |= {"steps": 1, "steps_per_epoch": 1, "batch_size": 4, "self_training_rounds": 0, "pictures": False}
    curve(**options(phantom, tmp_path, numbers=(1, 2), orders=1, **small))
    content = json.loads((tmp_path / "curve.json").read_text())
    assert [point["number"] for point in content["points"]] == [1, 2]
    assert len((tmp_path / "curve.csv").read_text().splitlines()) == 5
