"""Result files as `reproduce` writes them, with made-up numbers."""

from __future__ import annotations

from release.results import EVALUATIONS

DICE = {"RV": 0.7, "Myo": 0.8, "LV": 0.9, "mean": 0.8}


def make_result(cell, /, dice=DICE, volumes=None, **changes):
    """A result whose evaluations all have these means and volumes; `changes` replace or add entries."""
    evaluation = {"mean_dice": dice, "volumes": volumes or [{"id": "patient007", **dice}]}
    return {
        "key": cell.key,
        "cell": cell.to_dict(),
        "commit": "0123abcd",
        "configs_sha256": "0" * 64,
        "device": "cpu",
        "precision": "torch.bfloat16",
        "versions": {"torch": "2"},
        "seconds": {"train": 1.5},
        "curves": {"train_loss": [[1, 0.5], [2, 0.25]], "mean_dice": [[1, 0.5]]},
        "evaluations": {name: evaluation for name in EVALUATIONS},
        **changes,
    }
