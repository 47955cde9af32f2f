"""MONAI's MLflow handler, which `--tracking mlflow` adds to the trainer, made to fit batches of tensors."""

from __future__ import annotations

import copy

from monai.handlers import MLFlowHandler

_EVERY = 10


def every_tenth_loss(handler: MLFlowHandler) -> MLFlowHandler:
    """Return a handler like this one that sends the loss and the learning rate of every tenth step.

    MONAI makes the handler without asking the config. It expects a list of decollated items, and reads the loss at
    every step, which waits for device and disk.

    Args:
        handler: as MONAI makes it; left as it is.
    """
    fitting = copy.copy(handler)
    fitting.output_transform = lambda output: output["loss"].item()
    fitting.iteration_log = lambda _, step: step % _EVERY == 0
    return fitting
