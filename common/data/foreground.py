"""Labels that have none of the structures to be learnt."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..transforms.volume import VolumeError
from .volume_files import few

logger = logging.getLogger(__name__)


def check_foreground(
    labelled: Iterable[Mapping[str, Any]], validation: Iterable[Mapping[str, Any]], class_names: Sequence[str]
) -> None:
    """Look whether the structures are labelled in the volumes that a network is trained and validated on.

    Args:
        labelled: volumes with a preprocessed "label" (1, H, W, D) of class indices, to train on.
        validation: the same, to choose among the weights.
        class_names: C names, the background's first.

    Raises:
        VolumeError: if no structure is labelled in any of the volumes to train on. That some of them have none, that a
            structure is in none of them, and that there is none in any validation volume is logged.
    """
    names = list(class_names)
    present = _present(labelled, len(names))
    if not present:
        return
    empty = [name for name, found in present if not found]
    if len(empty) == len(present):
        raise VolumeError(
            f"The labels of the {len(present)} labelled volumes must have {' or '.join(names[1:])} in them, got "
            f"only {names[0]} in what is left after the crop to image_size: {few(empty)}. Check these files and "
            "image_size, or take other volumes."
        )
    if empty:
        logger.warning(
            f"{len(empty)} of {len(present)} labelled volumes have no structure in what is left after the crop to "
            f"image_size: {few(empty)}. They are trained on as {names[0]}; take them out if they are not."
        )
    absent = [name for index, name in enumerate(names[1:], 1) if not any(index in found for _, found in present)]
    if absent:
        logger.warning(
            f"{', '.join(absent)} is in none of the {len(present)} labelled volumes, so that the network cannot learn "
            "it. Check label_values, or label a volume that has it."
        )
    chosen_by = _present(validation, len(names))
    if chosen_by and not any(found for _, found in chosen_by):
        logger.warning(
            f"No structure is labelled in any of the {len(chosen_by)} validation volumes, so that they cannot choose "
            f"among weights: {few([name for name, _ in chosen_by])}. The last weights are kept; take other volumes to "
            "have the best ones."
        )


def _present(volumes: Iterable[Mapping[str, Any]], num_classes: int) -> list[tuple[str, set[int]]]:
    """Return the file of each label, and the indices of the structures in it."""
    result = []
    for volume in volumes:
        label = volume["label"]
        counts = torch.bincount(torch.as_tensor(label).as_subclass(Tensor).flatten().long(), minlength=num_classes)
        path = getattr(label, "meta", {}).get("filename_or_obj", volume.get("id", "a label"))
        result.append((str(path), set(counts.nonzero().flatten().tolist()) - {0}))
    return result
