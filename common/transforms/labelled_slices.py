"""Labels of which some slices were left out: the value 255 in all of a slice says that nobody has labelled it."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from .labels import UNLABELLED
from .volume import VolumeError, volume_name

logger = logging.getLogger(__name__)

LABELLED_SLICES = "labelled_slices"
"""Key under which a volume has bool (D,), which of its D slices are labelled, if not all are."""

_MOST_NAMED = 5


class CheckWholeSlicesd(MapTransform):
    """Refuse labels of which a part of a slice is not labelled, or nothing at all is.

    Args:
        keys: keys of the labels, (1, X, Y, Z), slices along the last axis.
    """

    def __init__(self, keys: KeysCollection) -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data as they are.

        Raises:
            VolumeError: names the label and its slices.
        """
        d = dict(data)
        for key in self.key_iterator(d):
            without = d[key].as_tensor()[0] == UNLABELLED
            some, every = without.any(dim=0).any(dim=0), without.all(dim=0).all(dim=0)
            if partly := (some & ~every).nonzero().flatten().tolist():
                named = ", ".join(map(str, partly[:_MOST_NAMED])) + (", ..." if len(partly) > _MOST_NAMED else "")
                raise VolumeError(
                    f"{volume_name(d[key])} must have {UNLABELLED}, which says that a slice is not labelled, in all of "
                    f"a slice or nowhere in it, got a part of {len(partly)} of {len(some)} slices ({named}): label "
                    "these slices, or set all of each to it. If the value is a class, give label_values."
                )
            if every.all():
                raise VolumeError(
                    f"{volume_name(d[key])} must have at least one labelled slice, got {UNLABELLED}, which says that a "
                    f"slice is not labelled, in all {len(every)}: label one, or take the volume out of the list."
                )
        return d


class FindLabelledSlicesd(MapTransform):
    """Say which slices are labelled, and make background of the others.

    Args:
        keys: keys of the labels, (1, H, W, D). Of several keys the last one counts.
    """

    def __init__(self, keys: KeysCollection) -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data, with `LABELLED_SLICES` if not all of them are; the log says how many."""
        d = dict(data)
        for key in self.key_iterator(d):
            without = d[key].as_tensor() == UNLABELLED
            labelled = ~without[0].any(dim=0).any(dim=0)
            if not labelled.all():
                d[key] = d[key].clone()
                d[key][without] = 0
                d[LABELLED_SLICES] = labelled
                logger.info(
                    f"{volume_name(d[key])}: {int(labelled.sum())} of {len(labelled)} slices are labelled; the others "
                    "count as unlabelled."
                )
        return d
