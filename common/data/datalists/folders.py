"""The layout of folders `imagesTr`, `labelsTr` and `imagesTs`, of any dataset."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from ..pairing import dataset_root, no_folder, pair
from ..volume_files import DatasetError, few, stem, volumes_in

logger = logging.getLogger(__name__)

_IMAGES, _LABELS, _UNLABELLED = "imagesTr", "labelsTr", "imagesTs"

_Item = dict[str, str]


def image_label_folders(dataset_dir: str | os.PathLike[str]) -> list[_Item]:
    """List the volumes of a dataset in the folders `imagesTr`, `labelsTr` and `imagesTs`.

    A volume's id is the name of its file without suffix; its label has the same name. `labelsTr` may have fewer files
    than `imagesTr`; it and `imagesTs`, further images without labels, may be missing.

    Args:
        dataset_dir: the folder that holds these, or a folder with such a folder in it.

    Returns:
        One item for each volume, ordered by id: `{"id": name, "image": path, "label": path}`, without `"label"` where
        there is none.

    Raises:
        DatasetError: if there is no image in `imagesTr`, two files have one id, or a label has no image.
    """
    return items_below(images_root(dataset_dir))


def further_image_ids(dataset_dir: str | os.PathLike[str], number: int) -> list[str]:
    """Return the ids of the first volumes of `imagesTs` (see `image_label_folders`), to pre-train on as well.

    Args:
        dataset_dir: the folder that holds `imagesTs`, or a folder with such a folder in it. It need not exist.
        number: how many, counted in the order of their names.

    Returns:
        Fewer ids, or none, if there are not that many. The log says how many there are.
    """
    root = dataset_root(dataset_dir, _has_images)
    if root is None:
        return []
    ids = [stem(file) for file in volumes_in(root / _UNLABELLED)][:number]
    logger.info(f"{len(ids)} of {number} further volumes to pre-train on are in {root / _UNLABELLED}: {few(ids)}.")
    return ids


def images_root(dataset_dir: str | os.PathLike[str]) -> Path:
    """Return the folder that has `imagesTr` in it."""
    root = dataset_root(dataset_dir, _has_images)
    if root is None:
        raise DatasetError(
            f"dataset_dir must hold a folder {_IMAGES} with NIfTI files, got {os.fspath(dataset_dir)!r}"
            f"{no_folder(dataset_dir)}. Set dataset_dir to the folder that has {_IMAGES} and {_LABELS} in it."
        )
    return root


def items_below(root: Path) -> list[_Item]:
    """List the volumes of the folders in `root`, see `image_label_folders`."""
    images, labels = (
        [(stem(file), file) for name in names for file in volumes_in(root / name)]
        for names in ((_IMAGES, _UNLABELLED), (_LABELS,))
    )
    return pair(images, labels)


def _has_images(root: Path) -> bool:
    return bool(volumes_in(root / _IMAGES))
