"""A file of slices: all images, then all labels, as they lie in memory, so that it can be mapped instead of read."""

from __future__ import annotations

import hashlib
import mmap
import warnings
from collections.abc import Iterable
from typing import BinaryIO, NamedTuple

import torch
from torch import Tensor


class StoreShape(NamedTuple):
    """What a store holds.

    Attributes:
        num_slices: M.
        height: H, rows of a slice.
        width: W, columns of a slice.
        labelled: whether there is a label map for each slice.
        channels: C, of an image.
        eight_bit: whether images are uint8; float32 otherwise.
    """

    num_slices: int
    height: int
    width: int
    labelled: bool
    channels: int = 1
    eight_bit: bool = False

    @property
    def dtype(self) -> torch.dtype:
        """The type of the images."""
        return torch.uint8 if self.eight_bit else torch.float32

    @property
    def label_bytes(self) -> int:
        """Bytes of a label map for each slice, uint8."""
        return self.num_slices * self.height * self.width

    @property
    def image_bytes(self) -> int:
        """Bytes of all images."""
        return self.dtype.itemsize * self.channels * self.label_bytes

    @property
    def num_bytes(self) -> int:
        """Bytes of the file."""
        return self.image_bytes + self.labelled * self.label_bytes


def add_to_hash(digest: hashlib._Hash, images: Tensor, labels: Tensor | None) -> None:
    """Add a volume's slices, contiguous (D, C, H, W) and (D, H, W) uint8, to a hash of all."""
    digest.update(repr((tuple(images.shape), labels is not None)).encode())
    for part in (images, labels):
        if part is not None:
            digest.update(part.numpy().data)


def write_store(file: BinaryIO, volumes: Iterable[tuple[Tensor, Tensor | None]], shape: StoreShape) -> None:
    """Write a store volume by volume.

    Args:
        file: an empty file.
        volumes: images (D, C, H, W) and labels (D, H, W) uint8 of each volume, contiguous.
        shape: what comes of them.

    Raises:
        ValueError: if the volumes are not those that `shape` was taken from.
    """
    pixels, written = shape.height * shape.width, 0
    image_bytes = shape.dtype.itemsize * shape.channels * pixels
    for images, labels in volumes:
        file.seek(image_bytes * written)
        file.write(images.numpy().data)
        if labels is not None:
            file.seek(shape.image_bytes + pixels * written)
            file.write(labels.numpy().data)
        written += len(images)
    file.flush()
    if written != shape.num_slices or file.seek(0, 2) != shape.num_bytes:
        raise ValueError(
            f"volumes must give the same slices each time they are iterated, got {shape.num_slices} and then "
            f"{written}: pass a list or a dataset with deterministic transforms, and leave its files alone."
        )


class MappedStore:
    """A store that is mapped into memory; nothing is read before it is used.

    Args:
        file: of `write_store`; may be closed afterwards.
        shape: what it holds.

    Attributes:
        images: (M, C, H, W), float32 or uint8, must not be written to.
        labels: uint8 (M, H, W) or None, must not be written to.

    Raises:
        ValueError: if the file has another size.
    """

    def __init__(self, file: BinaryIO, shape: StoreShape) -> None:
        self._mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._labels_start = shape.image_bytes
        if len(self._mapping) != shape.num_bytes:
            raise ValueError(
                f"file must have {shape.num_bytes} bytes to hold {shape}, got {len(self._mapping)}: write it again."
            )
        with warnings.catch_warnings():
            # Torch warns that it has no tensors that refuse to be written to. A mapping that accepts writes would count
            # as memory in use, and be refused where the file is larger than that.
            warnings.filterwarnings("ignore", "The given buffer is not writable")
            count = shape.channels * shape.label_bytes
            images = torch.frombuffer(self._mapping, dtype=shape.dtype, count=count)
            self.images = images.view(-1, shape.channels, shape.height, shape.width)
            self.labels: Tensor | None = None
            if shape.labelled:
                labels = torch.frombuffer(self._mapping, dtype=torch.uint8, offset=shape.image_bytes)
                self.labels = labels.view(-1, shape.height, shape.width)

    def copy(self, indices: Tensor, pin_memory: bool = False) -> tuple[Tensor, Tensor | None]:
        """Copy slices to memory.

        Args:
            indices: int64 (B,) on the CPU.
            pin_memory: whether to memory that a GPU reads by itself.

        Returns:
            Images (B, C, H, W) and labels (B, H, W) or None.
        """
        images = self._copy(self.images, 0, indices, pin_memory)
        labels = None if self.labels is None else self._copy(self.labels, self._labels_start, indices, pin_memory)
        if hasattr(mmap, "MADV_DONTNEED"):
            # What was read would otherwise count as this process's memory until another one asks for it.
            self._mapping.madvise(mmap.MADV_DONTNEED)
        return images, labels

    def _copy(self, source: Tensor, source_start: int, indices: Tensor, pin_memory: bool) -> Tensor:
        if hasattr(mmap, "MADV_WILLNEED"):
            # Ask for all slices at once, and for no more: for a page that is missing the system would read megabytes
            # around it, and wait for them.
            size = source[0].nbytes
            for start in (source_start + size * indices).tolist():
                page = start - start % mmap.PAGESIZE
                self._mapping.madvise(mmap.MADV_WILLNEED, page, start + size - page)
        copy = torch.empty((len(indices), *source.shape[1:]), dtype=source.dtype, pin_memory=pin_memory)
        return torch.index_select(source, 0, indices, out=copy)
