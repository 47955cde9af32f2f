"""The layout of folders `imagesTr`, `labelsTr` and `imagesTs`, of any dataset of photographs."""

from __future__ import annotations

import os
from pathlib import Path

from ..pairing import dataset_root, no_folder, pair
from ..photographs import SUFFIXES, photographs_in
from ..volume_files import DatasetError

_IMAGES, _LABELS, _UNLABELLED = "imagesTr", "labelsTr", "imagesTs"

_Item = dict[str, str]


def photograph_label_folders(dataset_dir: str | os.PathLike[str]) -> list[_Item]:
    """List the photographs of a dataset in the folders `imagesTr`, `labelsTr` and `imagesTs`.

    What `image_label_folders` is for volumes: a photograph's id is the name of its file without suffix, and its label
    map, a PNG file, has the same name. `labelsTr` may have fewer files than `imagesTr`; it and `imagesTs`, further
    photographs without labels, may be missing.

    Args:
        dataset_dir: the folder that holds these, or a folder with such a folder in it.

    Returns:
        One item for each photograph, ordered by id: `{"id": name, "image": path, "label": path}`, without `"label"`
        where there is none.

    Raises:
        DatasetError: if there is no photograph in `imagesTr`, two files have one id, or a label has no photograph.
    """
    root = dataset_root(dataset_dir, lambda folder: bool(photographs_in(folder / _IMAGES)))
    if root is None:
        raise DatasetError(
            f"dataset_dir must hold a folder {_IMAGES} with photographs ({', '.join(SUFFIXES)}), got "
            f"{os.fspath(dataset_dir)!r}{no_folder(dataset_dir)}. Set dataset_dir to the folder that has {_IMAGES} and "
            f"{_LABELS} in it."
        )
    return pair(_files(root, _IMAGES, _UNLABELLED), _files(root, _LABELS))


def _files(root: Path, *folders: str) -> list[tuple[str, Path]]:
    """Return id and path of the files in folders."""
    return [(file.stem, file) for folder in folders for file in photographs_in(root / folder)]
