"""Cityscapes as it is distributed: a folder for each city, in one tree for images and one for labels."""

from __future__ import annotations

import os
from pathlib import Path

from ..pairing import dataset_root, no_folder, pair
from ..volume_files import DatasetError, entries

_IMAGES, _LABELS = "leftImg8bit", "gtFine"
_PARTS = ("train", "val")  # those that have labels
_IMAGE_END, _LABEL_END = "_leftImg8bit.png", "_gtFine_labelIds.png"

_Item = dict[str, str]


def cityscapes(dataset_dir: str | os.PathLike[str]) -> list[_Item]:
    """List the finely labelled photographs of Cityscapes (Cordts et al., CVPR 2016), those of train and val together.

    They are `leftImg8bit/{train,val}/CITY/*_leftImg8bit.png` and `gtFine/{train,val}/CITY/*_gtFine_labelIds.png`. All
    other files are ignored, and so are `test`, whose labels are not public, and `train_extra`.

    Args:
        dataset_dir: the folder that holds `leftImg8bit` and `gtFine`, or a folder with such a folder in it.

    Returns:
        One item for each photograph, ordered by id: `{"id": "aachen_000000_000019", "image": path, "label": path}`,
        without `"label"` where there is none.

    Raises:
        DatasetError: if there is no photograph, or a label has none.
    """
    root = dataset_root(dataset_dir, _has_images)
    if root is None:
        raise DatasetError(
            f"dataset_dir must hold the folders {_IMAGES} and {_LABELS} of Cityscapes with cities in their folders "
            f"{' and '.join(_PARTS)}, got {os.fspath(dataset_dir)!r}{no_folder(dataset_dir)}. Unpack "
            "leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip of https://www.cityscapes-dataset.com into one "
            "folder, and set dataset_dir to it."
        )
    return pair(_files(root / _IMAGES, _IMAGE_END), _files(root / _LABELS, _LABEL_END))


def _has_images(root: Path) -> bool:
    return bool(_files(root / _IMAGES, _IMAGE_END))


def _files(tree: Path, end: str) -> list[tuple[str, Path]]:
    """Return id and path of the files in the folders of the cities whose names have this end."""
    cities = [city for part in _PARTS for city in entries(tree / part) if city.is_dir()]
    files = [file for city in cities for file in entries(city) if file.name.endswith(end)]
    return [(file.name.removesuffix(end), file) for file in files]
