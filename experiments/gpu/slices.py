"""Preprocessed volumes in few bytes: rounded on the way out, entries of the cache again on the way in.

The machine with the GPU gets neither the images nor the time for N4. So it gets the entries of the cache with their
values rounded to some bits, the labels as they are, and in place of each image a NIfTI file of the same grid that holds
nothing but a ramp. The cache finds an entry by the content of the file, so that entries are stored there under the
hashes of these stand-ins; without its entry, a stand-in would be segmented for what it is.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from numpy.typing import NDArray

from bundles.run import load_config
from common.data.cache import CachedTransformd, fill_cache
from common.data.splits import draws_of, pretraining_ids, read_split, select
from common.files import atomic_file

from .kit import KitError, sha256

INDEX = "volumes.json"
NUM_LABELLED = (1, 2, 8)
"""Of the headline table; the benchmark with all labels would need a third more volumes."""


def needed_ids(split_path: Path) -> list[str]:
    """Return the volumes that the draws of the headline table need, in order."""
    ids = set(pretraining_ids(split_path))
    for number, draws in draws_of(split_path).items():
        if number in NUM_LABELLED:
            for draw in draws:
                split = read_split(split_path, number, draw)
                ids.update(split.labelled + split.validation + split.test)
    return sorted(ids)


def preprocessing_of(bundle: Path, **overrides: Any) -> CachedTransformd:
    """Return a bundle's preprocessing with its cache, as all its configs have it."""
    return load_config(bundle, "train", **overrides).get_parsed_content("cached_preprocessing")


def round_values(volume: NDArray[np.float32], bits: int) -> tuple[NDArray[np.uint16], float, float]:
    """Round values to 2 ** bits steps between the lowest and the highest.

    Args:
        volume: of any shape, finite.
        bits: 8 to 16.

    Returns:
        The numbers of the steps, the lowest value and the step's size: value = lowest + number * size, to half a step.
    """
    if not 8 <= bits <= 16:
        raise ValueError(f"bits must be 8 to 16, got {bits!r}: choose fewer where the kit would be too large.")
    lowest, highest = float(volume.min()), float(volume.max())
    size = (highest - lowest) / (2**bits - 1)
    numbers = np.zeros(volume.shape) if size == 0 else np.rint((volume.astype(np.float64) - lowest) / size)
    return numbers.astype(np.uint16), lowest, size


def restore_values(numbers: NDArray[np.uint16], lowest: float, size: float) -> NDArray[np.float32]:
    """Return the values that `round_values` rounded."""
    return (lowest + numbers * size).astype(np.float32)


def pack_slices(
    archive: Path, dataset_dir: Path, items: Sequence[dict[str, str]], cached: CachedTransformd, bits: int
) -> dict[str, Any]:
    """Write the volumes of a datalist, preprocessed and rounded, with their labels.

    Args:
        archive: the zip file to be.
        dataset_dir: the dataset's folder, which the paths in the archive are relative to.
        items: of a datalist; all with an image, and with a label where there is one.
        cached: the preprocessing; what it has not in its cache yet is computed.
        bits: of a value, 8 to 16.

    Returns:
        How many volumes and slices there are, and the rounding error: the greatest and the root mean square, in units
        of the normalised range (1st to 99th percentile).
    """
    fill_cache([item["image"] for item in items], cached)
    worst, squares, values, slices = 0.0, 0.0, 0, 0
    index = []
    with atomic_file(archive) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_LZMA) as target:
        for item in items:
            path = cached.entry_path(item["image"])
            assert path is not None
            entry = torch.load(path, weights_only=True)
            volume = entry.pop("volume").numpy()
            numbers, lowest, size = round_values(volume, bits)
            error = np.abs(restore_values(numbers, lowest, size).astype(np.float64) - volume)
            worst, squares = max(worst, float(error.max())), squares + float((error**2).sum())
            values, slices = values + volume.size, slices + volume.shape[-1]
            by_slice = np.ascontiguousarray(np.moveaxis(numbers, -1, 0))  # neighbours in the plane compress best
            parts = {"low": by_slice.astype(np.uint8), "high": (by_slice >> 8).astype(np.uint8)}
            for name, plane in parts.items():
                target.writestr(f"{item['id']}/{name}", plane.tobytes())
            rest = io.BytesIO()
            torch.save(entry, rest)
            target.writestr(f"{item['id']}/entry.pt", rest.getvalue())
            copied = [Path(item["label"])] if "label" in item else []
            copied += [info for info in [Path(item["image"]).with_name("Info.cfg")] if info.is_file()]
            for file in copied:
                target.write(file, f"files/{file.relative_to(dataset_dir).as_posix()}")
            image = Path(item["image"]).relative_to(dataset_dir).as_posix()
            index.append(
                {"id": item["id"], "image": image, "shape": list(by_slice.shape), "lowest": lowest, "size": size}
            )
        target.writestr(INDEX, json.dumps(index))
    rms = (squares / values) ** 0.5
    return {"volumes": len(index), "slices": slices, "bits": bits, "greatest_error": worst, "rms_error": rms}


