"""The front matter of a model card, which Hugging Face reads: licence, task and, with weights, what was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .results import metrics_of

_TASK = "image-segmentation"
_MEAN = "Test Dice, mean of the structures"
_TAGS = ("monai", "medical", "segmentation", "contrastive-learning")


def front_matter(licence: str, **more: Any) -> str:
    """Write the front matter of a model card.

    Args:
        licence: of the weights, by Hugging Face's name; it is the first line.
        **more: what `measured` gives, where there are weights.

    Returns:
        YAML between lines of dashes.
    """
    content = {"library_name": "monai", "pipeline_tag": _TASK, "tags": list(_TAGS), **more}
    # YAML includes JSON, so that its writer does for all but the licence, which is looked for as plain text.
    lines = [
        f"license: {licence}",
        *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in content.items()),
    ]
    return "\n".join(["---", *lines, "---", ""])


def measured(name: str, dataset: str, source: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the front matter says of the weights of a run.

    Args:
        name: of the bundle.
        dataset: its short name, such as "acdc".
        source: what the dataset is, in words.
        result: the content of the run's result file.
    """
    metrics = [
        {"type": "dice", "name": _MEAN if key == "mean_dice" else key.replace("_dice", " Dice"), "value": value}
        for key, value in metrics_of(result).items()
    ]
    results = {
        "task": {"type": _TASK, "name": "Segmentation of volumes, in 3-D on the native grid"},
        "dataset": {"type": dataset, "name": source, "split": "test"},
        "metrics": metrics,
    }
    return {"datasets": [dataset], "metrics": ["dice"], "model-index": [{"name": name, "results": [results]}]}
