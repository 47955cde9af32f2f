"""Preprocessed volumes on disk: N4 and resampling are done once for each file, not once for each run.

An entry is found by the content of the file and a fingerprint of the preprocessing, so that a changed file or a changed
parameter is never answered with an old result, and the same file under another path is not computed again. An entry
holds tensors and plain containers only. It carries MONAI's trace of the geometric transforms, so that predictions made
on a volume from the cache go back to the grid of the file with the stock `Invertd`.
"""

from __future__ import annotations

import enum
import hashlib
import importlib.metadata
import io
import logging
import os
import types
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.data.image_reader import ImageReader
from monai.transforms import Compose, InvertibleTransform, MapTransform, RandomizableTrait, Transform
from monai.transforms.utils import allow_missing_keys_mode
from monai.utils import TraceKeys
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ..checkpoints import checked_archive
from ..files import WriteError, atomic_file
from ..transforms.trimming import BODY_BOX
from ..transforms.volume import VolumeError
from .disk_space import check_room, room_on_disk
from .nifti import VOXELS_HASH, nifti_files
from .volume_files import DatasetError

logger = logging.getLogger(__name__)

CACHE_VERSION = 4  # to be raised when a transform of this package gives another result for the same parameters

_ROOM = ("preprocessed volumes", "choose another cache_dir")
_KEPT_META = ("affine", "original_affine", "spatial_shape", "pixdim", VOXELS_HASH, BODY_BOX)
_EPHEMERAL = {"R", "_tracing", "filenames", "has_series"}  # random state, tracing, what a reader read last


def fingerprint(transform: Any) -> str:
    """Return a hash of what a deterministic transform does, the same in every process.

    It covers the classes of the transform and of all transforms within, their parameters, the versions of monai and of
    itk-filtering, and `CACHE_VERSION`. Lists and tuples with equal contents count as equal.

    Args:
        transform: a transform, possibly composed of others.

    Returns:
        64 hexadecimal digits.

    Raises:
        TypeError: if a transform is random, or a parameter is of a kind that has no lasting description.
    """
    versions = [CACHE_VERSION, _version("monai"), _version("itk-filtering")]
    return hashlib.sha256(repr((versions, _describe(transform))).encode()).hexdigest()


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _describe(value: Any) -> Any:
    """Return nested tuples of strings that are equal for two values that act alike, and differ otherwise."""
    if isinstance(value, enum.Enum):
        return (_qualified_name(type(value)), _describe(value.value))
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return (type(value).__name__, repr(value))
    if isinstance(value, (torch.dtype, torch.device, np.dtype)):
        return (type(value).__name__, str(value))
    if isinstance(value, (torch.Tensor, np.ndarray, np.generic)):
        array = np.asarray(value.detach().cpu() if isinstance(value, torch.Tensor) else value)
        if array.dtype != object:
            return ("array", str(array.dtype), str(array.shape), hashlib.sha256(array.tobytes()).hexdigest())
    if isinstance(value, Mapping):
        return ("mapping", *sorted(((_describe(key), _describe(entry)) for key, entry in value.items()), key=repr))
    if isinstance(value, (list, tuple)):
        return ("sequence", *(_describe(entry) for entry in value))
    if isinstance(value, (set, frozenset)):
        return ("set", *sorted((_describe(entry) for entry in value), key=repr))
    if isinstance(value, partial):
        return ("partial", _describe(value.func), _describe(value.args), _describe(value.keywords))
    if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType)) and "<" not in value.__qualname__:
        return ("name", _qualified_name(value))
    if isinstance(value, RandomizableTrait) and type(value) is not Compose:
        raise TypeError(f"transform must be deterministic to be cached, got {_qualified_name(type(value))}.")
    if isinstance(value, (Transform, ImageReader)):
        attributes = {name: entry for name, entry in vars(value).items() if name not in _EPHEMERAL}
        return (_qualified_name(type(value)), _describe(attributes))
    raise TypeError(
        f"transform must be made of transforms, numbers, strings, arrays, containers and named functions to be cached, "
        f"got {value!r} within it."
    )


