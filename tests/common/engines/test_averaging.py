from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from common.engines import WeightAveraging


def train(network, averaging, steps):
    """Add 1 to every weight in each step."""

    def step(*_):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += 1

    trainer = Engine(step)
    averaging.attach(trainer)
    trainer.run([0] * steps)


def test_the_average_follows_the_weights():
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    averaging = WeightAveraging(network, 0.4)
    train(network, averaging, 12)
    expected = 0.0
    for step in range(1, 13):
        kept = min(0.4, (1 + step) / (10 + step))  # the first five steps keep less
        expected = kept * expected + (1 - kept) * step
    assert averaging.ema_model.weight.item() == pytest.approx(expected)
    assert network.weight.item() == 12


def test_a_short_run_forgets_what_it_started_from():
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 100.0)
    averaging = WeightAveraging(network, 0.99)
    nn.init.zeros_(network.weight)
    train(network, averaging, 20)
    assert averaging.ema_model.weight.item() < 20


def test_the_state_is_taken_back():
    networks = [nn.Linear(1, 1, bias=False) for _ in range(2)]
    first, second = (WeightAveraging(network, 0.5) for network in networks)
    train(networks[0], first, 2)
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.ema_model.weight, first.ema_model.weight)
    assert not torch.equal(second.ema_model.weight, networks[1].weight)


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.1, 1.5])
def test_decay_is_checked(decay):
    with pytest.raises(ValueError, match=f"decay must be above 0 and below 1, got {decay}"):
        WeightAveraging(nn.Linear(1, 1), decay)
