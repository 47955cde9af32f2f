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
from .pairing import with_ids
from .photographs import LabelMapReader, PhotographReader, is_photograph

logger = logging.getLogger(__name__)


class VolumeDataset(Dataset):
    """Preprocess volumes once and hold them, or read them one by one when they are iterated.

    The first use, or `prepare`, computes cached transforms, in several processes (see `fill_cache`). Then the whole
    transform of every item follows here: at once or, if the dataset is lazy, whenever the item is asked for. All
    unusable volumes are reported together; a lazy dataset does so at the end of an iteration.

    Args:
        data: items with the paths "image" and, where labels are wanted, "label"; other entries are passed on. Those
            without an "id" get one, see `with_ids`.
        transform: deterministic dictionary transforms.
        num_workers: processes that fill the cache; None takes one for each core.
        progress: show a progress bar.
        lazy: hold no volume. Without a cache folder, each time the dataset is iterated is then another
            preprocessing.
        required: whether every volume is needed. If not, the unusable ones are left out and the log says which.

    Raises:
        VolumeError: (on first use) lists every file that could not be used, and why, if they are required.
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
        super().__init__(with_ids(data), transform)
        self.num_workers = num_workers
        self.progress = progress
        self.lazy = lazy
        self.required = required
        self._is_filled = False
        self._volumes: list[dict[str, Any]] | None = None  # those that are held

    def prepare(self) -> None:
        """Fill the cache and, unless the dataset is lazy, preprocess all volumes; done once.

        Raises:
            VolumeError: see the class.
        """
        if not self._is_filled:
            for step in self.transform.transforms:
                if isinstance(step, CachedTransformd):
                    paths = [item[str(step.key)] for item in self.data]
                    # Of several processes the first computes. An error comes again, with what is wrong with labels.
                    with idist.one_rank_first(), suppress(VolumeError):
                        fill_cache(paths, step, self.num_workers, self.progress)
            self._is_filled = True
        if not self.lazy and self._volumes is None:
            self._volumes = list(_load(self.data, self.transform, self.progress, self.required))

    def __len__(self) -> int:
        """Return the number of items, or of those that can be used once they are held."""
        return len(self.data if self._volumes is None else self._volumes)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self.prepare()
        return _load(self.data, self.transform, False, self.required) if self._volumes is None else iter(self._volumes)

    def _transform(self, index: int) -> Any:
        self.prepare()
        return super()._transform(index) if self._volumes is None else self._volumes[index]


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
    for key in (key for key in ("image", "label") if key in item):
        path = item[key]
        try:
            if is_photograph(path):
                (PhotographReader() if key == "image" else LabelMapReader()).get_data((path,))
            else:
                read_nifti(path)
        except Exception:  # a damaged file can fail in any way
            return path
    return item["image"]