def _qualified_name(named: Any) -> str:
    return f"{named.__module__}.{named.__qualname__}"


class CachedTransformd(MapTransform, InvertibleTransform):
    """Replace the path of a file by its preprocessed volume, computed once and kept on disk.

    Args:
        keys: the key of the path, and of the volume in its place; one key only.
        transform: deterministic dictionary transforms that load and preprocess what is under that key.
        cache_dir: folder of the entries, made if needed; None keeps nothing on disk.

    Raises:
        ValueError: if more than one key is given.
        TypeError: if the transform cannot be cached, see `fingerprint`.
    """

    def __init__(self, keys: str, transform: Compose, cache_dir: str | os.PathLike[str] | None) -> None:
        super().__init__(keys)
        if len(self.keys) != 1:
            raise ValueError(f"keys must be a single key, got {keys!r}; use one CachedTransformd for each.")
        self.key: Hashable = self.keys[0]
        self.transform = transform
        self.cache_dir = None if cache_dir is None else Path(cache_dir)
        self._fingerprint = "" if cache_dir is None else fingerprint(transform)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with the (C, X, Y, Z) float32 volume in place of its path.

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
                    size = content.getbuffer().nbytes
                    with room_on_disk(entry_path.parent, size, *_ROOM), atomic_file(entry_path) as temporary:
                        temporary.write_bytes(content.getbuffer())
            d[key] = _unpack(entry, path)
        return d

    def entry_path(self, path: str | os.PathLike[str]) -> Path | None:
        """Return where the volume of a file is kept, whether it is there or not; None without a cache folder."""
        if self.cache_dir is None:
            return None
        digest = hashlib.sha256(self._fingerprint.encode())
        for file in dict.fromkeys(nifti_files(Path(path).expanduser())):
            digest.update(file.read_bytes())
        return self.cache_dir / f"{digest.hexdigest()}.pt"

    def inverse(self, data: Mapping[Hashable, Any]) -> Any:
        """Undo the geometric transforms of the wrapped transform."""
        with allow_missing_keys_mode(self.transform):
            return self.transform.inverse(data)


