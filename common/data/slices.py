"""All slices of a set of volumes: one tensor on the training device, or a memory-mapped file if it would be large."""

from __future__ import annotations

import functools
import hashlib
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import ignite.distributed as idist
import torch
from torch import Tensor
from tqdm import tqdm

from ..files import atomic_file
from ..transforms.eight_bit import unit_range
from ..transforms.labelled_slices import LABELLED_SLICES
from .content import Content, of_volumes
from .disk_space import room_on_disk
from .slice_store import MappedStore, StoreShape, add_to_hash, write_store

_BLOCK_BYTES = 2**26
_REMEDY = "choose another cache_dir, or keep more in memory (in_memory_gib)"

_Part = tuple[Tensor, Tensor | None]  # images (D, C, H, W) and labels (D, H, W) uint8 of D slices, contiguous


class Slices:
    """The slices of V volumes, one volume after another.

    Images of 8 bits are kept as they are; the values of a batch become 0 to 1 on the device.

    Letters: M slices in all, B slices of a batch, C channels, H rows, W columns.

    Args:
        images: (M, C, H, W), float32 or uint8.
        labels: uint8 (M, H, W) or None.
        starts: int64 (V + 1,) on the CPU; volume v holds the slices starts[v] to starts[v + 1] - 1, in the order of
            the volume's third axis.
        ids: V names of the volumes, for messages; their numbers by default.
        content: what is in the files of the volumes, for those that came from files.
        numbers: for each volume, which of its slices these are, int64 (D,) on the CPU, if some were left out; all by
            default.

    Attributes:
        device: where batches of slices are wanted.
        read_ahead: how many batches are worth reading before they are asked for.
    """

    read_ahead = 0

    def __init__(
        self,
        images: Tensor,
        labels: Tensor | None,
        starts: Tensor,
        ids: Sequence[str] | None = None,
        content: Sequence[Content] = (),
        numbers: Sequence[Tensor] = (),
    ) -> None:
        self.images = images
        self.labels = labels
        self.starts = starts
        self.ids = [f"volume {number}" for number in range(len(starts) - 1)] if ids is None else list(ids)
        self.content = list(content)
        self.numbers = list(numbers) or [torch.arange(int(length)) for length in starts.diff()]
        self.device = images.device

    @staticmethod
    def from_volumes(
        volumes: Iterable[dict[str, Any]],
        device: torch.device | str = "cpu",
        in_memory_gib: float = math.inf,
        cache_dir: str | os.PathLike[str] | None = None,
        progress: bool = True,
    ) -> Slices:
        """Take volumes apart along their third axis. Of a volume with `LABELLED_SLICES` these are taken.

        Slices that take more than `in_memory_gib` go to a file, which is memory-mapped. The volumes are then iterated
        twice: first to learn how many slices there are, and again to write the file. The name of the file is a hash of
        its content, so the same slices are written only once. It can be deleted when no run uses it.

        Args:
            volumes: dictionaries with "image" (C, H, W, D) and, in all of them or in none, "label" (1, H, W, D);
                also, where it is known, "id".
            device: where slices are wanted.
            in_memory_gib: the most that is kept on the device, in GiB; 0 takes a file in any case.
            cache_dir: folder of the file; without one it is a temporary file, gone when the process ends.
            progress: show a progress bar.

        Raises:
            ValueError: if there is no volume, `in_memory_gib` is negative, slices differ in size, some volumes have
                labels and others have not, or the volumes are others when they are iterated again.
            OSError: if there is no room for the file.
        """
        if not in_memory_gib >= 0:
            raise ValueError(f"in_memory_gib must be at least 0, got {in_memory_gib!r}.")
        ids: list[str] = []
        starts = [0]
        blocks: list[_Part] = []
        loose: list[_Part] = []
        contents: list[Content] = []
        numbers: list[Tensor] = []
        digest = hashlib.sha256()
        shape = StoreShape(0, 0, 0, False)
        for volume in tqdm(volumes, desc="Collecting slices", unit="volume", disable=not progress, leave=False):
            images, labels = _take_apart(volume)
            ids.append(str(volume.get("id", f"volume {len(ids)}")))
            contents += of_volumes([volume])
            numbers.append(_numbers(volume))
            starts.append(starts[-1] + len(images))
            channels, height, width = images.shape[1:]
            eight_bit = images.dtype == torch.uint8
            own = StoreShape(starts[-1], height, width, labels is not None, channels, eight_bit)
            if len(ids) > 1 and own[1:] != shape[1:]:
                raise ValueError(
                    "volumes must have slices of one size, and labels all or none, got (height, width, labelled, "
                    f"channels, 8 bits) {shape[1:]} of {ids[0]} and {own[1:]} of {ids[-1]}: give them the same "
                    "preprocessing."
                )
            shape = own
            add_to_hash(digest, images, labels)
            if shape.num_bytes > in_memory_gib * 2**30:
                blocks.clear()
                loose.clear()
                continue
            loose.append((images, labels))
            # In few large blocks: the memory of many small ones would not go back to the system if they are cleared.
            if sum(part.nbytes for part, _ in loose) > _BLOCK_BYTES:
                blocks.append(_join(loose))
                loose.clear()
        if not ids:
            raise ValueError("volumes must hold at least one volume, got none: check the list of ids.")
        if blocks or loose:
            images, labels = _join([*blocks, *loose])
            labels = None if labels is None else labels.to(device)
            return Slices(images.to(device), labels, torch.tensor(starts), ids, contents, numbers)
        again = tqdm(volumes, desc="Writing slices", unit="volume", disable=not progress, leave=False)
        with _open_store((_take_apart(volume) for volume in again), shape, cache_dir, digest.hexdigest()) as file:
            return MappedSlices(file, shape, torch.tensor(starts), ids, device, contents, numbers)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def num_volumes(self) -> int:
        """V, the number of volumes."""
        return len(self.starts) - 1

    def read(self, indices: Tensor) -> tuple[Tensor, Tensor | None]:
        """Get slices to where they can be moved to the device from without waiting; safe in another thread.

        Args:
            indices: int64 (B,) on the CPU.

        Returns:
            Images (B, C, H, W) as they are kept and labels (B, H, W) or None.
        """
        indices = indices.to(self.device, non_blocking=True)
        return self.images[indices], None if self.labels is None else self.labels[indices]

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return images (B, C, H, W) float32 and labels (B, H, W) or None of indices (B,), on the device."""
        return self.to_device(*self.read(indices))

    def to_device(self, images: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Move to the device what `read` returned, the images as float32."""
        images = unit_range(images.to(self.device, non_blocking=True))
        return images, None if labels is None else labels.to(self.device, non_blocking=True)


