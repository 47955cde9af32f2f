"""The slices of a case as text in a page: the image as a JPEG file, maps as compressed bytes.

Maps are not pictures, since some browsers change the values of pixels a little before a program reads them.
"""

from __future__ import annotations

import base64
import io
import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from ..display import Displayed, window

_BLOCK = 16  # pixels that JPEG compresses together, in colour
_QUALITY = 85
_LARGEST_SIDE = 1024
_MOST_PIXELS = 4_000_000  # of all slices; more takes too long to compress
_SMALLEST_SIDE = 8
_UNCERTAINTY_STEP = 8  # of 255; finer differences cannot be seen, and take room
LABEL, PREDICTION, UNCERTAINTY = "label", "prediction", "uncertainty"
"""Names of the maps that a page can show."""


def encode(shown: Displayed, most: int, names: Sequence[str] = ()) -> dict[str, Any]:
    """Turn an image and its maps into plain values that the page's program draws.

    Args:
        shown: the image, and maps among `LABEL` and `PREDICTION`, with class indices up to 255, and `UNCERTAINTY`, from
            0 to 1.
        most: characters that this may take. Slices are made smaller until it does.
        names: of the slices, if the first of them is to come first; their numbers by default.

    Returns:
        "count", "rows" and "columns" of the slices, the "aspect" of a pixel, "image" (a data URL; slices are tiles of
        "tile" = [rows, columns], "across" of them side by side), "maps" (base64 of zlib's format, by name), the slice
        that is shown first as "start", and "names".
    """
    pixels = _eight_bit(shown.image)
    count, rows, columns = pixels.shape[:3]
    scale = min(1.0, _LARGEST_SIDE / max(rows, columns), math.sqrt(_MOST_PIXELS / (count * rows * columns)))
    while True:
        size = max(1, round(rows * scale)), max(1, round(columns * scale))
        encoded = _encode(pixels, shown.maps, size)
        taken = len(encoded["image"]) + sum(map(len, encoded["maps"].values()))
        if taken <= most or max(size) <= _SMALLEST_SIDE:
            break
        scale *= min(0.9, 0.95 * math.sqrt(most / taken))
    return {
        "count": count,
        "aspect": shown.aspect * (rows / size[0]) * (size[1] / columns),
        **encoded,
        "start": 0 if names else _start(shown),
        "names": list(names) or [f"slice {index}" for index in range(count)],
    }


def _eight_bit(image: np.ndarray) -> np.ndarray:
    """Return an image in 8 bits; those that have them already, as photographs do, are left as they are."""
    if image.dtype == np.uint8:
        return image
    low, high = window(image)
    if high <= low:
        return np.zeros(image.shape, np.uint8)
    return np.clip((image - low) * (255.0 / (high - low)), 0, 255).astype(np.uint8)


def _encode(pixels: np.ndarray, maps: dict[str, np.ndarray], size: tuple[int, int]) -> dict[str, Any]:
    """Encode slices in this size, rows and columns."""
    tiles, tile, across = _tiled(_resized(pixels, size, Image.Resampling.BILINEAR))
    file = io.BytesIO()
    Image.fromarray(tiles).save(file, format="JPEG", quality=_QUALITY)
    packed = {}
    for name, values in maps.items():
        if name == UNCERTAINTY:
            steps = np.clip(values * 255.0 / _UNCERTAINTY_STEP, 0, 255 // _UNCERTAINTY_STEP).round()
            values = steps * _UNCERTAINTY_STEP
        resized = _resized(values.astype(np.uint8), size, Image.Resampling.NEAREST)
        packed[name] = base64.b64encode(zlib.compress(resized.tobytes(), 6)).decode("ascii")
    return {
        "rows": size[0],
        "columns": size[1],
        "tile": tile,
        "across": across,
        "image": data_url(file.getvalue(), "image/jpeg"),
        "maps": packed,
    }


def data_url(content: bytes, kind: str) -> str:
    """Return a file's content as a data URL of this MIME type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _resized(slices: np.ndarray, size: tuple[int, int], how: Image.Resampling) -> np.ndarray:
    if slices.shape[1:3] == size:
        return slices
    return np.stack([np.asarray(Image.fromarray(one).resize(size[::-1], how)) for one in slices])


def _tiled(slices: np.ndarray) -> tuple[np.ndarray, list[int], int]:
    """Put slices into one image row by row, each at the corner of blocks of its own; return it, the tile, and how many.

    Args:
        slices: (Z, Y, X) or (Z, Y, X, 3).
    """
    count, rows, columns = slices.shape[:3]
    across = math.ceil(math.sqrt(count))
    down = -(-count // across)
    tile = [-(-side // _BLOCK) * _BLOCK for side in (rows, columns)]
    rest = [(0, 0)] * (slices.ndim - 3)
    # Repeated at the edges, so that no slice shows its neighbour's.
    padded = np.pad(slices, [(0, 0), (0, tile[0] - rows), (0, tile[1] - columns), *rest], mode="edge")
    padded = np.pad(padded, [(0, across * down - count), (0, 0), (0, 0), *rest])
    grid = padded.reshape(down, across, *tile, *slices.shape[3:]).swapaxes(1, 2)
    return grid.reshape(down * tile[0], across * tile[1], *slices.shape[3:]), tile, across


def _start(shown: Displayed) -> int:
    """Return the slice with the most wrong pixels or, without a label, with the most that are predicted."""
    prediction = shown.maps.get(PREDICTION)
    if prediction is None:
        return len(shown.image) // 2
    if LABEL in shown.maps and (wrong := (shown.maps[LABEL] != prediction).sum(axis=(1, 2))).any():
        return int(wrong.argmax())
    found = (prediction > 0).sum(axis=(1, 2))
    return int(found.argmax()) if found.any() else len(found) // 2
