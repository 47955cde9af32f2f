"""Task 5, prostate, of the Medical Segmentation Decathlon as it is distributed: folders and an index."""

from __future__ import annotations

import logging
import os

from ..pairing import usable
from ..volume_files import DatasetError, few
from .folders import images_root, items_below
from .json_lists import INDEX, read_json

logger = logging.getLogger(__name__)

_EXPECTED = {"modality": {"0": "T2"}, "labels": {"0": "background", "1": "PZ", "2": "TZ"}}

_Item = dict[str, str]


def msd_prostate(dataset_dir: str | os.PathLike[str]) -> list[_Item]:
    """List the volumes of task 5, prostate, of the Medical Segmentation Decathlon (MSD, 2018).

    The folders are those of `image_label_folders`. The archive's `dataset.json` must say what this dataset has: T2 as
    the first channel, background, peripheral zone and transition zone as 0, 1 and 2. The training volumes and labels
    that it lists must be there. Without that file the folders decide, and channels and labels are taken to be these.

    Args:
        dataset_dir: the unpacked archive, `Task05_Prostate`, or a folder that holds it.

    Returns:
        One item for each volume, ordered by id: `{"id": "prostate_00", "image": path, "label": path}`; no `"label"` key
        for the volumes of `imagesTs`, and for others whose label is not there.

    Raises:
        DatasetError: see `image_label_folders`; also if `dataset.json` says something else.
    """
    root = images_root(dataset_dir)
    try:
        items, problem = items_below(root), ""
    except DatasetError as error:
        items, problem = error.usable, str(error)
    index = root / INDEX
    if not index.is_file():
        logger.info(f"{root} has no {INDEX}; its channels and labels are taken to be those of MSD Task05.")
        return usable([problem], items)
    content = read_json(index)
    for key, expected in _EXPECTED.items():
        found = content.get(key)
        if not isinstance(found, dict) or any(found.get(number) != name for number, name in expected.items()):
            raise DatasetError(
                f"{index} must be that of MSD Task05, with {expected} in {key!r}, got {found!r}. Set dataset_dir to "
                "the unpacked Task05_Prostate; for another dataset use its own datalist."
            )
    listed = [path for pair in content.get("training", []) if isinstance(pair, dict) for path in pair.values()]
    problems = [problem]
    if missing := [path for path in listed if not (root / path).is_file()]:
        problems.append(
            f"{index} lists {len(missing)} files that are not there: {few(missing)}. Unpack the archive again."
        )
    return usable(problems, items)