class MappedSlices(Slices):
    """Slices in a file, of which no more is in memory than the batches at hand; `images` and `labels` map the file.

    Args:
        file: a store, see `slice_store`; may be closed afterwards.
        shape: what it holds.
        starts: see `Slices`.
        ids: see `Slices`.
        device: where batches of slices are wanted.
        content: see `Slices`.
        numbers: see `Slices`.

    Raises:
        ValueError: if the file has another size than `shape` asks for.
    """

    read_ahead = 2

    def __init__(
        self,
        file: BinaryIO,
        shape: StoreShape,
        starts: Tensor,
        ids: Sequence[str] | None = None,
        device: torch.device | str = "cpu",
        content: Sequence[Content] = (),
        numbers: Sequence[Tensor] = (),
    ) -> None:
        self._store = MappedStore(file, shape)
        super().__init__(self._store.images, self._store.labels, starts, ids, content, numbers)
        self.device = torch.device(device)

    def read(self, indices: Tensor) -> tuple[Tensor, Tensor | None]:
        """Copy slices from the file to memory; where the device is a GPU, to memory that it reads by itself."""
        return self._store.copy(indices, pin_memory=self.device.type == "cuda")


def collector(
    device: torch.device | str, in_memory_gib: float, cache_dir: str | os.PathLike[str] | None
) -> Callable[[Iterable[dict[str, Any]]], Slices]:
    """Return `Slices.from_volumes` with all but the volumes given; see there."""
    return functools.partial(Slices.from_volumes, device=device, in_memory_gib=in_memory_gib, cache_dir=cache_dir)


def _join(parts: Sequence[_Part]) -> _Part:
    labels = [labels for _, labels in parts if labels is not None]
    return torch.cat([images for images, _ in parts]), torch.cat(labels) if labels else None


def _numbers(volume: dict[str, Any]) -> Tensor:
    """Return which slices of a volume are taken."""
    if LABELLED_SLICES in volume:
        return torch.as_tensor(volume[LABELLED_SLICES]).nonzero().flatten()
    return torch.arange(volume["image"].shape[-1])


def _take_apart(volume: dict[str, Any]) -> _Part:
    """Return a volume's slices along its third axis."""
    numbers = _numbers(volume)
    images = torch.as_tensor(volume["image"]).as_subclass(Tensor).permute(3, 0, 1, 2)
    images = images if len(numbers) == len(images) else images[numbers]
    images = (images if images.dtype == torch.uint8 else images.float()).contiguous()
    if "label" not in volume:
        return images, None
    labels = torch.as_tensor(volume["label"]).as_subclass(Tensor)[0].permute(2, 0, 1)
    labels = labels if len(numbers) == len(labels) else labels[numbers]
    return images, labels.to(torch.uint8).contiguous()


def _open_store(
    volumes: Iterable[_Part],
    shape: StoreShape,
    cache_dir: str | os.PathLike[str] | None,
    name: str,
) -> BinaryIO:
    """Open the file of the slices, writing it first if it is not there."""
    purpose = f"the {shape.num_slices} slices"
    if cache_dir is None:
        with room_on_disk(tempfile.gettempdir(), shape.num_bytes, purpose, _REMEDY), ExitStack() as cleaning:
            file = cleaning.enter_context(tempfile.TemporaryFile())  # has no name: it ends with its last user
            write_store(file, volumes, shape)
            cleaning.pop_all()
            return file
    path = Path(cache_dir, f"{name}.slices")
    with idist.one_rank_first():  # of several processes
        if not path.is_file() or path.stat().st_size != shape.num_bytes:
            with (
                room_on_disk(path.parent, shape.num_bytes, purpose, _REMEDY),
                atomic_file(path) as temporary,
                temporary.open("wb") as unfinished,
            ):
                write_store(unfinished, volumes, shape)
    return path.open("rb")
