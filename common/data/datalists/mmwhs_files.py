"""The MR volumes of MM-WHS as they are distributed: files whose names say what they are."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ..pairing import dataset_root, no_folder, pair
from ..volume_files import DatasetError, stem, volumes_in

_FILE = re.compile(r"(mr_(?:train|test)_\d{4})_(image|label)")
_SUBFOLDERS = ("", "mr_train", "mr_test")

_Item = dict[str, str]


def mmwhs(dataset_dir: str | os.PathLike[str]) -> list[_Item]:
    """List the MR volumes of MM-WHS (Multi-Modality Whole Heart Segmentation, 2017).

    Args:
        dataset_dir: the folder that holds `mr_train` and, if wanted, `mr_test`, or the folder of the files themselves,
            `mr_train_1001_image.nii.gz`, `mr_train_1001_label.nii.gz` and so on; also one level deeper.

    Returns:
        One item for each volume, ordered by id: `{"id": "mr_train_1001", "image": path, "label": path}`; no `"label"`
        key where there is no label, as in `mr_test`.

    Raises:
        DatasetError: if there is no training image, two files have one id, or a label has no image.
    """

    def files(root: Path) -> list[tuple[re.Match[str], Path]]:
        found = [file for subfolder in _SUBFOLDERS for file in volumes_in(root / subfolder)]
        matches = [(_FILE.fullmatch(stem(file)), file) for file in found]
        return [(match, file) for match, file in matches if match]

    def is_root(folder: Path) -> bool:
        return any(match[0].startswith("mr_train") and match[2] == "image" for match, _ in files(folder))

    root = dataset_root(dataset_dir, is_root)
    if root is None:
        raise DatasetError(
            "dataset_dir must hold the MR training volumes of MM-WHS (mr_train/mr_train_1001_image.nii.gz and "
            f"..._label.nii.gz), got {os.fspath(dataset_dir)!r}{no_folder(dataset_dir)}. Set dataset_dir to the "
            "folder that mr_train was unpacked to; the data is at https://zmiclab.github.io/zxh/0/mmwhs/."
        )
    images, labels = (
        [(match[1], file) for match, file in files(root) if match[2] == kind] for kind in ("image", "label")
    )
    return pair(images, labels)
