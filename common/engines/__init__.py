"""Ignite engines and handlers of the three stages."""

from __future__ import annotations

from .averaging import WeightAveraging
from .batch_norm import BatchNormStatistics, recompute_batch_norm
from .checkpointing import Resume, SaveBest, SaveWeights
from .learning_rate import LearningRateDecay
from .monitoring import Progress, StopOnNaN
from .precision import AutocastInferer, resolve_precision, slice_inferer
from .self_training import SelfTraining
from .tensorboard import BatchPictures, TrainingScalars, ValidationScalars
from .trainer import StageTrainer
from .validation import Validation

__all__ = [
    "AutocastInferer",
    "BatchNormStatistics",
    "BatchPictures",
    "LearningRateDecay",
    "Progress",
    "Resume",
    "SaveBest",
    "SaveWeights",
    "SelfTraining",
    "StageTrainer",
    "StopOnNaN",
    "TrainingScalars",
    "Validation",
    "ValidationScalars",
    "WeightAveraging",
    "recompute_batch_norm",
    "resolve_precision",
    "slice_inferer",
]
