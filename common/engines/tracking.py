"""MONAI's MLflow handler, which `--tracking mlflow` adds, made to fit batches of tensors and to keep what a run was."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Iterable
from typing import Any

from ignite.engine import Engine
from monai.handlers import MLFlowHandler, mlflow_handler

from ..lineage import RECORD, Lineage
from .loss_buffer import LossBuffer
from .self_training import SelfTraining

_REPORT = ("evaluation.json", "dice.csv")


def of_training(
    handler: MLFlowHandler, self_training: SelfTraining | None = None, lineage: Lineage | None = None
) -> MLFlowHandler:
    """Return a handler like this one that fits our trainer.

    It sends the loss of every step, ten at a time, and with them the learning rate and the round of self-training; and
    as an artifact what the run is made from: settings with the seed, volumes of each subset, earlier weights.

    MONAI makes the handler without asking the config. It expects a list of decollated items, and reads the loss at
    every step, which waits for device and disk.

    Args:
        handler: as MONAI makes it; left as it is.
        self_training: has the rounds, if there are any.
        lineage: knows what the run is made from.
    """
    fitting = copy.copy(handler)
    buffer = LossBuffer()

    def log(engine: Any) -> None:
        losses = buffer.add(engine)
        if not losses:
            return
        now, last = int(time.time() * 1000), engine.state.iteration
        values = [(fitting.tag_name, loss, step) for step, loss in losses.items()]
        for name in fitting.optimizer_param_names:
            groups = enumerate(engine.optimizer.param_groups)
            values += [(f"{name}_group_{number}", float(group[name]), last) for number, group in groups]
        if self_training is not None and self_training.rounds:
            values.append(("round", float(self_training.round), last))
        metrics = [mlflow_handler.mlflow.entities.Metric(name, value, now, step) for name, value, step in values]
        fitting.client.log_batch(run_id=fitting.cur_run.info.run_id, metrics=metrics, params=[], tags=[])

    def start(engine: Engine) -> None:
        handler.__class__.start(fitting, engine)
        if lineage is not None:
            text = lineage.records()[RECORD].decode()
            fitting.client.log_text(fitting.cur_run.info.run_id, text, RECORD)

    fitting.iteration_logger = log
    fitting.start = start
    return fitting


def add_report(handlers: Iterable[Any], output_dir: str | os.PathLike[str]) -> None:
    """Have MLflow keep the report of an evaluation, if that is tracked.

    Args:
        handlers: of the evaluator, to which `--tracking mlflow` has added its own.
        output_dir: where the report is written before that one ends the run.
    """
    for handler in handlers:
        if isinstance(handler, MLFlowHandler):
            handler.artifacts = (*handler.artifacts, *(os.path.join(output_dir, name) for name in _REPORT))