def unpack_slices(archive: Path, dataset_dir: Path, cached: CachedTransformd) -> None:
    """Make a dataset's folder of what `pack_slices` wrote, and the entries of its volumes in the cache.

    Args:
        archive: the zip file.
        dataset_dir: the folder to write to; nothing is done if the same archive was unpacked there.
        cached: the preprocessing of this machine, whose cache gets the entries.

    Raises:
        KitError: if the archive did not travel.
    """
    if not archive.is_file():
        raise KitError(f"{archive} is not here: carry it as well.")
    stamp, digest = dataset_dir / ".unpacked", sha256(archive)
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == digest:
        return
    with zipfile.ZipFile(archive) as source:
        for name in source.namelist():
            if name.startswith("files/"):
                path = dataset_dir / name.removeprefix("files/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(source.read(name))
        for number, volume in enumerate(json.loads(source.read(INDEX))):
            low, high = (
                np.frombuffer(source.read(f"{volume['id']}/{name}"), np.uint8).reshape(volume["shape"])
                for name in ("low", "high")
            )
            numbers = np.ascontiguousarray(np.moveaxis(low + 256 * high.astype(np.uint16), 0, -1))
            entry = torch.load(io.BytesIO(source.read(f"{volume['id']}/entry.pt")), weights_only=True)
            values = restore_values(numbers, volume["lowest"], volume["size"])
            image = dataset_dir / volume["image"]
            _write_stand_in(image, entry["meta"], number)
            entry_path = cached.entry_path(image)
            assert entry_path is not None
            with atomic_file(entry_path) as temporary:
                torch.save({"volume": torch.from_numpy(values), **entry}, temporary)
    stamp.write_text(digest, encoding="utf-8")


def _write_stand_in(path: Path, meta: dict[str, Any], number: int) -> None:
    """Write a NIfTI file with the grid that a volume had, and content of its own, since hashes tell files apart."""
    shape: Iterable[int] = [int(length) for length in meta["spatial_shape"]]
    voxels = np.empty(tuple(shape), np.int16)
    voxels[:] = np.arange(voxels.shape[0])[:, None, None] + 1000 * number % 30_000
    image = nibabel.Nifti1Image(voxels, np.asarray(meta["original_affine"], np.float64))
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)


def select_needed(bundle: Path, dataset_dir: Path, split_path: Path) -> list[dict[str, str]]:
    """Return the items of a dataset that the headline table needs."""
    items = load_config(bundle, "train").get_parsed_content("datalist")(str(dataset_dir))
    wanted = {item["id"] for item in select(items, needed_ids(split_path))}  # says which are missing
    return [dict(item) for item in items if item["id"] in wanted]  # with labels, which `select` takes from some