def _pack(volume: MetaTensor) -> dict[str, Any]:
    """Return a volume as tensors and plain containers, which `torch.load(weights_only=True)` accepts."""
    return {
        # A crop is a view: without the copy, everything that was cropped away would be stored with it.
        "volume": volume.as_tensor().to("cpu", torch.float32).clone(memory_format=torch.contiguous_format),
        "meta": {key: _plain(volume.meta[key]) for key in _KEPT_META if key in volume.meta},
        "applied_operations": _plain(volume.applied_operations),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return _plain(value.value)
    if isinstance(value, torch.Tensor):
        return (value.as_tensor() if isinstance(value, MetaTensor) else value).detach().cpu().clone()
    if isinstance(value, np.ndarray):
        return torch.as_tensor(value.copy())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        plain = {_plain(key): _plain(entry) for key, entry in value.items()}
        if TraceKeys.CLASS_NAME in plain and TraceKeys.ID in plain:
            plain[str(TraceKeys.ID)] = str(TraceKeys.NONE)  # MONAI then takes any instance of the class to invert it
        return plain
    if isinstance(value, (list, tuple)):
        return (list if isinstance(value, list) else tuple)(_plain(entry) for entry in value)
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


def fill_cache(
    files: Sequence[str | os.PathLike[str]],
    cached: CachedTransformd,
    num_workers: int | None = None,
    progress: bool = True,
) -> None:
    """Compute the entries that are not there yet.

    Two or more are computed in processes of their own, of one torch and one ITK thread each. These are spawned: a
    script that calls this needs the usual `if __name__ == "__main__":`. Interrupting is safe: what is finished is kept,
    and the next call goes on from there.

    Args:
        files: paths of the volumes; duplicates are computed once.
        cached: the transform; without a cache folder nothing is done.
        num_workers: processes; None takes one for each core, 0 or 1 computes in this process.
        progress: show a progress bar.

    Raises:
        VolumeError: lists every file that could not be preprocessed, and why; the others are stored.
        WriteError: if the cache folder cannot be written to; that it has no room is said before the other entries are
            computed, as far as the first lets tell.
    """
    if cached.cache_dir is None:
        return
    missing: dict[Path, str] = {}
    failures: list[str] = []
    for file in files:
        try:
            entry_path = cached.entry_path(file)
        except (OSError, VolumeError) as error:
            failures.append(describe_failure(error, file))
        else:
            if entry_path is not None and not entry_path.exists():
                missing.setdefault(entry_path, os.fspath(file))
    workers = min(len(missing), num_cores() if num_workers is None else num_workers)
    loader = DataLoader(
        _Filling(list(missing.values()), cached),
        batch_size=None,
        num_workers=workers if workers > 1 else 0,
        multiprocessing_context="spawn" if workers > 1 else None,
        worker_init_fn=_limit_itk_threads,
        in_order=False,
        generator=torch.Generator(),  # otherwise a number would be drawn from the global one
    )
    bar = tqdm(loader, desc="Preprocessing volumes", unit="volume", disable=not (progress and missing))
    first = None
    for done, outcome in enumerate(bar, start=1):
        if isinstance(outcome, WriteError):
            raise outcome
        if outcome:
            failures.append(outcome)
        elif first is None:
            first = next(entry_path for entry_path in missing if entry_path.exists())
            check_room(cached.cache_dir, first.stat().st_size * (len(missing) - done), *_ROOM)
    if failures:
        raise VolumeError("\n".join([f"{len(failures)} of {len(files)} volumes cannot be preprocessed:", *failures]))


def prepare(
    datalist: Callable[[str], list[dict[str, str]]], dataset_dir: str, cached: CachedTransformd, **options: Any
) -> None:
    """Fill the cache with all images of a dataset; what is wrong with some of them is said after the others are done.

    Args:
        datalist: one of `datalists`.
        dataset_dir: the dataset's folder.
        cached: the transform.
        **options: `num_workers` and `progress`, see `fill_cache`.

    Raises:
        DatasetError: if there is no dataset, or files of it are missing or there twice.
        VolumeError: if files could not be preprocessed; it also says what a `DatasetError` would.
    """
    problem: DatasetError | None = None
    try:
        items = datalist(dataset_dir)
    except DatasetError as error:
        problem, items = error, error.usable
    try:
        fill_cache([item["image"] for item in items], cached, **options)
    except VolumeError as error:
        raise VolumeError(f"{error}\n{problem or ''}".strip()) from None
    if problem is not None:
        raise problem
    logger.info(f"All {len(items)} volumes of {dataset_dir} are in {cached.cache_dir}.")


def num_cores() -> int:
    """Return the cores that this process may use, which in a container can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Filling(Dataset):
    """Stores the entry of a file when asked for an item.

    The item is the failure, empty if there was none, or the error if the cache folder cannot be written to.
    """

    def __init__(self, files: list[str], cached: CachedTransformd) -> None:
        self.files = files
        self.cached = cached

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> str | WriteError:
        try:
            self.cached({self.cached.key: self.files[index]})
        except Exception as error:  # one bad file must not cost the others
            if isinstance(error, WriteError):
                return error
            return describe_failure(error, self.files[index])
        return ""


def _limit_itk_threads(_: int) -> None:
    # Read when ITK is first used, which in a new process is later. Torch limits its own threads in such a process.
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"


def describe_failure(error: BaseException, path: str | os.PathLike[str]) -> str:
    """Say in one line why a volume could not be loaded or preprocessed, and what to do about it.

    Args:
        error: what was raised; MONAI's wrapping ("applying transform ...") is looked through.
        path: the file that was treated.

    Returns:
        A message that begins with the name of the file.
    """
    while error.__cause__ is not None and not isinstance(error, (VolumeError, WriteError)):
        error = error.__cause__
    if isinstance(error, VolumeError):
        return str(error)
    if isinstance(error, WriteError):
        return str(error.strerror)
    if not os.path.exists(path):
        return f"{path} does not exist. Check the path."
    return f"{path} could not be preprocessed. ({type(error).__name__}: {' '.join(str(error).split())})"
