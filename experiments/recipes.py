"""How a network is fine-tuned, by name: the paper's way, single additions to it, and what we recommend."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """How a network is fine-tuned and its output cleaned; the defaults are the paper's.

    Attributes:
        name: stands for the other values in names of cells.
        augmentation: see `common.transforms.views.fine_tuning_views`.
        mixup_alpha: strength of Mixup, 0 without.
        weight_averaging: decay of the moving average of the weights, 0 without.
        self_training: as version 0.7 and earlier had it: train twice, the second time also on the pre-training volumes,
            labelled by the first network. Its results stay; it is no longer run.
        largest_component: keep only the largest connected component of each structure in the test volumes.
        self_training_rounds: see `common.engines.SelfTraining`.
        copy_paste: see `common.transforms.copy_paste.CopyPaste`.
        learning_rate_decay: see `common.engines.LearningRateDecay`.
        batch_norm_statistics: see `common.engines.BatchNormStatistics`.
        kept_weights: which weights are those that count, see `common.fine_tuning.FineTunedWeights`.
        unlabelled_frames: see `common.data.split_volumes.SplitVolumes`; of fine-tuning only.
        steps: length of the fine-tuning; 0 for that of the schedule.
        batch_size: images of a batch of the fine-tuning; 0 for that of the schedule.
    """

    name: str = "paper"
    augmentation: str = "paper"
    mixup_alpha: float = 0.0
    weight_averaging: float = 0.0
    self_training: bool = False
    largest_component: bool = False
    self_training_rounds: int = 0
    copy_paste: float = 0.0
    learning_rate_decay: str = "none"
    batch_norm_statistics: str = "recomputed"
    kept_weights: str = "best"
    unlabelled_frames: str = "single"
    steps: int = 0
    batch_size: int = 0

    @property
    def settings(self) -> dict[str, Any]:
        """What differs from the paper among the values of `train.json`, and where its default is another than that."""
        own, said = ["name", "self_training", "steps", "batch_size"], []
        if self.self_training_rounds:
            said += ["batch_norm_statistics", "kept_weights"]
        else:  # these are done to the output only
            own += OUTPUT
        values = asdict(self).items()
        return {
            name: value
            for name, value in values
            if name not in own and (name in said or value != getattr(Recipe, name))
        }

    def to_dict(self) -> dict[str, Any]:
        """Return what is hashed; of what older versions had not, what is not the default, so that hashes stay."""
        return {
            name: value for name, value in asdict(self).items() if name not in _NEWER or value != getattr(Recipe, name)
        }


RECOMMENDED = "recommended"
"""The recipe that is the default of `train.json`."""
OUTPUT = ("largest_component",)
"""What a recipe does to the output of its network."""
EARLIER_N4 = {"n4_shrink": [4, 4, 1], "n4_iterations": [50, 50, 50, 50]}
"""N4 as it was by default for ACDC up to version 0.8, which the results of those versions stand on."""
_NEWER = (
    "self_training_rounds",
    "copy_paste",
    "learning_rate_decay",
    "batch_norm_statistics",
    "kept_weights",
    "unlabelled_frames",
    "steps",
    "batch_size",
)  # than version 0.7

_RECOMMENDED = Recipe(
    RECOMMENDED,
    "strong+elastic",
    weight_averaging=0.99,
    largest_component=True,
    self_training_rounds=3,
    copy_paste=0.5,
    learning_rate_decay="cosine",
    batch_norm_statistics="mixed",
    kept_weights="last",
    steps=800,
    batch_size=20,
)
# The recommended recipe until statistics of half-labelled batches, and the last weights, were found to be better.
_RECOMPUTED = replace(_RECOMMENDED, name="recomputed", batch_norm_statistics="recomputed", kept_weights="best")

PHOTOGRAPH_RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(augmentation="crop+colour"),
        Recipe("mixup", "crop+colour", mixup_alpha=0.1),
        # The defaults of `train.json` where photographs are.
        Recipe(
            RECOMMENDED,
            "crop+colour",
            weight_averaging=0.99,
            self_training_rounds=3,
            copy_paste=0.5,
            learning_rate_decay="cosine",
            batch_norm_statistics="mixed",
            kept_weights="last",
            steps=800,
            batch_size=20,
        ),
    )
}
"""Those of photographs, which are never turned; the paper's has other augmentations there."""

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(),
        Recipe("mixup", mixup_alpha=0.1),
        Recipe("strong", augmentation="strong"),
        Recipe("averaging", weight_averaging=0.99),
        Recipe("component", largest_component=True),
        Recipe("self", self_training=True),
        Recipe("beyond", "strong", weight_averaging=0.99, self_training=True, largest_component=True),
        _RECOMMENDED,
        _RECOMPUTED,
        replace(_RECOMPUTED, name="frames", unlabelled_frames="all"),
    )
}
