"""What is written of segmented photographs: label maps, and pictures with the classes as colours over them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from monai.data import MetaTensor
from PIL import Image, ImageDraw

from .data.photographs import PhotographReader
from .display import Display, Displayed
from .files import atomic_file
from .outputs import Segmented

_OPACITY = 0.5
_COMPRESSION = 1  # of pictures; more takes most of the time of a segmentation, and saves little
_PICTURE_HEIGHT = 300  # pixels
_LINE = 14  # pixels, of a line of text in Pillow's own font


class PhotographOutputs:
    """`outputs.Outputs` of photographs: a label map, `<name>_seg.png`, and an overlay, `<name>_overlay.png`.

    Both have the size of the photograph, turned upright. The label map is a PNG of 8 bits with a palette: its values
    are the class indices, and programs show it in colours.
    """

    @property
    def display(self) -> Display:
        """See `outputs.Outputs`."""
        return PHOTOGRAPHS

    def path(self, image_path: str, output_dir: str) -> Path:
        """Name the label map of a photograph."""
        return Path(output_dir) / f"{Path(image_path).stem}_seg.png"

    def save(self, segmented: Segmented, target: Path) -> None:
        """See `Outputs`; photographs have no uncertainty."""
        image_path, labels, drawn, _ = segmented
        with ExitStack() as files:
            height, width = labels.shape[:2]
            label_map = Image.frombytes("P", (width, height), labels.astype(np.uint8).tobytes())
            label_map.putpalette(_palette().ravel().tolist())
            label_map.save(files.enter_context(atomic_file(target)), format="PNG")
            if drawn is not None:
                picture = files.enter_context(atomic_file(target.with_name(target.name[:-8] + "_overlay.png")))
                overlay = _overlay(_read(image_path), labels[..., 0])
                Image.fromarray(overlay).save(picture, format="PNG", compress_level=_COMPRESSION)

    def volumes(self, image: MetaTensor, labels: np.ndarray, class_names: Sequence[str]) -> dict[str, float]:
        """Measure nothing: how large a pixel is depends on how far away a thing is."""
        return {}

    def doubt(self, image: MetaTensor, labels: np.ndarray, path: str, class_names: Sequence[str]) -> str:
        """Say nothing: a photograph need not show every class, and the network sees all of it."""
        return ""


def draw_comparison(
    image_path: str | os.PathLike[str],
    label: np.ndarray | None,
    prediction: np.ndarray,
    class_names: Sequence[str],
    title: str,
    path: Path,
) -> None:
    """Draw a photograph, and the label and the prediction as colours over it, side by side.

    Args:
        image_path: the photograph.
        label: (H, W, 1) integers, or None to leave it out.
        prediction: (H, W, 1) integers.
        class_names: names of the classes, the background's first.
        title: of the picture.
        path: PNG file; its folder is made.
    """
    photograph = _read(image_path)
    maps = [classes[..., 0] for classes in (label, prediction) if classes is not None]
    tiles = [_small(tile) for tile in (photograph, *(_overlay(photograph, classes) for classes in maps))]
    width = sum(tile.width for tile in tiles)
    picture = Image.new("RGB", (width, _PICTURE_HEIGHT + 2 * _LINE))
    pen = ImageDraw.Draw(picture)
    pen.text((2, 0), title)
    for number, tile in enumerate(tiles):
        picture.paste(tile, (number * tile.width, _LINE))
    place = 2.0
    for value, name in enumerate(class_names[1:], start=1):
        pen.text((place, _PICTURE_HEIGHT + _LINE), name, fill=tuple(_palette()[value].tolist()))
        place += pen.textlength(f"{name}  ")
    with atomic_file(path) as temporary:
        picture.save(temporary, format="PNG", compress_level=_COMPRESSION)


def displayed_photograph(image_path: str | os.PathLike[str], maps: Mapping[str, Any]) -> Displayed:
    """Read a photograph, and take maps (H, W, 1) on its grid as they are; see `display.displayed_volume`."""
    return Displayed(_read(image_path)[None], {name: np.asarray(values)[None, ..., 0] for name, values in maps.items()})


def _read(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a photograph, (H, W, 3) uint8."""
    return PhotographReader().get_data((path,))[0][:, :, 0]


def _small(pixels: np.ndarray) -> Image.Image:
    height, width = pixels.shape[:2]
    size = max(1, round(width * _PICTURE_HEIGHT / height)), _PICTURE_HEIGHT
    return Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)


def _overlay(photograph: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Lay the colours of the classes (H, W), but not of the background, over a photograph (H, W, 3)."""
    classes = classes.astype(np.uint8)
    coloured = (1 - _OPACITY) * photograph + _OPACITY * _palette()[classes]
    return np.where((classes > 0)[..., None], coloured, photograph).astype(np.uint8)


def _palette() -> np.ndarray:
    """Return the colours of the classes by index, (256, 3) uint8: black for the background."""
    colours = np.asarray(colormaps["tab20"].colors)  # type: ignore[attr-defined]  # of a listed one
    colours = np.concatenate([colours[::2], colours[1::2]])  # the dark ones first
    return np.concatenate([np.zeros((1, 3)), np.resize(255 * colours, (255, 3))]).round().astype(np.uint8)


def _colours(number: int) -> list[str]:
    return ["#" + bytes(entry).hex() for entry in _palette()[1 : number + 1]]


PHOTOGRAPHS = Display(draw=draw_comparison, read=displayed_photograph, colours=_colours, noun="photograph", filled=True)
"""How photographs are displayed."""
