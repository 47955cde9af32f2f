from __future__ import annotations

import math

import pytest
import torch
from ignite.engine import Engine, Events

from common.engines import LearningRateDecay


def rates(decay, epochs=2, length=3, first=0, rate=0.5):
    """The rate of each step of a run that goes on after `first` steps."""
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=rate)
    handler = LearningRateDecay(optimizer, decay)
    if first:  # as Resume leaves it: with the rate of the step before
        optimizer.param_groups[0]["lr"] = 0.123
    engine = Engine(lambda *_: None)
    found = []
    handler.attach(engine)
    engine.add_event_handler(Events.ITERATION_STARTED, lambda: found.append(optimizer.param_groups[0]["lr"]))

    @engine.on(Events.STARTED)
    def go_on():
        engine.state.iteration, engine.state.epoch = first, first // length

    engine.run([0] * length, max_epochs=epochs, epoch_length=length)
    return found


def test_the_rate_falls_over_half_a_cosine():
    expected = [0.5 * (1 + math.cos(math.pi * step / 6)) / 2 for step in range(6)]
    assert rates("cosine") == pytest.approx(expected)
    assert expected[0] == 0.5 and expected[3] == pytest.approx(0.25)


def test_a_run_goes_on_at_the_rate_that_it_would_have_had():
    assert rates("cosine", first=3) == rates("cosine")[3:]


def test_without_decay_the_rate_stays():
    assert rates("none") == [0.5] * 6


def test_the_name_is_checked():
    with pytest.raises(ValueError, match="learning_rate_decay must be one of none, cosine, got 'linear'"):
        rates("linear")
