"""The moving average of a network's weights, which is evaluated and saved instead of the weights themselves."""

from __future__ import annotations

from collections.abc import Mapping

from ignite.engine import Engine
from ignite.handlers import EMAHandler
from torch import Tensor, nn


class WeightAveraging(EMAHandler):
    """Handler of a trainer: Ignite's moving average of the weights, with a state to resume from.

    Polyak, Juditsky, "Acceleration of Stochastic Approximation by Averaging", SIAM Journal on Control and Optimization
    30(4), 1992; as a moving average Tarvainen, Valpola, "Mean teachers are better role models", NeurIPS 2017.

    At step t no more than (1 + t) / (10 + t) of the average is kept, so that the average of a short run is not mostly
    what it started from. Ignite's own warm-up counts anew when a run goes on.

    Args:
        network: what is trained.
        decay: share of the average that each step keeps, between 0 and 1; 0.99 averages over about 100 steps.

    Attributes:
        ema_model: the network with the averaged weights; its batch-norm statistics are those of `network`.

    Raises:
        ValueError: if `decay` is not between 0 and 1.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"decay must be above 0 and below 1, got {decay!r}; weight_averaging 0 is no averaging.")
        super().__init__(network, momentum=1 - decay)

    def _update_ema_model(self, engine: Engine, name: str) -> None:
        step = engine.state.iteration
        setattr(engine.state, name, max(self.momentum, 9 / (10 + step)))
        super()._update_ema_model(engine, name)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averaged weights."""
        return self.ema_model.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Take averaged weights back."""
        self.ema_model.load_state_dict(state_dict)
