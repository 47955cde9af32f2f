"""Handlers that show a run while it goes on, and stop it when it has gone wrong."""

from __future__ import annotations

import math
import sys
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from torch.nn.utils import get_total_norm
from tqdm import tqdm

from .self_training import SelfTraining


class Progress:
    """A progress bar over all steps of a run, with the loss, the evaluator's key metric and the time left.

    Of several processes only the first shows it.

    Ignite's `ProgressBar` does not serve: its bar counts the steps of one epoch, starts a resumed run at 1, stays open
    when the run fails, and is shown by every process.

    Args:
        name: what the bar is called.
        evaluator: its key metric is shown once there is one.
        self_training: its round is shown, if it has any.
        every: steps between two updates of the loss (reading it waits for the device).
    """

    def __init__(
        self, name: str, evaluator: Engine | None = None, self_training: SelfTraining | None = None, every: int = 10
    ) -> None:
        self.name = name
        self.evaluator = evaluator
        self.self_training = self_training
        self.every = every
        self._bar: Any = None

    def attach(self, engine: Engine) -> None:
        """Show the bar from the start of the run to its end."""
        engine.add_event_handler(Events.STARTED, self._open)
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.every), self._update)
        engine.add_event_handler(Events.COMPLETED, self._close)
        engine.add_event_handler(Events.TERMINATE, self._close)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._abort)

    def _open(self, engine: Engine) -> None:
        self._bar = tqdm(
            desc=self.name,
            total=engine.state.max_epochs * engine.state.epoch_length,
            initial=engine.state.iteration,
            unit="step",
            disable=idist.get_rank() > 0,
            mininterval=0.5 if sys.stderr.isatty() else 20.0,  # a log file needs no line every half second
        )

    def _update(self, engine: Engine) -> None:
        values = {"loss": f"{engine.state.output['loss'].item():.4f}"}
        if self.evaluator is not None and self.evaluator.state.metrics:
            name = self.evaluator.state.key_metric_name
            values[name] = f"{self.evaluator.state.metrics[name]:.3f}"
        if self.self_training is not None and self.self_training.rounds:
            values["round"] = f"{self.self_training.round}/{self.self_training.rounds}"
        self._bar.set_postfix(values, refresh=False)
        self._bar.update(engine.state.iteration - self._bar.n)

    def _abort(self, _: Engine, error: Exception) -> None:
        if self._bar is not None:
            self._bar.close()  # else it is drawn once more below the error's message
        raise error  # Ignite takes an error that has a handler for handled

    def _close(self, engine: Engine) -> None:
        self._bar.update(engine.state.iteration - self._bar.n)
        self._bar.close()


class StopOnNaN:
    """Raise when the loss is no longer finite, before anything is saved.

    Ignite's `TerminateOnNan` does not serve: it ends the run as if it were complete, so that the handlers which save at
    the end would write weights that are not finite. It also reads the loss at every step, which waits for the device.

    Args:
        every: steps between two looks at the loss, besides the one at the end of each epoch.
    """

    def __init__(self, every: int = 10) -> None:
        self.every = every

    def attach(self, engine: Engine) -> None:
        """Look at the loss every so many steps and at the end of each epoch."""
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.every), self.check)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.check)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.check_parameters)

    def check(self, engine: Engine) -> None:
        """Raise a FloatingPointError if the loss of the last step is not finite."""
        loss = engine.state.output["loss"].item()
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"The loss is {loss} at step {engine.state.iteration}: nothing was saved since the last finite one. "
                "Try a lower learning rate or precision 'float32'."
            )

    def check_parameters(self, engine: Any) -> None:
        """Raise a FloatingPointError if the last update has left a parameter that is not finite."""
        norm = get_total_norm(list(engine.network.parameters())).item()
        if not math.isfinite(norm):
            raise FloatingPointError(
                f"The parameters are no longer finite at step {engine.state.iteration}: nothing was saved since the "
                "last epoch. Try a lower learning rate or precision 'float32'."
            )
