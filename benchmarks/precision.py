"""Precision, memory layout and compilation: seconds of a training step, and whether the loss still falls as far.

Contenders, with the same weights and batches:

    float32, bfloat16    autocast to bfloat16 or none, with the default memory layout (NCHW)
    ... channels_last    the network's weights in that layout, which the maps then have too
    ... compiled         the same after `torch.compile` with its default options

Timed are forward, loss, backward and optimiser on one batch of noise, for all three stages. The loss curves are those
of whole training runs from the same weights and with the same batches, on slices of ACDC or of phantoms, preprocessed
as the bundle does it but without N4.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser
from torch._dynamo.exc import TorchDynamoException
from tqdm import tqdm

from common.data.slices import Slices
from common.engines import AutocastInferer, StageTrainer, resolve_precision
from experiments.phantom import write_acdc_phantom, write_phantom_splits

from . import harness, step

BUNDLE = Path(__file__).resolve().parents[1] / "bundle_acdc"
REFERENCE = "float32"
# Name -> (precision, memory format, whether compiled).
CONTENDERS = {
    "float32": ("float32", torch.contiguous_format, False),
    "float32 channels_last": ("float32", torch.channels_last, False),
    "bfloat16": ("bfloat16", torch.contiguous_format, False),
    "bfloat16 channels_last": ("bfloat16", torch.channels_last, False),
    "float32 channels_last, compiled": ("float32", torch.channels_last, True),
    "bfloat16 channels_last, compiled": ("bfloat16", torch.channels_last, True),
}
CONFIGS = {"global": "pretrain_global.json", "fine-tuning": "train.json"}
CURVE_BATCH_SIZES = {"global": 16, "fine-tuning": 8}  # images, views included
