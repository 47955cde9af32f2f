"""What is in the files of a dataset, as hashes: one volume has one under any id, path, compression and data type."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from monai.data import MetaTensor
from tqdm import tqdm

from .cores import num_cores
from .nifti import VOXELS_HASH, read_nifti, voxels_hash
from .photographs import file_sha256, is_photograph
from .volume_files import stem

logger = logging.getLogger(__name__)

_SHORT = 16  # hexadecimal digits that tell contents apart where nobody looks for a collision


class Content(NamedTuple):
    """One volume by what is in its files.

    Attributes:
        id: the volume's name in the datalist, else that of its image file without suffix.
        image: hash of the image's voxels, see `voxels_sha256`.
        label: the same of the label, None if no label is used.
        path: of the image, for messages.
    """

    id: str
    image: str
    label: str | None
    path: str


def voxels_sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 over the voxels of a NIfTI file, see `nifti.voxels_hash`; of a photograph, over its file."""
    if is_photograph(path):
        return file_sha256(path)
    return voxels_hash(np.asanyarray(read_nifti(path).dataobj))


def of_volume(volume: Mapping[str, Any]) -> Content | None:
    """Return the content of a volume that was loaded; None if it was not loaded from a file.

    Args:
        volume: "image" and, where there is one, "label", as `LoadImaged` leaves them; also, where it is known, "id".
    """
    image = _hash(volume.get("image"))
    if image is None:
        return None
    path = str(volume["image"].meta["filename_or_obj"])
    return Content(str(volume.get("id", stem(path))), image, _hash(volume.get("label")), path)


def of_volumes(volumes: Iterable[Mapping[str, Any]]) -> list[Content]:
    """Return the contents of volumes that were loaded, see `of_volume`."""
    return [content for volume in volumes if (content := of_volume(volume)) is not None]


def of_files(items: Sequence[Mapping[str, str]], progress: bool = True) -> list[Content]:
    """Return the contents of volumes that nothing else has loaded.

    Args:
        items: with the path "image" and, if the label counts, "label"; also "id".
        progress: show a progress bar.

    Returns:
        A content for each file that can be read; the log names the others.
    """

    def read(item: Mapping[str, str]) -> Content | str:
        path = item["image"]
        try:
            label = voxels_sha256(item["label"]) if "label" in item else None
            return Content(item.get("id", stem(path)), voxels_sha256(path), label, path)
        except Exception as error:  # a damaged file can fail in any way
            return f"{path} ({type(error).__name__}: {error})"

    with ThreadPoolExecutor(num_cores()) as pool:  # zlib and hashlib let other threads run
        bar = tqdm(
            total=len(items), desc="Comparing volumes", unit="volume", disable=not progress, leave=False, delay=2
        )
        with bar:
            found = []
            for outcome in pool.map(read, items):
                found.append(outcome)
                bar.update()
    if unreadable := [outcome for outcome in found if isinstance(outcome, str)]:
        logger.warning(
            f"{len(unreadable)} of {len(items)} volumes cannot be read, and are not compared with the others: "
            f"{'; '.join(unreadable[:5])}. Copy them again."
        )
    return [outcome for outcome in found if isinstance(outcome, Content)]


def short_hashes(subsets: Mapping[str, Sequence[Content]]) -> dict[str, Any]:
    """Describe the contents of a run's volumes briefly, to be compared with those of another run.

    Args:
        subsets: the volumes of each subset by its name.

    Returns:
        For each subset its ids with a hash of image and label; for one without labels a single hash, as it can be long.
    """
    return {
        name: (
            _by_id(contents)
            if all(entry.label is not None for entry in contents)
            else _short([entry.image for entry in contents])
        )
        for name, contents in subsets.items()
    }


def _by_id(contents: Sequence[Content]) -> dict[str, str]:
    hashes: dict[str, list[str | None]] = {}
    for entry in contents:  # files of one name, where there are no ids, have one entry
        hashes.setdefault(entry.id, []).extend((entry.image, entry.label))
    return {id_: _short(values) for id_, values in hashes.items()}


def _short(hashes: Sequence[str | None]) -> str:
    return hashlib.sha256(repr(hashes).encode()).hexdigest()[:_SHORT]


def _hash(volume: Any) -> str | None:
    if not isinstance(volume, MetaTensor) or "filename_or_obj" not in volume.meta:
        return None
    known = volume.meta.get(VOXELS_HASH)
    return voxels_sha256(volume.meta["filename_or_obj"]) if known is None else str(known)
