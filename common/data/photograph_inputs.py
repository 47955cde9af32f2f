"""Photographs to be segmented, which come without a datalist.

In a folder every PNG or JPEG file is taken for a photograph unless its name says that it is a label map or a picture of
one. Files given by their names are always taken.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

from .inputs import Paths, list_once
from .photographs import SUFFIXES, is_photograph, photographs_in
from .volume_files import DatasetError, entries, few

logger = logging.getLogger(__name__)

_LABEL_NAME = re.compile(
    r"(^|[_.-])(gt|seg|overlay|segmentation|labels?|masks?|color|(label(Train)?|instance)Ids)$", re.IGNORECASE
)
_KINDS = ", ".join(SUFFIXES)


def photographs(dataset_dir: Paths, second: Paths | None = None) -> list[dict[str, str]]:
    """List the photographs to be segmented.

    Args:
        dataset_dir: a file, or a folder, of which the photographs directly in it are taken, or a list of these.
        second: the same under the option's other name, `input`, or None.

    Returns:
        One item for each photograph, in the order given, those of a folder by name: `{"id": name without suffix,
        "image": path}`. The log says which files of a folder are not among them, and why.

    Raises:
        DatasetError: if a path does not exist, is no PNG or JPEG file, a folder has no photograph, or two have one
            name, and so would their segmentations.
        ValueError: if the two names are given different values.
    """
    return list_once(dataset_dir, second, _photographs, lambda file: file.stem)


def _photographs(path: Path) -> list[Path]:
    """Return what is meant by a path that was given."""
    if not path.is_dir():
        if not path.exists():
            raise DatasetError(
                f"input (or dataset_dir) must be a photograph or a folder, got {str(path)!r}, which does not exist."
            )
        if not is_photograph(path):
            raise DatasetError(
                f"input must be photographs ({_KINDS}), got {str(path)!r}: this bundle segments no other files."
            )
        return [path]
    files = photographs_in(path)
    labels = [file for file in files if _LABEL_NAME.search(file.stem)]
    if labels:
        logger.warning(
            f"{len(labels)} files of {path} are left out, which are label maps or pictures of them by their names: "
            f"{few([file.name for file in labels])}. If one is a photograph, give it by its name, or rename it."
        )
    if others := [entry.name for entry in entries(path) if entry.is_file() and not is_photograph(entry)]:
        logger.warning(f"{path} has files that are not {_KINDS} and are left out: {few(others)}.")
    if len(labels) == len(files):
        inside = [f"{entry.name}{os.sep if entry.is_dir() else ''}" for entry in entries(path)]
        raise DatasetError(
            f"input must be photographs ({_KINDS}), got the folder {str(path)!r} without any. "
            + (f"It has {few(inside)}. Give a file, or the folder that the files are in." if inside else "It is empty.")
        )
    return [file for file in files if file not in labels]
