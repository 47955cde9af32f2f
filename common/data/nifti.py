"""The one way in which images and labels are read: whole, checked, and with nibabel's affine in mm."""

from __future__ import annotations

import gzip
import hashlib
import io
import logging
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from monai.config import PathLike
from monai.data import NibabelReader
from monai.utils import MetaKeys, ensure_tuple
from nibabel.filebasedimages import ImageFileError
from nibabel.fileholders import FileHolder
from nibabel.spatialimages import HeaderDataError

from ..transforms.volume import VolumeError
from .nifti_header import (
    HEADER_BYTES,
    Header,
    bytes_of_voxels,
    check_header,
    check_plausible,
    millimetres,
    parse_header,
)
from .volume_files import kind_of_pair, partner

logger = logging.getLogger(__name__)

_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_RATIO = 1032  # deflate cannot compress more
_IMAGES = {kind.header_class: kind for kind in (nib.Nifti1Image, nib.Nifti1Pair, nib.Nifti2Image, nib.Nifti2Pair)}
VOXELS_HASH = "voxels_sha256"
"""Where a volume that was read has the hash of its stored voxels among its metadata, see `voxels_hash`."""


class NiftiReader(NibabelReader):
    """MONAI reader of NIfTI files that refuses damaged files and impossible headers, before their voxels are read.

    Differences to `NibabelReader`:

    - Compressed files are read to their end, where their checksum is, whatever they are called.
    - Of sform and qform the one that holds by the standard is taken, also where the header's voxel sizes disagree.
    - Headers in metres or micrometres are read as such; affine and voxel sizes (pixdim) are in mm.
    - The metadata have "voxels_sha256", see `voxels_hash`. Doubts about a header are logged as warnings.

    Everything happens in `get_data`: `LoadImage` tries all its other readers when `read` fails, and these would take
    what was refused.

    Args:
        spacing_mm: smallest and largest voxel size that is accepted, in mm.
        field_of_view_mm: smallest and largest extent of a volume, in mm; larger ones are refused, with smaller ones a
            warning is logged. By default those of MR of a part of the body.
        **options: of `NibabelReader`.

    Raises:
        ValueError: if bounds are not two positive numbers in order.
    """

    def __init__(
        self,
        spacing_mm: Sequence[float] = (0.05, 50.0),
        field_of_view_mm: Sequence[float] = (50.0, 1000.0),
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.spacing_mm = _bounds("spacing_mm", spacing_mm)
        self.field_of_view_mm = _bounds("field_of_view_mm", field_of_view_mm)

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Say whether the names are those of NIfTI files."""
        suffixes = (".nii", ".nii.gz", ".hdr", ".img", ".hdr.gz", ".img.gz")
        return all(str(name).lower().endswith(suffixes) for name in ensure_tuple(filename))

    def read(self, data: Sequence[PathLike] | PathLike, **_: Any) -> Sequence[PathLike]:
        """Take note of the files; nothing is read yet."""
        self.filenames = ensure_tuple(data)
        return self.filenames

    def get_data(self, img: Sequence[PathLike]) -> tuple[np.ndarray, dict[str, Any]]:
        """Read the files that `read` returned.

        Args:
            img: names of NIfTI files of one volume; several are stacked as channels.

        Returns:
            The voxels, scaled as the header says, with the axes in the order of the file; and the metadata.

        Raises:
            VolumeError: if a file is damaged or its header impossible. The message begins with its name.
            OSError: if a file cannot be opened.
        """
        images = [read_nifti(path, self._check_plausible) for path in ensure_tuple(img)]
        voxels, meta = super().get_data(images)
        scale = millimetres(images[0].header)
        if scale != 1:
            for key in (MetaKeys.AFFINE, MetaKeys.ORIGINAL_AFFINE):
                meta[key] = np.diag([scale, scale, scale, 1.0]) @ meta[key]
            for key in (MetaKeys.PIXDIM, MetaKeys.ORIGINAL_PIXDIM):
                meta[key][1:4] *= scale
        meta[VOXELS_HASH] = voxels_hash(voxels)
        return voxels, meta

    def _check_plausible(self, header: Header, name: str) -> None:
        for doubt in check_plausible(header, name, self.spacing_mm, self.field_of_view_mm):
            logger.warning(doubt)


def _bounds(name: str, values: Sequence[float]) -> tuple[float, float]:
    low, high = (float(value) for value in values)
    if not 0 < low < high:
        raise ValueError(f"{name} must be a smallest and a largest positive number of mm, got {list(values)!r}.")
    return low, high


def voxels_hash(voxels: np.ndarray) -> str:
    """Return the SHA-256 of an image as stored: of its shape and its values in float32, the last axis running fastest.

    Another compression, data type or header of the same values gives the same hash, another orientation does not.

    Args:
        voxels: (X, Y, Z) or (X, Y, Z, C), scaled as the header says; axes of length one at the end do not count.

    Returns:
        64 hexadecimal digits.
    """
    shape = list(voxels.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    digest = hashlib.sha256(repr(shape).encode())
    for part in voxels:  # piece by piece, since a copy of the whole would take as much memory again
        digest.update(np.ascontiguousarray(part, dtype="<f4").data)
    return digest.hexdigest()


def nifti_files(path: PathLike) -> tuple[Path, Path]:
    """Return the files with the header and with the voxels of a volume: twice the same, but for .hdr and .img.

    Raises:
        VolumeError: if one of .hdr and .img is there and the other is not.
    """
    path = Path(path)
    kind = kind_of_pair(path)
    if not kind or not path.exists():
        return path, path
    other = partner(path)
    if other is None:
        plain = path.with_suffix("") if path.suffix.lower() == ".gz" else path
        missing = plain.with_suffix({".hdr": ".img", ".img": ".hdr"}[kind]).name
        raise VolumeError(f"{path} is one of two files of a volume, and {missing} is missing. Put it beside the other.")
    return (path, other) if kind == ".hdr" else (other, path)


def read_header(path: PathLike) -> Header:
    """Read and check the header of a volume without its voxels.

    Args:
        path: a NIfTI file, compressed or not, or one of a pair.

    Raises:
        VolumeError: if the header is damaged or impossible.
        OSError: if the file cannot be opened.
    """
    header_path, voxel_path = nifti_files(path)
    with _open(header_path, str(path)) as (file, _):
        header = parse_header(file.read(HEADER_BYTES), str(path))
    if header_path == voxel_path and header.is_single is False:
        raise VolumeError(
            f"{path} has the header of a volume in two files (.hdr and .img), but is one file. Copy it again, or save "
            "it again with nibabel under the name that it had."
        )
    check_header(header, str(path))
    return header


def read_nifti(path: PathLike, check: Callable[[Header, str], None] | None = None) -> nib.Nifti1Pair:
    """Read a volume into memory, compressed ones to the end, so that their checksum is compared.

    Args:
        path: a NIfTI file, compressed or not whatever its name says, or one of a pair.
        check: called with the header and the path before voxels are read; may raise.

    Returns:
        An image as `nibabel.load` returns it, which does not need the file any more.

    Raises:
        VolumeError: if the file is damaged, cut short, too long or not NIfTI, or its header impossible.
        OSError: if a file cannot be opened.
    """
    name = str(path)
    header_path, voxel_path = nifti_files(path)
    header = read_header(path)
    with _open(voxel_path, name) as (file, available):
        total = bytes_of_voxels(header, name, available)
        if check is not None:
            check(header, name)
        content = file.read(total + 1)  # the attempt at one more reaches the end, and with it the checksum
    if len(content) < total:
        raise _damaged(name, f"it ends after {len(content)} of {total} bytes")
    if len(content) > total:
        raise VolumeError(
            f"{name} holds more than the {total} bytes of its header's {' x '.join(map(str, header.get_data_shape()))} "
            "voxels, so one of them is wrong. Copy the file again; if the size is right, save it again with nibabel."
        )
    files = {"image": FileHolder(fileobj=io.BytesIO(content))}
    if header_path != voxel_path:
        with _open(header_path, name) as (file, _):
            files["header"] = FileHolder(fileobj=io.BytesIO(file.read()))
    try:
        return _IMAGES[type(header)].from_file_map(files)
    except (HeaderDataError, ImageFileError, ValueError, OverflowError) as error:
        raise _damaged(name, " ".join(str(error).split())) from None


@contextmanager
def _open(path: Path, name: str) -> Iterator[tuple[BinaryIO, int]]:
    """Open a file, decompressing it if it is compressed; also give the most bytes that it can hold."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        compressed = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        file.seek(0)
        if not compressed:
            yield file, size
            return
        try:
            with gzip.GzipFile(fileobj=file) as content:
                yield content, size * _GZIP_RATIO  # type: ignore[misc]  # a BinaryIO in all that is used
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise _damaged(name, str(error)) from None


def _damaged(name: str, reason: str) -> VolumeError:
    return VolumeError(
        f"{name} cannot be read as NIfTI: it is damaged, cut short or of another format. Copy it again. ({reason})"
    )
