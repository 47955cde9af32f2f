"""Fill the cache: compute all entries that are missing, in several processes."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ...files import WriteError
from ...transforms.volume import VolumeError
from ..cores import num_cores, use_one_core
from ..disk_space import check_room
from ..failures import describe_failure
from ..main_guard import unguarded_script
from ..volume_files import DatasetError
from .cached_transform import ROOM, CachedTransformd

logger = logging.getLogger(__name__)


def fill_cache(
    files: Sequence[str | os.PathLike[str]],
    cached: CachedTransformd,
    num_workers: int | None = None,
    progress: bool = True,
) -> None:
    """Compute the entries that are not there yet.

    Two or more are computed in processes of their own, of one torch and one ITK thread each. These are spawned: where
    the script that runs has no `if __name__ == "__main__":`, this process computes them all, and the log says so.
    Interrupting is safe: what is finished is kept, and the next call goes on from there.

    Args:
        files: paths of the volumes; duplicates are computed once.
        cached: the transform; without a cache folder nothing is done.
        num_workers: processes; None takes one for each core, 0 or 1 computes in this process.
        progress: show a progress bar.

    Raises:
        VolumeError: lists every file that could not be preprocessed, and why; the others are stored.
        WriteError: if the cache folder cannot be written to; that it has no room is said before the other entries are
            computed, as far as the first lets tell.
    """
    if cached.cache_dir is None:
        return
    missing: dict[Path, str] = {}
    failures: list[str] = []
    for file in files:
        try:
            entry_path = cached.entry_path(file)
        except (OSError, VolumeError) as error:
            failures.append(describe_failure(error, file))
        else:
            if entry_path is not None and not entry_path.exists():
                missing.setdefault(entry_path, os.fspath(file))
    workers = min(len(missing), num_cores() if num_workers is None else num_workers)
    if workers > 1 and (script := unguarded_script()):
        logger.warning(
            f"{script} has no `if __name__ == '__main__':`, so its {len(missing)} volumes are preprocessed one after "
            f"another, in this process: put what it does below such a line, and {workers} are preprocessed at a time."
        )
        workers = 1
    loader = DataLoader(
        _Filling(list(missing.values()), cached),
        batch_size=None,
        num_workers=workers if workers > 1 else 0,
        multiprocessing_context="spawn" if workers > 1 else None,
        worker_init_fn=use_one_core,
        in_order=False,
        generator=torch.Generator(),  # otherwise a number would be drawn from the global one
    )
    bar = tqdm(loader, desc="Preprocessing volumes", unit="volume", disable=not (progress and missing))
    first = None
    for done, outcome in enumerate(bar, start=1):
        if isinstance(outcome, WriteError):
            raise outcome
        if outcome:
            failures.append(outcome)
        elif first is None:
            first = next(entry_path for entry_path in missing if entry_path.exists())
            check_room(cached.cache_dir, first.stat().st_size * (len(missing) - done), *ROOM)
    if failures:
        raise VolumeError("\n".join([f"{len(failures)} of {len(files)} volumes cannot be preprocessed:", *failures]))


def prepare(
    datalist: Callable[[str], list[dict[str, str]]], dataset_dir: str, cached: CachedTransformd, **options: Any
) -> None:
    """Fill the cache with all images of a dataset; what is wrong with some of them is said after the others are done.

    Args:
        datalist: one of `datalists`.
        dataset_dir: the dataset's folder.
        cached: the transform.
        **options: `num_workers` and `progress`, see `fill_cache`.

    Raises:
        DatasetError: if there is no dataset, or files of it are missing or there twice.
        VolumeError: if files could not be preprocessed; it also says what a `DatasetError` would.
    """
    problem: DatasetError | None = None
    try:
        items = datalist(dataset_dir)
    except DatasetError as error:
        problem, items = error, error.usable
    try:
        fill_cache([item["image"] for item in items], cached, **options)
    except VolumeError as error:
        raise VolumeError(f"{error}\n{problem or ''}".strip()) from None
    if problem is not None:
        raise problem
    logger.info(f"All {len(items)} volumes of {dataset_dir} are in {cached.cache_dir}.")


class _Filling(Dataset):
    """Stores the entry of a file when asked for an item.

    The item is the failure, empty if there was none, or the error if the cache folder cannot be written to.
    """

    def __init__(self, files: list[str], cached: CachedTransformd) -> None:
        self.files = files
        self.cached = cached

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> str | WriteError:
        try:
            self.cached({self.cached.key: self.files[index]})
        except Exception as error:  # one bad file must not cost the others
            if isinstance(error, WriteError):
                return error
            return describe_failure(error, self.files[index])
        return ""
