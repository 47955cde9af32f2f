"""Phantom of Cityscapes: made-up street scenes, seen from a car.

A scene has a sky, houses on both sides, a road with sidewalks that run to one point, trees, grass, and cars, people and
other things, the larger the nearer they are. Files are called and stored as those of Cityscapes.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Values of the official label files.
UNLABELED, EGO_VEHICLE, ROAD, SIDEWALK, BUILDING, WALL, POLE = 0, 1, 7, 8, 11, 12, 17
VEGETATION, TERRAIN, SKY, PERSON, RIDER, CAR = 21, 22, 23, 24, 25, 26
TRUCK, BUS, MOTORCYCLE, BICYCLE = 27, 28, 32, 33
_COLOURS: dict[int, tuple[int, int, int]] = {
    UNLABELED: (90, 90, 90),
    EGO_VEHICLE: (20, 20, 25),
    ROAD: (95, 95, 100),
    SIDEWALK: (140, 130, 125),
    BUILDING: (120, 100, 85),
    WALL: (105, 105, 95),
    POLE: (60, 60, 60),
    VEGETATION: (45, 90, 40),
    TERRAIN: (100, 125, 60),
    SKY: (190, 210, 235),
    PERSON: (150, 60, 60),
    RIDER: (160, 80, 50),
    CAR: (40, 50, 120),
    TRUCK: (170, 160, 60),
    BUS: (190, 60, 40),
    MOTORCYCLE: (40, 40, 60),
    BICYCLE: (70, 80, 130),
}
_ID = re.compile(r"[a-z-]+_\d{6}_\d{6}")
# Height and width of a thing that is as near as the lower edge, in shares of the image's height.
_THINGS = {CAR: (0.35, 0.5), PERSON: (0.5, 0.16), TRUCK: (0.6, 0.5), BUS: (0.65, 0.5), BICYCLE: (0.3, 0.3)}
_PARTS = {"train": ("aachen", "bochum"), "val": ("lindau",)}


def write_cityscapes_phantom(
    dataset_dir: str | os.PathLike[str],
    num_photographs: int | Sequence[str] = 12,
    size: tuple[int, int] = (1024, 2048),
    seed: int = 0,
) -> list[str]:
    """Write phantom scenes, `leftImg8bit/train/CITY/ID_leftImg8bit.png` and `gtFine/train/CITY/ID_gtFine_labelIds.png`.

    The city lindau is in `val`, the others are in `train`. Beside the class ids there are the files of instances,
    colours and polygons that the dataset has, which nothing reads. A scene depends on the seed, the size and its own id
    only.

    Args:
        dataset_dir: the folder to write to; made if it does not exist.
        num_photographs: how many photographs, of three cities in turn; or the list of their ids.
        size: rows and columns of a photograph.
        seed: seed of all randomness.

    Returns:
        The ids of the photographs written.

    Raises:
        ValueError: if there is no photograph to write, an id is not of the form CITY_000000_000019, or a side of `size`
            is under 32.
    """
    if min(size) < 32:
        raise ValueError(f"size must be rows and columns, both at least 32, got {size}.")
    cities = [city for own in _PARTS.values() for city in own]
    ids = (
        [f"{cities[i % len(cities)]}_{i:06d}_000019" for i in range(num_photographs)]
        if isinstance(num_photographs, int)
        else list(num_photographs)
    )
    if not ids or not all(_ID.fullmatch(name) for name in ids):
        raise ValueError(
            "num_photographs must be a number from 1 or a list of ids like aachen_000000_000019, got "
            f"{num_photographs}."
        )
    for name in ids:
        city = name.split("_")[0]
        part = next((part for part, own in _PARTS.items() if city in own), "train")
        images, labels = (Path(dataset_dir, tree, part, city) for tree in ("leftImg8bit", "gtFine"))
        for folder in (images, labels):
            folder.mkdir(parents=True, exist_ok=True)
        scene, classes = draw_scene(size, np.random.default_rng([seed, zlib.crc32(name.encode())]))
        Image.fromarray(scene).save(images / f"{name}_leftImg8bit.png")
        Image.fromarray(classes).save(labels / f"{name}_gtFine_labelIds.png")
        Image.fromarray(classes.astype(np.uint16) * 1000).save(labels / f"{name}_gtFine_instanceIds.png")
        Image.fromarray(_coloured(classes)).convert("RGBA").save(labels / f"{name}_gtFine_color.png")
        (labels / f"{name}_gtFine_polygons.json").write_text("{}", encoding="utf-8")
    return ids


def draw_scene(size: tuple[int, int], random: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw a street scene.

    Args:
        size: rows H and columns W.
        random: where all that differs between scenes comes from.

    Returns:
        The photograph (H, W, 3) and the class ids (H, W).
    """
    height, width = size
    rows = np.linspace(0, 1, height)[:, None]
    columns = np.linspace(-1, 1, width)[None]
    horizon, vanishing = random.uniform(0.38, 0.48), random.uniform(-0.15, 0.15)
    classes = np.full(size, SKY, np.uint8)
    depth = np.clip((rows - horizon) / (1 - horizon), 0, 1)  # 0 at the horizon, 1 at the lower edge
    side = np.abs(columns - vanishing)
    for sign in (-1, 1):
        own = (columns - vanishing) * sign > 0
        for _ in range(4):
            start, top = random.uniform(0.08, 0.9), random.uniform(0.05, 0.3)
            kind = random.choice([BUILDING, BUILDING, VEGETATION, WALL])
            classes[own & (side > start) & (rows > horizon * (1 - (1 - top) * np.minimum(side, 1)))] = kind
    ground = rows > horizon
    classes[np.broadcast_to(ground, size)] = random.choice([TERRAIN, SIDEWALK])
    half = random.uniform(0.7, 1.0)
    classes[ground & (side < depth * half * 1.4)] = SIDEWALK
    classes[ground & (side < depth * half)] = ROAD
    for _ in range(random.integers(1, 4)):
        place = random.uniform(-0.9, 0.9)
        classes[(np.abs(columns - place) < 0.004 * height / width * 4) & (rows > 0.15) & (rows < horizon + 0.1)] = POLE
    kinds = random.choice([*_THINGS], size=random.integers(3, 8), p=[0.45, 0.25, 0.1, 0.1, 0.1])
    for near, kind in zip(np.sort(random.uniform(0.1, 0.75, len(kinds))), kinds, strict=True):
        _put_thing(classes, int(kind), near, horizon, random)
    classes[np.broadcast_to(rows > 0.94, size)] = EGO_VEHICLE
    return _photograph(classes, random), classes


