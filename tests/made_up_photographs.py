"""Small photographs and label maps as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def write_photograph(
    path: Path, size: tuple[int, int] = (24, 40), mode: str = "RGB", seed: int = 0, **options: Any
) -> np.ndarray:
    """Write a photograph of random large squares, rows and columns as given, and return its pixels (H, W, 3)."""
    random = np.random.default_rng(seed)
    squares = random.integers(0, 256, (-(-size[0] // 8), -(-size[1] // 8), 3), dtype=np.uint8)
    pixels = np.kron(squares, np.ones((8, 8, 1), np.uint8))[: size[0], : size[1]]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path, **options)
    return pixels


def write_label_map(path: Path, classes: Any) -> None:
    """Write a label map of one channel of 8 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(classes, np.uint8)).save(path)
