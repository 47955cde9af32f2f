"""Small engines to attach handlers to."""

from __future__ import annotations

import torch
from ignite.engine import Engine


def make_engine(losses=(0.5,), batch=None):
    """An engine whose step k, counted from 1, has the k-th loss (the last one from then on)."""

    def step(engine, _):
        engine.state.batch = batch
        return {"loss": torch.tensor(losses[min(engine.state.iteration, len(losses)) - 1])}

    engine = Engine(step)
    engine.network = torch.nn.Linear(2, 1)
    return engine
