"""Datalists in MONAI's JSON format, of any dataset."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ..pairing import no_folder, pair
from ..volume_files import DatasetError, stem

INDEX = "dataset.json"
"""The name of the index in an archive of the Medical Segmentation Decathlon, which is such a datalist."""
_NAMES = ("datalist.json", INDEX)
_SECTIONS = ("training", "validation", "test")

_Item = dict[str, str]
_Files = list[tuple[str, Path]]  # id and path of each file


def json_datalist(dataset_dir: str | os.PathLike[str]) -> list[_Item]:
    """List the volumes of a datalist in MONAI's JSON format (that of the Medical Segmentation Decathlon).

    The sections "training", "validation" and "test" of the file are put together, since the split file decides which
    volume serves for what. Paths are relative to the file. An item's id is its "id" if it has one, else the name of its
    image without suffix; other entries, such as "fold", are ignored.

    Args:
        dataset_dir: the folder that holds `datalist.json` or, in its absence, `dataset.json`.

    Returns:
        One item for each volume, ordered by id: `{"id": name, "image": path, "label": path}`, without `"label"` where
        there is none.

    Raises:
        DatasetError: if there is no such file or it is no datalist, two items have one id, or a file is not there.
    """
    index = _index(dataset_dir)
    if index is None:
        raise DatasetError(
            f"dataset_dir must hold a datalist, {' or '.join(_NAMES)}, got {os.fspath(dataset_dir)!r}"
            f"{no_folder(dataset_dir)}. Write one as MONAI's load_decathlon_datalist reads it."
        )
    images, labels = (_listed(index, key) for key in ("image", "label"))
    if not images:
        raise DatasetError(f"{index} must list volumes in {' or '.join(_SECTIONS)}, got none. Add them.")
    missing = {path for _, path in (*images, *labels) if not path.is_file()}
    problems = [
        f"{path} is not there, but {index} lists it. Copy it, or take the item out." for path in sorted(missing)
    ]
    incomplete = {name for name, path in (*images, *labels) if path in missing}
    images, labels = ([(name, path) for name, path in files if name not in incomplete] for files in (images, labels))
    return pair(images, labels, problems)


def listed_labels(folder: Path) -> set[Path]:
    """Return the labels that a datalist in a folder lists (see `json_datalist`); none if there is no valid one."""
    index = _index(folder)
    try:
        return {path for _, path in _listed(index, "label")} if index else set()
    except DatasetError:  # that of another program
        return set()


def _index(folder: str | os.PathLike[str]) -> Path | None:
    return next((path for name in _NAMES if (path := Path(folder, name)).is_file()), None)


def _listed(index: Path, key: str) -> _Files:
    """Return the images or labels of a datalist in JSON.

    Read here and not by MONAI's `load_decathlon_datalist`, which cannot read a file with a byte-order mark, and takes
    an id for a path if a file is called like it.
    """
    content = read_json(index)
    try:
        found = []
        for section in _SECTIONS:
            for entry in content.get(section) or []:
                item = {"image": entry} if section == "test" and isinstance(entry, str) else entry
                name = str(item.get("id", stem(item["image"])))
                if key in item:
                    found.append((name, Path(os.path.normpath(index.parent / item[key]))))
        return found
    except (TypeError, KeyError, AttributeError) as error:
        raise DatasetError(
            f"{index} must have items with an image, and a label if there is one, each the path of one file "
            f"({type(error).__name__}: {error}). Write it as MONAI's load_decathlon_datalist reads it."
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))  # with or without a byte-order mark
    except ValueError as error:  # not JSON, or not text
        raise DatasetError(f"{path} must be valid JSON: {error}. Replace it by the one of the archive.") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{path} must hold a JSON object, got {type(content).__name__}. Replace it.")
    return content
