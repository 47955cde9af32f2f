"""The benchmark of validations on phantoms: its parts sum up to what the clock says, and shares follow from seconds."""

from __future__ import annotations

import time
from functools import partial

import pytest
from monai.engines import SupervisedEvaluator

from benchmarks import validation
from benchmarks.validation import measure
from phantom import write_acdc_phantom
from tests.phantoms import NETWORK, NO_PROCESSES, PREPROCESSING
from tests.processes import undisturbed

EPOCHS, LENGTH = 2, 2
SMALL = {**PREPROCESSING, **NETWORK, **NO_PROCESSES, "spacing_mm": 2.4, "steps": LENGTH, "batch_size": 4}
WITH, WITHOUT = (f"evaluation of 3 volumes, {word} pictures" for word in ("with", "without"))


@pytest.fixture(scope="module")
def runs():
    """Seconds of each run of an evaluator, by another clock."""
    return []


@pytest.fixture(scope="module")
def outcome(runs):
    run = SupervisedEvaluator.run

    def timed(evaluator, *arguments):
        started = time.perf_counter()
        run(evaluator, *arguments)
        runs.append(time.perf_counter() - started)

    with pytest.MonkeyPatch.context() as patch, undisturbed():
        patch.setattr(SupervisedEvaluator, "run", timed)
        patch.setattr(validation, "write_acdc_phantom", partial(write_acdc_phantom, size=(64, 72)))
        return measure(epochs=EPOCHS, settings=SMALL, own_processes=False)


def rows_of(outcome, name):
    return {row["part"]: row for row in outcome["rows"] if row["of"] == name}


def test_a_validation_is_the_sum_of_its_parts(outcome, runs):
    total = rows_of(outcome, f"training, {8 * LENGTH} steps")["a validation"]["s"]
    parts = rows_of(outcome, "a validation")
    assert sum(row["s"] for row in parts.values()) == pytest.approx(total)
    assert total == pytest.approx(sum(runs[:EPOCHS]) / EPOCHS, rel=0.1)
    assert len(runs) == EPOCHS + 2  # two evaluations follow
    assert all(row["s"] > 0 for row in parts.values())


def test_the_share_is_that_of_the_default_interval(outcome):
    training = rows_of(outcome, f"training, {8 * LENGTH} steps")
    share = 100 * training["a validation"]["s"] / training["all steps"]["s"]
    target = outcome["targets"][0]
    assert target["measured"] == training["a validation"]["per cent"] == pytest.approx(share)
    assert target["at_most"] == 3
    assert f"a step takes {training['all steps']['s'] / (8 * LENGTH):.3f} s" in outcome["notes"][0]


def test_steps_are_timed_without_validations(monkeypatch, outcome):
    class Clock:
        """A second for each step, and a hundred for a validation after every second one."""

        now, calls = 0.0, 0

        def __call__(self):
            self.calls += 1
            self.now += 100.0 if self.calls % LENGTH == 1 and self.calls > 1 else 1.0
            return self.now

    class Trainer:
        def add_event_handler(self, _, handler):
            self.note = handler

        def run(self):
            for iteration in range(1, 1 + EPOCHS * LENGTH):
                self.state = type("State", (), {"iteration": iteration})
                self.note(self)

    trainer = Trainer()
    parsed = {"train#trainer": trainer, "validate#dataset": "ab", "steps_per_epoch": LENGTH, "val_interval": 3}

    class Config:
        def get_parsed_content(self, key):
            return trainer.run() if key == "training" else parsed[key]

    monkeypatch.setattr(validation, "load_config", lambda *_, **__: Config())
    monkeypatch.setattr(validation.time, "perf_counter", Clock())
    step, _, number, interval = validation.train({}, EPOCHS, "folder")
    assert (step, number, interval) == (1.0, 2, 3 * LENGTH)


@pytest.mark.parametrize(("name", "target"), [(WITH, 1), (WITHOUT, 2)])
def test_an_evaluation_beside_reading_and_network(outcome, name, target):
    whole, *parts = (row["s"] for row in rows_of(outcome, name).values())
    assert sum(parts) == pytest.approx(whole)
    least = sum(rows_of(outcome, name)[part]["s"] for part in ("reading", "network"))
    assert outcome["targets"][target]["measured"] == pytest.approx(whole / least)
    assert outcome["targets"][target]["rule"].startswith(name)
    assert rows_of(outcome, name)["all of it"]["per cent"] == 100
    assert (rows_of(outcome, name)["pictures"]["per cent"] > 5) == (name == WITH)
