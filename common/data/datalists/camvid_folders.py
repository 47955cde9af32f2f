"""CamVid in folders for training, validation and test."""

from __future__ import annotations

import os
from pathlib import Path

from ..pairing import dataset_root, no_folder, pair
from ..photographs import photographs_in
from ..volume_files import DatasetError

_PARTS = ("train", "val", "test")
_IMAGES, _LABELS = "image", "label"

_Item = dict[str, str]


def camvid(dataset_dir: str | os.PathLike[str]) -> list[_Item]:
    """List the photographs of CamVid (Brostow et al., Pattern Recognition Letters 2009), of all its parts together.

    They are in `{train,val,test}/image`, their label maps, called like them, in `{train,val,test}/label`.

    Args:
        dataset_dir: the folder that holds the parts, or a folder with such a folder in it.

    Returns:
        One item for each photograph, ordered by id: `{"id": name without suffix, "image": path, "label": path}`,
        without `"label"` where there is none.

    Raises:
        DatasetError: if there is no photograph, two have one name, or a label has none.
    """
    root = dataset_root(dataset_dir, lambda folder: bool(_files(folder, _IMAGES)))
    if root is None:
        raise DatasetError(
            f"dataset_dir must hold folders {', '.join(_PARTS)} with the folders {_IMAGES} and {_LABELS}, got "
            f"{os.fspath(dataset_dir)!r}{no_folder(dataset_dir)}. Set dataset_dir to the folder that has them in it."
        )
    return pair(_files(root, _IMAGES), _files(root, _LABELS))


def _files(root: Path, kind: str) -> list[tuple[str, Path]]:
    """Return id and path of the files of one kind in all parts."""
    return [(file.stem, file) for part in _PARTS for file in photographs_in(root / part / kind)]
