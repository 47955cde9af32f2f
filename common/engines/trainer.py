"""The Ignite trainer of all stages; they differ in batches, network and loss only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from monai.handlers import MLFlowHandler, ValidationHandler
from monai.inferers import Inferer
from torch import Tensor, nn

from .. import allocator, monai_label, runs
from ..data.loader import BatchLoader, PairLoader, PseudoLabelledLoader
from ..files import write_errors_explained
from ..lineage import Lineage
from .averaging import WeightAveraging
from .self_training import SelfTraining
from .tracking import of_training


def keep_batch(batch: tuple[Any, Any], *_: Any, **__: Any) -> tuple[Any, Any]:
    """Pass a batch on: its loader has made it on the device already."""
    return batch


def epoch_length(steps: int, at_most: int) -> int:
    """Choose Ignite's epochs so that they fill a run exactly: the largest divisor of its length up to a bound.

    Args:
        steps: length of the run.
        at_most: the longest epoch wanted; validations and checkpoints come at the end of epochs.

    Raises:
        ValueError: if `steps` is not positive, or its divisors up to the bound are all below a tenth of it.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps!r}.")
    length = max(divisor for divisor in range(1, min(steps, at_most) + 1) if steps % divisor == 0)
    if length < min(steps, at_most) / 10:
        raise ValueError(
            f"steps must have a divisor of {at_most // 10} to {at_most}, got {steps!r}: take a rounder number."
        )
    return length


def num_epochs(steps: int, steps_per_epoch: int) -> int:
    """Divide the length of a run into Ignite's epochs.

    Args:
        steps: length of the run.
        steps_per_epoch: length of an epoch.

    Raises:
        ValueError: if `steps` is not a positive multiple of `steps_per_epoch`.
    """
    if steps < 1 or steps_per_epoch < 1 or steps % steps_per_epoch:
        raise ValueError(
            f"steps must be a positive multiple of steps_per_epoch, got {steps!r} and {steps_per_epoch!r}."
        )
    return steps // steps_per_epoch


class StageTrainer(SupervisedTrainer):
    """MONAI's trainer for batches that are made on the device.

    A run that a `Resume` handler has found finished is left as it is instead of being started again. One that has no
    step left, but whose outputs are not all there, is validated and completed, which writes them.

    Args:
        device: where network and slices are.
        max_epochs: length of the run in epochs of `len(train_data_loader)` steps.
        train_data_loader: yields (inputs, targets).
        network: maps inputs to predictions.
        optimizer: updates the parameters that are to train.
        loss_function: maps predictions and targets to a scalar.
        inferer: runs the network.
        train_handlers: Ignite handlers. The one that `monai.bundle run --tracking mlflow` adds is made to fit, see
            `tracking.of_training`.
        averaging: follows the weights of `network`, or None.
        self_training: labels slices for the loader, or None.
        lineage: learns which weights the run starts from in MONAI Label, see `monai_label`; kept by MLflow.

    Attributes:
        finished: whether all steps are done and all outputs written, in this run or, as `Resume` finds out, before it.
    """

    finished = False

    def __init__(
        self,
        device: torch.device | str,
        max_epochs: int,
        train_data_loader: BatchLoader | PairLoader | PseudoLabelledLoader,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss_function: Callable[[Any, Any], Tensor],
        inferer: Inferer | None = None,
        train_handlers: Sequence[Any] | None = None,
        averaging: WeightAveraging | None = None,
        self_training: SelfTraining | None = None,
        lineage: Lineage | None = None,
    ) -> None:
        if max_epochs < 1:  # `_complete` would take it for a run that has no step left
            raise ValueError(f"max_epochs must be a whole number from 1, got {max_epochs!r}: train for one at least.")
        handlers = [
            of_training(handler, self_training, lineage) if isinstance(handler, MLFlowHandler) else handler
            for handler in train_handlers or ()
        ]
        if lineage is not None:
            monai_label.note_start(handlers, lineage)
        self._validations = [handler for handler in handlers if isinstance(handler, ValidationHandler)]
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            train_data_loader=train_data_loader,
            network=network,
            optimizer=optimizer,
            loss_function=loss_function,
            inferer=inferer,
            train_handlers=handlers,
            prepare_batch=keep_batch,
            decollate=False,
            optim_set_to_none=True,
        )
        if averaging is not None:
            averaging.attach(self)
        if self_training is not None:
            self_training.attach(self)

    def run(self) -> None:
        """Train until `max_epochs`, from wherever the state stands; then let go of the folders that were claimed.

        Raises:
            WriteError: if a folder cannot be written to.
        """
        if self.state.device.type == "cpu":
            allocator.keep_freed_memory()
        with ExitStack() as stack:
            stack.callback(runs.release)
            for folder in runs.claimed()[:1]:  # that of TensorBoard, whose errors do not say where they come from
                stack.enter_context(write_errors_explained(folder))
            if self.state.epoch < self.state.max_epochs:
                self.data_loader.first_step = self.state.iteration
                super().run()
                # A config whose whole content is evaluated calls this twice, see `monai_label`.
                self.finished = self.state.epoch >= self.state.max_epochs
            elif self.finished:
                self.logger.info(
                    f"Nothing to do: already finished, all {self.state.iteration} steps are done; "
                    "--resume False trains again."
                )
            else:
                self._complete()
                self.finished = True

    def _complete(self) -> None:
        """Do what follows the last step."""
        self.logger.info(f"All {self.state.iteration} steps are done, but not all is written: writing it (again).")
        self.fire_event(Events.STARTED)
        for validate in self._validations:
            validate(self)
        self.fire_event(Events.COMPLETED)
