"""Photographs and their label maps: which files they are, and the one way in which they are read.

A photograph is a volume of one slice, so that whatever treats volumes treats photographs: (3, H, W, 1), 8 bits.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data import PILReader
from monai.utils import MetaKeys, ensure_tuple
from PIL import Image, ImageOps

from ..transforms.volume import VolumeError
from .nifti import VOXELS_HASH
from .volume_files import entries

logger = logging.getLogger(__name__)

SUFFIXES = (".png", ".jpg", ".jpeg")
_LABEL_MODES = ("L", "P", "1")
_NO_ALPHA = 255


def is_photograph(path: str | os.PathLike[str]) -> bool:
    """Tell from its name whether a file is a photograph or the label map of one."""
    return Path(path).suffix.lower() in SUFFIXES


def photographs_in(folder: Path) -> list[Path]:
    """Return the photographs and label maps directly in a folder, ordered by name; none if it does not exist.

    Raises:
        DatasetError: if the folder may not be read.
    """
    return [path for path in entries(folder) if is_photograph(path) and not path.is_dir()]


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file. A copy has the same one; a photograph that was saved again has not."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class PhotographReader(PILReader):
    """MONAI's reader of PNG and JPEG files, for photographs: three channels of 8 bits, upright.

    A photograph is turned as its EXIF orientation says. A grey one gets three equal channels; transparency is ignored.
    The metadata have "voxels_sha256", here the hash of the file, see `file_sha256`.

    Everything happens in `get_data`: `LoadImage` tries all its other readers when `read` fails, and these would take
    what was refused.

    The methods raise VolumeError, with the name of the file, where it is damaged or of another kind.
    """

    def __init__(self) -> None:
        super().__init__(reverse_indexing=False)

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Say whether the names are those of photographs."""
        return all(is_photograph(name) for name in ensure_tuple(filename))

    def read(self, data: Sequence[PathLike] | PathLike | np.ndarray, **_: Any) -> Any:
        """Take note of the file; nothing is read yet."""
        return ensure_tuple(data)

    def get_data(self, img: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """Read the file that `read` returned.

        Returns:
            (H, W, 1, C) uint8, C = 3 for photographs and 1 for label maps; and the metadata.
        """
        (path,) = img
        try:
            with Image.open(path) as image:
                pixels, meta = super().get_data(self.upright(image, str(path)))
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # of Pillow, or that it is not there
            if not os.path.exists(path):
                raise
            raise VolumeError(
                f"{path} cannot be read as PNG or JPEG: it is damaged, cut short or of another format. Copy it again. "
                f"({' '.join(str(error).split())})"
            ) from None
        pixels = np.array(pixels if pixels.ndim == 3 else pixels[..., None])[
            :, :, None
        ]  # Pillow's cannot be written to
        meta[MetaKeys.ORIGINAL_CHANNEL_DIM] = -1
        meta[MetaKeys.SPATIAL_SHAPE] = np.asarray(pixels.shape[:3])
        meta[MetaKeys.AFFINE] = meta[MetaKeys.ORIGINAL_AFFINE] = np.eye(4)
        meta[VOXELS_HASH] = file_sha256(path)
        return pixels, meta

    def upright(self, image: Image.Image, name: str) -> Image.Image:
        """Return an opened file as it is wanted, with its pixels.

        Raises:
            VolumeError: if it has more than 8 bits a channel.
        """
        if image.mode.startswith(("I", "F")):
            raise VolumeError(
                f"{name} must have 8 bits a channel, got more (Pillow's mode {image.mode}): what is white in it is not "
                "known. Save it as 8-bit PNG, with the brightness that it is to have."
            )
        upright = ImageOps.exif_transpose(image)
        if "A" in upright.getbands() and (np.asarray(upright.getchannel("A")) < _NO_ALPHA).any():
            logger.warning(f"{name} has transparent parts, which are taken as if they were not.")
        return upright.convert("RGB")


class LabelMapReader(PhotographReader):
    """The same for label maps of photographs: PNG files of one channel of 8 bits, the class ids."""

    def upright(self, image: Image.Image, name: str) -> Image.Image:
        """Return an opened label map with its pixels.

        Raises:
            VolumeError: if it is no PNG file or has several channels or more bits.
        """
        if image.format != "PNG" or image.mode not in _LABEL_MODES:
            raise VolumeError(
                f"{name} must be a PNG file with one class id of 8 bits for each pixel, got {image.format} of Pillow's "
                f"mode {image.mode}: a map in colours, or one that was compressed with loss, has no class ids. Take "
                "the file with the ids."
            )
        return ImageOps.exif_transpose(image)
