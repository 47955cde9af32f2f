"""Preprocessed volumes in memory: the step between files and slices, and the dataset of every evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import nibabel
import numpy as np
from monai.data import Dataset
from monai.transforms import Compose
from tqdm import tqdm

from ..transforms.volume import VolumeError
from .cache import CachedTransformd, describe_failure, fill_cache


class VolumeDataset(Dataset):
    """Preprocess volumes once and hold them.

    Cached transforms are computed first, in several processes (see `fill_cache`); then every item goes through the
    whole transform here. All unusable volumes are reported together.

    Args:
        data: items with the paths "image" and, where labels are wanted, "label"; other entries are passed on.
        transform: deterministic dictionary transforms.
        num_workers: processes that fill the cache; None takes one for each core.
        progress: show a progress bar.

    Raises:
        VolumeError: lists every file that could not be used, and why.
    """

    def __init__(
        self, data: Sequence[dict[str, Any]], transform: Compose, num_workers: int | None = None, progress: bool = True
    ) -> None:
        for step in transform.transforms:
            if isinstance(step, CachedTransformd):
                with suppress(VolumeError):  # comes again below, together with what is wrong with labels
                    fill_cache([item[str(step.key)] for item in data], step, num_workers, progress)
        volumes: list[dict[str, Any]] = []
        failures: list[str] = []
        for item in tqdm(data, desc="Loading volumes", unit="volume", disable=not progress, leave=False):
            try:
                volumes.append(transform(item))
            except Exception as error:  # whatever a reader or transform raises is reported with the file's name
                failures.append(describe_failure(error, _suspect(item)))
        if failures:
            raise VolumeError("\n".join([f"{len(failures)} of {len(data)} volumes cannot be used:", *failures]))
        super().__init__(volumes)


def _suspect(item: dict[str, Any]) -> str:
    """Return the first file of an item that cannot be read, or its image if all of them can."""
    for path in (item[key] for key in ("image", "label") if key in item):
        try:
            np.asanyarray(nibabel.load(path).dataobj)
        except Exception:  # a damaged file can fail in any way
            return path
    return item["image"]
