"""What a run writes to TensorBoard: curves of its losses and metrics, and pictures of its batches.

Of several processes only the first writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from monai.handlers import TensorBoardStatsHandler
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from ..strategies import Layout
from .loss_buffer import LossBuffer
from .self_training import SelfTraining


class TrainingScalars:
    """Handler of a trainer: write the loss of every step, the learning rate and the round of self-training.

    Args:
        log_dir: TensorBoard's folder.
        every: steps between two writings (reading the loss waits for the device); the end of an epoch is another.
        tag: name of the curve of the loss.
        self_training: has the rounds, if there are any.
    """

    def __init__(
        self, log_dir: str, every: int = 10, tag: str = "train_loss", self_training: SelfTraining | None = None
    ) -> None:
        self.log_dir = log_dir
        self.tag = tag
        self.self_training = self_training
        self._buffer = LossBuffer(every)
        self._writer: SummaryWriter | None = None

    def attach(self, engine: Engine) -> None:
        """Write every so many steps."""
        if idist.get_rank() == 0:
            self._writer = SummaryWriter(self.log_dir)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._write)

    def _write(self, engine: Any) -> None:
        losses = self._buffer.add(engine)
        if not losses or self._writer is None:
            return
        for step, loss in losses.items():
            self._writer.add_scalar(self.tag, loss, step)
        optimizer = getattr(engine, "optimizer", None)
        if optimizer is not None:
            self._writer.add_scalar("learning_rate", optimizer.param_groups[0]["lr"], engine.state.iteration)
        if self.self_training is not None and self.self_training.rounds:
            self._writer.add_scalar("round", self.self_training.round, engine.state.iteration)
        self._writer.flush()


class ValidationScalars:
    """Handler of an evaluator: write its metrics, by their names.

    Args:
        log_dir: TensorBoard's folder.
    """

    def __init__(self, log_dir: str) -> None:
        self.log_dir = log_dir

    def attach(self, engine: Engine) -> None:
        """Write at the end of each validation, against the epoch of the trainer."""
        if idist.get_rank() == 0:
            TensorBoardStatsHandler(log_dir=self.log_dir, iteration_log=False).attach(engine)


class BatchPictures:
    """Write pictures of a batch to TensorBoard: of its images and labels, or of the views of its slices side by side.

    Of a pair of batches (see `PairLoader`) both are shown; the names of their pictures end in _1 and _2. Of several
    processes the first shows its share of the batch.

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
            tiled = self._tile(values)
            self._writer.add_image(f"batch/{name}", tiled, engine.state.iteration, dataformats="CHW"[-tiled.ndim :])
        self._writer.flush()

    def _select(self, images: Tensor, targets: Any, layout: Layout | None) -> dict[str, Tensor]:
        """Name what is shown of one batch, each (N, C, H, W)."""
        if layout is not None:
            order = layout.slices[: len(images)].argsort(stable=True)  # the layout is that of the whole batch
            return {"images": images[order.to(images.device)]}
        if isinstance(targets, Tensor):
            return {"images": images, "labels": targets.argmax(1, keepdim=True) / (targets.shape[1] - 1)}
        return {"images": images}

    def _tile(self, images: Tensor) -> Tensor:
        """Return the first images (N, C, H, W) side by side, (C, rows, columns); without C if it is 1."""
        images = images[: self.num_images].detach().float().cpu().clamp(0, 1)
        columns = max(1, int(len(images) ** 0.5))
        rows = len(images) // columns
        tiles = images[: rows * columns].unflatten(0, (rows, columns)).permute(2, 0, 3, 1, 4)
        return tiles.flatten(3, 4).flatten(1, 2).squeeze(0)
