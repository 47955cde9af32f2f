"""The losses of the last steps, kept on the device until they are read together."""

from __future__ import annotations

import torch
from ignite.engine import Engine
from torch import Tensor


class LossBuffer:
    """Keeps the loss of every step, and gives all of them at every tenth step and at the end of each epoch.

    To read a number waits for the device, so it is not done at every step.

    Args:
        every: steps between two readings within an epoch.
    """

    def __init__(self, every: int = 10) -> None:
        self.every = every
        self._losses: dict[int, Tensor] = {}

    def add(self, engine: Engine) -> dict[int, float]:
        """Keep the loss of a trainer's step; return losses by step if they are due, else nothing."""
        step = engine.state.iteration
        self._losses[step] = engine.state.output["loss"].detach()
        if step % self.every and step % engine.state.epoch_length:
            return {}
        values = torch.stack(list(self._losses.values())).tolist()
        losses = dict(zip(self._losses, values, strict=True))
        self._losses.clear()
        return losses
