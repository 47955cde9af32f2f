"""Curves in TensorBoard, written by the first of several processes only."""

from __future__ import annotations

import ignite.distributed as idist
from ignite.engine import Engine
from monai.handlers import TensorBoardStatsHandler


class TrainingScalars:
    """Handler of a trainer: its loss.

    Args:
        log_dir: TensorBoard's folder.
        every: steps between two values, since reading one waits for the device.
    """

    def __init__(self, log_dir: str, every: int = 10) -> None:
        self.log_dir = log_dir
        self.every = every

    def attach(self, engine: Engine) -> None:
        """Write while the engine runs."""
        if idist.get_rank() == 0:
            TensorBoardStatsHandler(
                log_dir=self.log_dir,
                tag_name="train_loss",
                output_transform=lambda output: output["loss"].item(),
                iteration_log=self.every,
                epoch_log=False,
            ).attach(engine)


class ValidationScalars:
    """Handler of an evaluator: its metrics after every run.

    Args:
        log_dir: TensorBoard's folder.
    """

    def __init__(self, log_dir: str) -> None:
        self.log_dir = log_dir

    def attach(self, engine: Engine) -> None:
        """Write when the engine has completed a run."""
        if idist.get_rank() == 0:
            TensorBoardStatsHandler(log_dir=self.log_dir, iteration_log=False).attach(engine)
