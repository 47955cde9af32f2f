"""The learning rate over a run."""

from __future__ import annotations

import math

import torch
from ignite.engine import Engine, Events

DECAYS = ("none", "cosine")


class LearningRateDecay:
    """Handler of the trainer: the rate of each step follows from how much of the run is done.

    "cosine" goes from the optimizer's own rate to 0 over half a cosine (Loshchilov, Hutter, "SGDR: Stochastic Gradient
    Descent with Warm Restarts", ICLR 2017, equation 5, without restarts).

    The schedulers of torch and Ignite count steps themselves and want their number when they are made. MONAI Label
    gives it to the trainer alone; and with the trainer's own count there is no state to save.

    Args:
        optimizer: its rates when the run starts are those that decay.
        decay: "none" or "cosine".

    Raises:
        ValueError: if the decay is unknown.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, decay: str) -> None:
        if decay not in DECAYS:
            raise ValueError(f"learning_rate_decay must be one of {', '.join(DECAYS)}, got {decay!r}.")
        self.optimizer = optimizer
        self.decay = decay
        self._rates = [group["lr"] for group in optimizer.param_groups]

    def attach(self, engine: Engine) -> None:
        """Set the rate before each step."""
        if self.decay != "none":
            engine.add_event_handler(Events.ITERATION_STARTED, self._set)

    def _set(self, engine: Engine) -> None:
        done = (engine.state.iteration - 1) / (engine.state.max_epochs * engine.state.epoch_length)
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * (1 + math.cos(math.pi * done)) / 2
