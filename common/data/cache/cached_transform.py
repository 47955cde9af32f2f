"""The transform that keeps what it has computed, and the form of an entry on disk."""

from __future__ import annotations

import enum
import hashlib
import io
import logging
import os
from collections.abc import Hashable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, InvertibleTransform, MapTransform
from monai.transforms.utils import allow_missing_keys_mode
from monai.utils import TraceKeys

from ...checkpoints import checked_archive
from ...files import atomic_file
from ...transforms.trimming import BODY_BOX
from ..disk_space import room_on_disk
from ..nifti import VOXELS_HASH, nifti_files
from .fingerprint import fingerprint

logger = logging.getLogger(__name__)

ROOM = ("preprocessed volumes", "choose another cache_dir")
_KEPT_META = ("affine", "original_affine", "spatial_shape", "pixdim", VOXELS_HASH, BODY_BOX)


class CachedTransformd(MapTransform, InvertibleTransform):
    """Replace the path of a file by its preprocessed volume, computed once and kept on disk.

    MONAI's `PersistentDataset` does not serve. It cannot load its own entries of volumes with metadata, and computes
    them again each time. An entry that was cut short ends the run. It writes to the system's temporary folder and moves
    the file from there, which is a copy where that is another disk.

    Args:
        keys: the key of the path, and of the volume in its place; one key only.
        transform: deterministic dictionary transforms that load and preprocess what is under that key.
        cache_dir: folder of the entries, made if needed; None keeps nothing on disk.

    Raises:
        ValueError: if more than one key is given.
        TypeError: (on first use) if the transform cannot be cached, see `fingerprint`.
    """

    def __init__(self, keys: str, transform: Compose, cache_dir: str | os.PathLike[str] | None) -> None:
        super().__init__(keys)
        if len(self.keys) != 1:
            raise ValueError(f"keys must be a single key, got {keys!r}; use one CachedTransformd for each.")
        self.key: Hashable = self.keys[0]
        self.transform = transform
        self.cache_dir = None if cache_dir is None else Path(cache_dir)

    @cached_property
    def fingerprint(self) -> str:
        """What the transform does, see `fingerprint`; worked out once."""
        return fingerprint(self.transform)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with the (C, X, Y, Z) volume in place of its path, float32 or, if it has 8 bits, uint8.

        Whether it was computed or read makes no difference to the result: of the metadata, affine, original affine,
        spatial shape, pixdim, hash of the voxels, box of the body and file name are left, and the trace of transforms
        fits any instance of them.
        """
        d = dict(data)
        for key in self.key_iterator(d):
            path = Path(d[key]).expanduser()
            entry_path = self.entry_path(path)
            entry = None if entry_path is None else _read(entry_path)
            if entry is None:
                entry = _pack(self.transform({key: str(path)})[key])
                if entry_path is not None:
                    content = io.BytesIO()
                    torch.save(entry, content)  # not to the file: a full disk would come out as a RuntimeError
                    with (  # the view is released on an error too, see `save_atomically`
                        content.getbuffer() as view,
                        room_on_disk(entry_path.parent, view.nbytes, *ROOM),
                        atomic_file(entry_path) as temporary,
                    ):
                        temporary.write_bytes(view)
            d[key] = _unpack(entry, path)
        return d

    def entry_path(self, path: str | os.PathLike[str]) -> Path | None:
        """Return where the volume of a file is kept, whether it is there or not; None without a cache folder."""
        if self.cache_dir is None:
            return None
        digest = hashlib.sha256(self.fingerprint.encode())
        for file in dict.fromkeys(nifti_files(Path(path).expanduser())):
            digest.update(file.read_bytes())
        return self.cache_dir / f"{digest.hexdigest()}.pt"

    def inverse(self, data: Mapping[Hashable, Any]) -> Any:
        """Undo the geometric transforms of the wrapped transform."""
        with allow_missing_keys_mode(self.transform):
            return self.transform.inverse(data)


def _pack(volume: MetaTensor) -> dict[str, Any]:
    """Return a volume as tensors and plain containers, which `torch.load(weights_only=True)` accepts."""
    kept = torch.uint8 if volume.dtype == torch.uint8 else torch.float32
    return {
        # A crop is a view: without the copy, everything that was cropped away would be stored with it.
        "volume": volume.as_tensor().to("cpu", kept).clone(memory_format=torch.contiguous_format),
        "meta": {key: plain_values(volume.meta[key]) for key in _KEPT_META if key in volume.meta},
        "applied_operations": plain_values(volume.applied_operations),
    }


def plain_values(value: Any) -> Any:
    """Return metadata or a trace of transforms as plain containers and tensors; a trace then fits any instance of them.

    Raises:
        TypeError: if there is a value in it that has no such form.
    """
    if isinstance(value, enum.Enum):
        return plain_values(value.value)
    if isinstance(value, torch.Tensor):
        return (value.as_tensor() if isinstance(value, MetaTensor) else value).detach().cpu().clone()
    if isinstance(value, np.ndarray):
        return torch.as_tensor(value.copy())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        plain = {plain_values(key): plain_values(entry) for key, entry in value.items()}
        if TraceKeys.CLASS_NAME in plain and TraceKeys.ID in plain:
            plain[str(TraceKeys.ID)] = str(TraceKeys.NONE)  # MONAI then takes any instance of the class to invert it
        return plain
    if isinstance(value, (list, tuple)):
        return (list if isinstance(value, list) else tuple)(plain_values(entry) for entry in value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"volume must have metadata of plain values and arrays to be cached, got {value!r}.")


def _unpack(entry: dict[str, Any], path: Path) -> MetaTensor:
    # LoadImaged gives these as arrays, all but the affine and texts.
    as_it_is = {key: value for key, value in entry["meta"].items() if key == "affine" or isinstance(value, str)}
    meta = {key: as_it_is.get(key, np.asarray(value)) for key, value in entry["meta"].items()}
    return MetaTensor(
        entry["volume"],
        meta={**meta, "filename_or_obj": str(path)},
        applied_operations=entry["applied_operations"],
    )


def _read(entry_path: Path) -> dict[str, Any] | None:
    """Return an entry, or None if it is not there or cannot be used."""
    try:
        entry = torch.load(checked_archive(entry_path), weights_only=True)
        return {key: entry[key] for key in ("volume", "meta", "applied_operations")}
    except FileNotFoundError:
        return None
    except Exception as error:  # a damaged file can fail in any way; the volume is computed again in any case
        logger.warning(f"Cannot read {entry_path} ({type(error).__name__}: {error}); computing the volume again.")
        return None
