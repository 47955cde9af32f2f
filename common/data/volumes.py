"""Preprocessed volumes in memory: the step between files and slices, and the dataset of every evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
                fill_cache([item[str(step.key)] for item in data], step, num_workers, progress)
        volumes: list[dict[str, Any]] = []
        failures: list[str] = []
        for item in tqdm(data, desc="Loading volumes", unit="volume", disable=not progress, leave=False):
            try:
                volumes.append(transform(item))
            except Exception as error:  # whatever a reader or transform raises is reported with the file's name
                failures.append(describe_failure(error, item["image"]))
        if failures:
            raise VolumeError("\n".join([f"{len(failures)} of {len(data)} volumes cannot be used:", *failures]))
        super().__init__(volumes)
