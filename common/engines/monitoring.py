"""Handlers that show a run while it goes on, and stop it when it has gone wrong."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from ..strategies import Layout


class Progress:
    """A progress bar over all steps of a run, with the loss, the evaluator's key metric and the time left.

    Of several processes only the first shows it.

    Args:
        name: what the bar is called.
        evaluator: its key metric is shown once there is one.
        every: steps between two updates of the loss (reading it waits for the device).
    """

    def __init__(self, name: str, evaluator: Engine | None = None, every: int = 10) -> None:
        self.name = name
        self.evaluator = evaluator
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


class BatchPictures:
    """Write pictures of a batch to TensorBoard: of its images and labels, or of the views of its slices side by side.

    Of a pair of batches (see `PairLoader`) both are shown; the names of their pictures end in _1 and _2. Of several
    processes only the first writes, and what it shows is its share of the batch.

    Args:
        log_dir: TensorBoard's folder.
        every_epochs: epochs between two pictures; the first batch of the run is always shown.
        num_images: how many images of the batch are tiled.
        layouts: of the batch, or of both of a pair, where the images are views of slices.
    """

    def __init__(
        self, log_dir: str, every_epochs: int = 10, num_images: int = 16, layouts: Sequence[Layout] = ()
    ) -> None:
        self.log_dir = log_dir
        self.every_epochs = every_epochs
        self.num_images = num_images
        self.layouts = layouts
        self._writer: SummaryWriter | None = None

    def attach(self, engine: Engine) -> None:
        """Write on the first step and then at the end of epochs."""
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), self.write)
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.every_epochs), self.write)

    def write(self, engine: Engine) -> None:
        """Tile the batch's first images (and labels as grey levels) into one picture each."""
        if idist.get_rank() > 0:
            return
        if self._writer is None:
            self._writer = SummaryWriter(self.log_dir)
        inputs, targets = engine.state.batch
        batches = [(inputs, targets)] if isinstance(inputs, Tensor) else list(zip(inputs, targets, strict=True))
        layouts: Sequence[Layout | None] = self.layouts or [None] * len(batches)
        tiles = {
            f"{name}_{number}" if len(batches) > 1 else name: values
            for number, (batch, layout) in enumerate(zip(batches, layouts, strict=True), start=1)
            for name, values in self._select(*batch, layout).items()
        }
        for name, values in tiles.items():
            self._writer.add_image(f"batch/{name}", self._tile(values), engine.state.iteration, dataformats="HW")
        self._writer.flush()

    def _select(self, images: Tensor, targets: Any, layout: Layout | None) -> dict[str, Tensor]:
        """Name what is shown of one batch, each (N, 1, H, W)."""
        if layout is not None:
            order = layout.slices[: len(images)].argsort(stable=True)  # the layout is that of the whole batch
            return {"images": images[order.to(images.device)]}
        if isinstance(targets, Tensor):
            return {"images": images, "labels": targets.argmax(1, keepdim=True) / (targets.shape[1] - 1)}
        return {"images": images}

    def _tile(self, images: Tensor) -> Tensor:
        images = images[: self.num_images].detach().float().cpu().clamp(0, 1)
        columns = max(1, int(len(images) ** 0.5))
        rows = len(images) // columns
        images = images[: rows * columns, 0].unflatten(0, (rows, columns))
        return torch.cat(list(torch.cat(list(images.unbind(1)), dim=2).unbind(0)), dim=0)
