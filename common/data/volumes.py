"""Preprocessed volumes: the step between files and slices, and the dataset of every evaluation."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import ignite.distributed as idist
from monai.data import Dataset
from monai.transforms import Compose
from tqdm import tqdm

from ..transforms.volume import VolumeError
from .cache import CachedTransformd, fill_cache
from .failures import describe_failure
from .nifti import read_nifti

logger = logging.getLogger(__name__)


class VolumeDataset(Dataset):
    """Preprocess volumes once and hold them, or read them one by one when they are iterated.

    Cached transforms are computed first, in several processes (see `fill_cache`). The whole transform of every item
    then follows here: at once or, if the dataset is lazy, whenever the item is asked for. All unusable volumes are
    reported together; a lazy dataset does so at the end of an iteration.

    Args:
        data: items with the paths "image" and, where labels are wanted, "label"; other entries are passed on.
        transform: deterministic dictionary transforms.
        num_workers: processes that fill the cache; None takes one for each core.
        progress: show a progress bar.
        lazy: hold no volume. Without a cache folder, each time the dataset is iterated is then another
            preprocessing.
        required: whether every volume is needed. If not, the unusable ones are left out and the log says which.

    Raises:
        VolumeError: lists every file that could not be used, and why, if they are required.
    """

    def __init__(
        self,
        data: Sequence[dict[str, Any]],
        transform: Compose,
        num_workers: int | None = None,
        progress: bool = True,
        lazy: bool = False,
        required: bool = True,
    ) -> None:
        self.required = required
        for step in transform.transforms:
            if isinstance(step, CachedTransformd):
                # Of several processes the first computes. An error comes again, with what is wrong with labels.
                with idist.one_rank_first(), suppress(VolumeError):
                    fill_cache([item[str(step.key)] for item in data], step, num_workers, progress)
        if lazy:
            super().__init__(data, transform)
        else:
            super().__init__(list(_load(data, transform, progress, required)))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.data) if self.transform is None else _load(self.data, self.transform, False, self.required)


def _load(
    data: Sequence[dict[str, Any]], transform: Compose, progress: bool, required: bool
) -> Iterator[dict[str, Any]]:
    """Yield the items that can be used; the others are reported together after the last one."""
    failures: list[str] = []
    for item in tqdm(data, desc="Loading volumes", unit="volume", disable=not progress, leave=False):
        try:
            volume = transform(item)
        except Exception as error:  # whatever a reader or transform raises is reported with the file's name
            failures.append(describe_failure(error, _suspect(item)))
        else:
            yield volume
    if failures:
        report = "\n".join([f"{len(failures)} of {len(data)} volumes cannot be used:", *failures])
        if required:
            raise VolumeError(report)
        logger.warning(f"{report}\nThey are left out.")


def _suspect(item: dict[str, Any]) -> str:
    """Return the first file of an item that cannot be read, or its image if all of them can."""
    for path in (item[key] for key in ("image", "label") if key in item):
        try:
            read_nifti(path)
        except Exception:  # a damaged file can fail in any way
            return path
    return item["image"]
