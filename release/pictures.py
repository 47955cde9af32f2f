"""Pictures for the documents as small PNG files: few colours, and no wider than they are shown."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from common.files import atomic_file

_PALETTE = 128


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture as PNG with few colours, which makes it a fraction as large; its folder is made if needed."""
    with atomic_file(path) as temporary:
        # An octree, since a median cut would give thin coloured outlines the grey of what is around them.
        reduced = picture.convert("RGB").quantize(_PALETTE, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        reduced.save(temporary, optimize=True)


def shrink_picture(source: Path, target: Path, width: int = 720) -> None:
    """Write a copy of a picture with this width in pixels, if it is wider, and few colours.

    Raises:
        OSError: if the source is no picture.
    """
    with Image.open(source) as picture:
        picture.thumbnail((width, picture.height), Image.Resampling.LANCZOS)
        save_picture(picture, target)
