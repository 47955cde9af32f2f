"""The benchmark of a whole training on phantoms: the structure of its result, and what its clock counts."""

from __future__ import annotations

import time
from concurrent.futures import Future
from functools import partial

import pytest
from monai.engines import SupervisedEvaluator

from benchmarks import time_to_model
from benchmarks.time_to_model import LEVELS, measure, noted_validations
from bundles.development import development
from bundles.run import load_config
from phantom import write_acdc_phantom
from tests.phantoms import NETWORK, PREPROCESSING
from tests.processes import undisturbed

SMALL = {**PREPROCESSING, **NETWORK, "spacing_mm": 2.4, "steps": 4}
SMALL |= {f"{part}#num_workers": 0 for part in ("train#dataset", "validate#dataset", "unlabelled")}


class Here:
    """Takes the place of a pool of processes: to start them takes longer than what they do."""

    def __init__(self, *_, **__):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, function, *arguments):
        outcome = Future()
        outcome.set_result(function(*arguments))
        return outcome


@pytest.fixture(scope="module")
def outcome():
    with pytest.MonkeyPatch.context() as patch, undisturbed():
        patch.setattr(time_to_model, "ProcessPoolExecutor", Here)
        patch.setattr(time_to_model, "write_acdc_phantom", partial(write_acdc_phantom, size=(64, 72)))
        return measure(settings=SMALL)


def test_both_recipes_see_as_many_images(outcome):
    recommended, paper = outcome["rows"]
    assert (recommended["recipe"], paper["recipe"]) == ("recommended", "paper")
    assert recommended["images"] == paper["images"] == 80
    assert recommended["volumes"] == paper["volumes"] == 2


def test_what_was_not_reached_has_no_minutes(outcome):
    for row in outcome["rows"]:
        assert 0 <= row["Dice"] <= 1 and row["minutes"] > 0
        for level in LEVELS:
            reached = row[f"minutes to {level:.2f}"]
            assert reached is None or 0 < reached <= row["minutes"]
    minutes, memory, early = outcome["targets"]
    assert minutes["measured"] == outcome["rows"][0]["minutes"] and minutes["at_most"] == 25
    assert memory["measured"] == outcome["rows"][0]["peak GiB"] and memory["at_most"] == 4
    # All of it takes seconds here: the best of all validations.
    assert early["measured"] >= outcome["rows"][0]["Dice"] and early["at_least"] == 0.8


@pytest.mark.parametrize(("minutes", "expected"), [(0.5, 0.0), (1.0, 0.6), (3.0, 0.8), (9.0, 0.9)])
def test_the_best_network_of_some_minutes(minutes, expected):
    assert time_to_model.best_within([(1.0, 0.6), (2.0, 0.8), (3.0, 0.7), (4.0, 0.9)], minutes) == expected


def test_the_clock_stops_while_the_network_is_validated(monkeypatch):
    class State:
        metrics, key_metric_name = {"dice": 0.5}, "dice"

    def slow(evaluator):
        time.sleep(0.3)
        evaluator.state = State

    monkeypatch.setattr(SupervisedEvaluator, "run", slow)
    evaluator = SupervisedEvaluator.__new__(SupervisedEvaluator)
    with noted_validations() as notes:
        for _ in range(3):
            time.sleep(0.05)
            evaluator.run()
    minutes, dice = zip(*notes, strict=True)
    assert dice == (0.5, 0.5, 0.5)
    assert [60 * at for at in minutes] == pytest.approx([0.05, 0.1, 0.15], abs=0.04)


def test_the_recipe_is_judged_on_patients_that_are_in_no_list(acdc_dir):
    items = development(load_config(time_to_model.BUNDLE, "train", dataset_dir=str(acdc_dir)))
    assert len(items) == 23
    assert {"patient002", "patient007", "patient011", "patient095"}.isdisjoint(item["id"] for item in items)
