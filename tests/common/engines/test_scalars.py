"""Curves: what is written, how often, and by which process."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from common.engines import TrainingScalars, ValidationScalars


def scalars(folder):
    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_loss_of_every_so_many_steps(tmp_path):
    trainer = Engine(lambda engine, batch: {"loss": torch.tensor(float(batch))})
    TrainingScalars(str(tmp_path), every=2).attach(trainer)
    trainer.run([5.0, 6.0, 7.0, 8.0])
    assert scalars(tmp_path) == {"train_loss": [(2, 6.0), (4, 8.0)]}


def test_metrics_of_every_validation(tmp_path):
    def validate(engine, _):
        engine.state.metrics["mean_dice"] = 0.5

    evaluator = Engine(validate)
    ValidationScalars(str(tmp_path)).attach(evaluator)
    evaluator.run([0])
    assert scalars(tmp_path) == {"mean_dice": [(1, 0.5)]}


@pytest.mark.parametrize("kind", [TrainingScalars, ValidationScalars])
def test_further_processes_write_nothing(tmp_path, monkeypatch, kind):
    monkeypatch.setattr("common.engines.scalars.idist.get_rank", lambda: 1)
    trainer = Engine(lambda engine, batch: {"loss": torch.tensor(1.0)})
    kind(str(tmp_path / "log")).attach(trainer)
    trainer.run([0] * 20)
    assert not (tmp_path / "log").exists()
