"""Handlers that keep what training has reached: weights for the next stage, and the state to resume from."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from torch import Tensor

from ..checkpoints import CheckpointError, content_hash, read_checkpoint, save_atomically, select_parts
from ..files import atomic_file
from ..lineage import Lineage
from ..settings import describe_changes, plain_settings
from .batch_norm import BatchNormStatistics
from .event_files import cut_back, event_file_sizes

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

    Ignite's `Checkpoint` does not serve: it deletes the file of the same name before it writes the new one, so that a
    run that is killed in between leaves nothing.

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

    The files that were written belong to the state. Whenever there is no improvement, they are put back if they are
    gone or others: a run that was stopped goes on from an earlier epoch than they may be of, and meanwhile another run
    may have written to the same folder.

    Args:
        savers: what is written then.
    """

    def __init__(self, savers: Sequence[SaveWeights]) -> None:
        self.savers = savers
        self.best = -float("inf")
        self._files: list[Tensor] = []  # the bytes of each saver's file

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
            if idist.get_rank() == 0:
                self._files = [_read_bytes(saver.path) for saver in self.savers]
            reason = (
                f"No {name} above 0 so far, the last weights are kept" if none_found else f"New best {name} {value:.4f}"
            )
            logger.info(f"{reason}: wrote {', '.join(str(saver.path) for saver in self.savers)}.")
        else:
            self._put_back()

    def _put_back(self) -> None:
        if idist.get_rank() > 0:
            return
        for saver, content in zip(self.savers, self._files, strict=False):  # none before the first improvement
            if not saver.path.is_file() or not torch.equal(_read_bytes(saver.path), content):
                with atomic_file(saver.path) as temporary:
                    temporary.write_bytes(content.numpy().data)
                logger.warning(f"{saver.path}: was gone or another file; wrote the best weights of this run again.")

    def state_dict(self) -> dict[str, Any]:
        """Return the best value and the files that were written then."""
        return {"best": self.best, "files": self._files}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take the best value and its files back."""
        self.best = state_dict["best"]
        self._files = list(state_dict.get("files", []))


def _read_bytes(path: Path) -> Tensor:
    return torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)


class Resume:
    """Save the state of a run at the end of epochs, and continue from it when the same run is started again.

    Put it last among the trainer's handlers, so that what it saves includes the epoch's validation and follows what is
    written at the end. Only a run whose outputs have been written is marked as finished, together with their SHA-256.
    Started again, it is left alone if they are still these files; otherwise `StageTrainer` writes them again, without
    training. Of several processes only the first saves, and all continue.

    Args:
        path: the file that holds the state. TensorBoard's files in its folder are cut back to what is continued from.
        objects: what makes up the state besides the step: network, optimizer and so on; None for what a run lacks.
        settings: plain values that must be the same for a run to be continued, such as strategy, seed and hashes of the
            data.
        outputs: files that the run leaves.
        interval_seconds: least time between two savings.
        resume: False starts afresh and saves no state: that of an earlier run is deleted, since its outputs are
            overwritten, and its curves are set aside.

    Raises:
        CheckpointError: (on attaching) if the file belongs to a run with other settings, has done more steps than are
            asked for, or cannot be read; (at the end) if an output is not there.
    """

    def __init__(
        self,
        path: str,
        objects: Mapping[str, Stateful | None],
        settings: Mapping[str, Any],
        outputs: Sequence[str] = (),
        interval_seconds: float = 60.0,
        resume: bool = True,
    ) -> None:
        self.path = Path(path)
        self.resume = resume
        self.outputs = [Path(output) for output in outputs]
        self.objects = {name: holder for name, holder in objects.items() if holder is not None}
        self.settings = plain_settings(settings)
        self.interval_seconds = interval_seconds
        self._saved_at = time.monotonic()

    def attach(self, engine: Any) -> None:
        """Load the state, if there is one, and save from now on."""
        if not self.resume:
            if idist.get_rank() == 0:
                if self.path.is_file():
                    self.path.unlink()
                    logger.info(f"{self.path}: deleted, since this run starts afresh.")
                engine.add_event_handler(Events.STARTED, lambda: cut_back(self.path.parent, {}))
            return
        state = read_checkpoint(self.path) if self.path.is_file() else {"event_files": {}}
        if "iteration" in state:
            self._load(engine, state)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._save_if_due)
        if idist.get_rank() == 0 and "event_files" in state:

            def cut() -> None:
                cut_back(self.path.parent, state["event_files"])

            engine.add_event_handler(Events.STARTED, cut)
            if engine.state.epoch == engine.state.max_epochs:  # a validation that is done again is no new point
                engine.add_event_handler(Events.COMPLETED, cut)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _load(self, engine: Any, state: Mapping[str, Any]) -> None:
        if changes := describe_changes(state["settings"], self.settings):
            raise CheckpointError(
                f"{self.path}: belongs to a run with other settings ({changes}). Choose another output_dir, or pass "
                "--resume False to start again."
            )
        done, total = state["iteration"], engine.state.max_epochs * engine.state.epoch_length
        if done > total:
            raise CheckpointError(
                f"{self.path}: the run has done {done} steps, more than the {total} that are asked for now. Ask for at "
                f"least {done}, choose another output_dir, or pass --resume False to train {total} steps afresh."
            )
        for name, holder in self.objects.items():
            holder.load_state_dict(state["objects"][name])
        engine.state.iteration = done
        engine.state.epoch = done // engine.state.epoch_length
        engine.finished = done == total and state.get("outputs_sha256") == self._hashes()
        if done < total:
            logger.info(f"{self.path}: continuing after step {done}.")

    def _hashes(self) -> list[str | None]:
        return [content_hash(output) for output in self.outputs]

    def _save_if_due(self, engine: Engine) -> None:
        if time.monotonic() - self._saved_at >= self.interval_seconds:
            self._save(engine)

    def _finish(self, engine: Engine) -> None:
        if idist.get_rank() > 0:
            return
        hashes = self._hashes()
        if None in hashes:
            raise CheckpointError(
                f"{self.outputs[hashes.index(None)]}: is not there at the end of the run, so {self.path} is not marked "
                "as finished: leave the folder alone while the run is going on, and run the same command again."
            )
        self._save(engine, outputs_sha256=hashes)

    def _save(self, engine: Engine, **mark: Any) -> None:
        if idist.get_rank() > 0:
            return
        state = {
            "iteration": engine.state.iteration,
            "settings": self.settings,
            "objects": {name: holder.state_dict() for name, holder in self.objects.items()},
            "event_files": event_file_sizes(self.path.parent),
            **mark,
        }
        save_atomically(state, self.path)
        self._saved_at = time.monotonic()