def _put_thing(classes: NDArray[np.uint8], kind: int, near: float, horizon: float, random: np.random.Generator) -> None:
    """Put a thing that stands `near`, from 0 at the horizon to 1 at the lower edge, into a scene."""
    height, width = classes.shape
    tall, wide = (share * near * height * random.uniform(0.8, 1.2) for share in _THINGS[kind])
    foot = (horizon + (1 - horizon) * near) * height
    middle = random.uniform(0, width)
    rows, columns = np.ogrid[:height, :width]
    above = (foot - rows) / tall
    within = np.abs(columns - middle) / (wide / 2)
    classes[(above > 0) & (above < 1) & (within < 1 - 0.4 * above**4)] = kind
    if kind == BICYCLE:  # with somebody on it
        classes[(above > 0.6) & (above < 1.8) & (within < 0.4)] = RIDER


def _coloured(classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    table = np.zeros((256, 3), np.uint8)
    for value, colour in _COLOURS.items():
        table[value] = colour
    return table[classes]


def _photograph(classes: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Give the classes of a scene colours, with light, texture and noise."""
    colours = _coloured(np.arange(256, dtype=np.uint8)) * random.uniform(0.85, 1.15, (256, 3))
    shades = colours.astype(np.float32)[classes]
    height, width = classes.shape
    coarse = random.normal(1, 0.12, (height // 16 + 1, width // 16 + 1))
    shades *= np.kron(coarse, np.ones((16, 16)))[:height, :width, None].astype(np.float32)
    shades *= np.linspace(1.1, 0.85, height, dtype=np.float32)[:, None, None] * random.uniform(0.6, 1.2)
    shades += random.normal(0, 5, classes.shape)[..., None]
    return np.clip(shades, 0, 255).astype(np.uint8)
