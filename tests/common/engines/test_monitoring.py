"""Handlers that show a run and stop it; `test_training` has them on a real trainer."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Events
from ignite.handlers import ProgressBar, TerminateOnNan

from common.engines import Progress, StopOnNaN, monitoring

from .engines import make_engine

# ---- StopOnNaN


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -float("inf")], ids=str)
@pytest.mark.parametrize(
    ("every", "first_bad", "found"),
    [(1, 3, 3), (2, 3, 4), (10, 3, 5), (10, 6, 10)],
    ids=["at once", "2", "epoch", "10"],
)
def test_a_loss_that_is_not_finite_stops_the_run(loss, every, first_bad, found):
    engine = make_engine([0.5] * (first_bad - 1) + [loss])
    saved = []
    StopOnNaN(every).attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: saved.append(engine.state.iteration))
    with pytest.raises(FloatingPointError, match=f"The loss is {loss} at step {found}: nothing was saved"):
        engine.run(range(5), max_epochs=4)
    assert saved == [step for step in (5, 10, 15) if step < first_bad]


def test_finite_losses_pass():
    engine = make_engine([1e38, -1e38, 0.0])
    StopOnNaN(1).attach(engine)
    assert engine.run(range(3), max_epochs=2).iteration == 6


def test_parameters_that_are_not_finite_stop_the_run_at_the_end_of_the_epoch():
    engine = make_engine()
    StopOnNaN().attach(engine)

    @engine.on(Events.ITERATION_COMPLETED(once=5))
    def diverge(engine):
        torch.nn.init.constant_(engine.network.weight, float("nan"))

    with pytest.raises(FloatingPointError, match="parameters are no longer finite at step 6"):
        engine.run(range(3), max_epochs=4)


def test_why_it_is_not_the_handler_of_ignite():
    """Ignite's completes a run whose loss is not finite, as if all were well."""
    completed = []
    for handler in (StopOnNaN(1), TerminateOnNan(output_transform=lambda output: output["loss"])):
        engine = make_engine([0.5, float("nan")])
        if isinstance(handler, StopOnNaN):
            handler.attach(engine)
        else:
            engine.add_event_handler(Events.ITERATION_COMPLETED, handler)
        engine.add_event_handler(Events.COMPLETED, lambda _, name: completed.append(name), type(handler).__name__)
        with pytest.raises(FloatingPointError) if isinstance(handler, StopOnNaN) else nullcontext():
            engine.run(range(5), max_epochs=2)
    assert completed == ["TerminateOnNan"]


# ---- Progress


@pytest.fixture
def bars(monkeypatch):
    """What happened to the progress bars."""
    made = []

    class Bar:
        def __init__(self, **options):
            self.options, self.n, self.shown, self.closed = options, options["initial"], [], False
            made.append(self)

        def set_postfix(self, values, refresh=True):
            self.shown.append(values)

        def update(self, steps):
            self.n += steps

        def set_description(self, text):
            pass  # asked for by Ignite's

        def close(self):
            self.closed = True

    monkeypatch.setattr("common.engines.monitoring.tqdm", Bar)
    return made


def test_progress_counts_every_step(bars):
    engine = make_engine([0.25])
    Progress("global", every=2).attach(engine)
    engine.run(range(5), max_epochs=3)
    (bar,) = bars
    assert (bar.options["total"], bar.options["initial"], bar.options["desc"]) == (15, 0, "global")
    assert bar.n == 15 and bar.closed
    assert bar.shown == [{"loss": "0.2500"}] * 7


def test_progress_goes_on_where_the_run_does(bars):
    engine = make_engine()
    Progress("local", every=1).attach(engine)
    engine.load_state_dict({"iteration": 10, "max_epochs": 3, "epoch_length": 5})
    engine.run(range(5), max_epochs=3)
    assert bars[0].options["initial"] == 10 and len(bars[0].shown) == 5 and bars[0].n == 15


def test_progress_shows_the_round_of_self_training(bars):
    engine, rounds = make_engine(), SimpleNamespace(round=1, rounds=3)
    Progress("fine-tuning", self_training=rounds, every=1).attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED(once=1), lambda: setattr(rounds, "round", 2))
    engine.run(range(1), max_epochs=2)
    assert [values["round"] for values in bars[0].shown] == ["1/3", "2/3"]


def test_progress_shows_no_round_where_there_are_none(bars):
    engine = make_engine()
    Progress("fine-tuning", self_training=SimpleNamespace(round=0, rounds=0), every=1).attach(engine)
    engine.run(range(1), max_epochs=1)
    assert "round" not in bars[0].shown[0]


def test_progress_shows_the_key_metric_once_there_is_one(bars):
    evaluator = SimpleNamespace(state=SimpleNamespace(metrics={}, key_metric_name="mean_dice"))
    engine = make_engine()
    Progress("train", evaluator, every=1).attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.state.metrics.update(mean_dice=0.5, other=1.0))
    engine.run(range(1), max_epochs=2)
    assert bars[0].shown == [{"loss": "0.5000"}, {"loss": "0.5000", "mean_dice": "0.500"}]


def test_progress_closes_when_the_run_is_ended_early(bars):
    engine = make_engine()
    Progress("train").attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), engine.terminate)
    engine.run(range(5), max_epochs=3)
    assert bars[0].closed and bars[0].n == 2


@pytest.mark.parametrize("kind", [Progress, ProgressBar])
def test_why_it_is_not_the_bar_of_ignite(kind, bars, monkeypatch):
    """Ignite's counts one epoch, begins a resumed run at 1 and is left open by a run that fails."""
    engine = make_engine()
    if kind is Progress:
        Progress("train").attach(engine)
    else:
        monkeypatch.setattr("tqdm.autonotebook.tqdm", monitoring.tqdm)
        ProgressBar(desc="train").attach(engine, closing_event_name=Events.COMPLETED)

    @engine.on(Events.ITERATION_COMPLETED(once=12))
    def fail():
        raise OSError

    engine.load_state_dict({"iteration": 10, "max_epochs": 3, "epoch_length": 5})
    with pytest.raises(OSError):
        engine.run(range(5), max_epochs=3)
    (bar,) = bars
    seen = (bar.options["total"], bar.options["initial"], bar.closed)
    assert seen == ((15, 10, True) if kind is Progress else (5, 1, False))
