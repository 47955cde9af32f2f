"""When a network is validated during its training."""

from __future__ import annotations

from ignite.engine import Engine, Events
from monai.engines import Evaluator
from monai.handlers import ValidationHandler


class Validation(ValidationHandler):
    """Handler of the trainer: validate after every few epochs, and after the last one in any case.

    MONAI's handler leaves the last epochs out unless the interval divides their number, which MONAI Label lets its
    users choose.

    Args:
        validator: what is run.
        interval: epochs between two validations.

    Raises:
        ValueError: if the interval is not a whole number from 1.
    """

    def __init__(self, validator: Evaluator, interval: int) -> None:
        if type(interval) is not int or interval < 1:
            raise ValueError(f"val_interval must be a whole number from 1, got {interval!r}: it is in epochs.")
        super().__init__(interval, validator)
        self._is_empty = validator.state.epoch_length == 0

    def attach(self, engine: Engine) -> None:
        """Validate at the end of epochs, if there is anything to validate on."""
        if self._is_empty:  # MONAI would warn of it each time
            return

        def is_due(trainer: Engine, epoch: int) -> bool:
            return epoch % self.interval == 0 or epoch == trainer.state.max_epochs

        engine.add_event_handler(Events.EPOCH_COMPLETED(event_filter=is_due), self)
