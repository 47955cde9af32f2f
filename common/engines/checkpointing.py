"""Handlers that keep what training has reached: weights for the next stage, and the state to resume from."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import ignite.distributed as idist
from ignite.engine import Engine, Events
from torch import Tensor

from ..checkpoints import CheckpointError, read_checkpoint, save_atomically, select_parts
from ..lineage import Lineage
from ..settings import plain_settings
from .batch_norm import BatchNormStatistics

logger = logging.getLogger(__name__)


class Stateful(Protocol):
    """Anything that can hand out and take back its state."""

    def state_dict(self) -> Any:
        """Return the state as tensors and plain containers."""

    def load_state_dict(self, state_dict: Any) -> Any:
        """Take a state back."""


class SaveWeights:
    """Write a network's weights as a bare state dict when an engine has completed its run.

    On a trainer that gives the weights of the last step; on an evaluator those of the last validation. Of several
    processes only the first writes.

    Args:
        network: anything with a `state_dict` of tensors.
        path: the file.
        parts: prefixes to keep, such as ["encoder."]; None keeps everything.
        batch_norm: recomputes the batch-norm statistics for the saved weights; None takes them as they are.
        lineage: what the weights are made from, to be kept in the file.
    """

    def __init__(
        self,
        network: Any,
        path: str,
        parts: Sequence[str] | None = None,
        batch_norm: BatchNormStatistics | None = None,
        lineage: Lineage | None = None,
    ) -> None:
        self.network = network
        self.path = Path(path)
        self.parts = parts
        self.batch_norm = batch_norm
        self.lineage = lineage

    def attach(self, engine: Engine) -> None:
        """Save at the end of the engine's run."""
        engine.add_event_handler(Events.COMPLETED, self.save)

    def save(self) -> None:
        """Write the file, with tensors on the CPU so that any machine can load it."""
        if idist.get_rank() > 0:
            return
        if self.batch_norm is not None:
            self.batch_norm.exchange()
        weights: Mapping[str, Tensor] = self.network.state_dict()
        if self.parts is not None:
            weights = select_parts(weights, self.parts)
        records = None if self.lineage is None else self.lineage.records()
        save_atomically({name: value.cpu() for name, value in weights.items()}, self.path, records)
        if self.batch_norm is not None:
            self.batch_norm.restore()


class SaveBest:
    """Write weights whenever an evaluator's key metric has improved by more than 1e-7.

    NaN, the Dice where no structure is labelled or predicted in any volume, counts as 0. Until a validation is above 0
    none is better than another, and the last weights are kept.

    Args:
        savers: what is written then.
    """

    def __init__(self, savers: Sequence[SaveWeights]) -> None:
        self.savers = savers
        self.best = -float("inf")

    def attach(self, engine: Engine) -> None:
        """Compare and save when the evaluator has computed its metrics."""
        engine.add_event_handler(Events.COMPLETED, self.compare)

    def compare(self, engine: Engine) -> None:
        """Save if the key metric is the best so far."""
        name = engine.state.key_metric_name
        value = float(engine.state.metrics[name])
        if math.isnan(value):
            logger.warning(
                f"{name} is NaN, since no validation volume has a structure labelled or predicted: taken as 0."
            )
            value = 0.0
        none_found = max(value, self.best) <= 0
        if value > self.best + 1e-7 or none_found:
            self.best = value
            for saver in self.savers:
                saver.save()
            reason = (
                f"No {name} above 0 so far, the last weights are kept" if none_found else f"New best {name} {value:.4f}"
            )
            logger.info(f"{reason}: wrote {', '.join(str(saver.path) for saver in self.savers)}.")

    def state_dict(self) -> dict[str, float]:
        """Return the best value."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: Mapping[str, float]) -> None:
        """Take the best value back."""
        self.best = state_dict["best"]


class Resume:
    """Save the state of a run at the end of epochs, and continue from it when the same run is started again.

    Put it last among the trainer's handlers, so that what it saves includes the epoch's validation. Of several
    processes only the first saves, and all continue.

    Args:
        path: the file that holds the state.
        objects: what makes up the state besides the step: network, optimizer and so on; None for what a run lacks.
        settings: plain values that must be the same for a run to be continued, such as strategy and seed.
        outputs: files that a finished run has left; without them there is nothing to continue.
        interval_seconds: least time between two savings.

    Raises:
        CheckpointError: (on attaching) if the file belongs to a run with other settings or cannot be read, or the run
            is finished and an output is gone.
    """

    def __init__(
        self,
        path: str,
        objects: Mapping[str, Stateful | None],
        settings: Mapping[str, Any],
        outputs: Sequence[str] = (),
        interval_seconds: float = 60.0,
    ) -> None:
        self.path = Path(path)
        self.outputs = outputs
        self.objects = {name: holder for name, holder in objects.items() if holder is not None}
        self.settings = plain_settings(settings)
        self.interval_seconds = interval_seconds
        self._saved_at = time.monotonic()

    def attach(self, engine: Any) -> None:
        """Load the state, if there is one, and save from now on."""
        if self.path.is_file():
            self._load(engine)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._save_if_due)
        engine.add_event_handler(Events.COMPLETED, self._save)

    def _load(self, engine: Any) -> None:
        state = read_checkpoint(self.path)
        changed = {
            name: (state["settings"].get(name), self.settings.get(name))
            for name in {*state["settings"], *self.settings}
            if state["settings"].get(name) != self.settings.get(name)
        }
        if changed:
            details = "; ".join(f"{name} was {old!r}, is {new!r}" for name, (old, new) in sorted(changed.items()))
            raise CheckpointError(
                f"{self.path}: belongs to a run with other settings ({details}). "
                "Choose another output_dir, or delete the file to start again."
            )
        gone = [path for path in self.outputs if not Path(path).is_file()]
        if gone and state["iteration"] >= engine.state.max_epochs * engine.state.epoch_length:
            raise CheckpointError(
                f"{gone[0]}: is gone, though the run of {self.path} is finished. "
                "Put the file back, or delete the latter to train again."
            )
        for name, holder in self.objects.items():
            holder.load_state_dict(state["objects"][name])
        engine.state.iteration = state["iteration"]
        engine.state.epoch = state["iteration"] // engine.state.epoch_length
        engine.data_loader.first_step = state["iteration"]
        logger.info(f"{self.path}: continuing after step {state['iteration']}.")

    def _save_if_due(self, engine: Engine) -> None:
        if time.monotonic() - self._saved_at >= self.interval_seconds:
            self._save(engine)

    def _save(self, engine: Engine) -> None:
        if idist.get_rank() > 0:
            return
        objects = {name: holder.state_dict() for name, holder in self.objects.items()}
        save_atomically({"iteration": engine.state.iteration, "settings": self.settings, "objects": objects}, self.path)
        self._saved_at = time.monotonic()
