"""Flipped and lost bytes in images and labels: each stage must refuse the file, or not be touched by it.

The files are compressed, since nothing in an uncompressed NIfTI file tells a flipped voxel from another one; some are
uncompressed and cut short.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from .verdicts import Verdict, judge
from .weights import break_bytes
from .world import TEST_PATIENT, World, answer

FULL = 100
# Which file, of which patient, and the stage that reads it.
FILES = (
    ("image", TEST_PATIENT, "inference"),
    ("label", "patient001", "train"),
    ("image", "patient002", "pretrain_global"),
    ("label", TEST_PATIENT, "evaluate"),
    ("image", "patient001", "train"),
    ("label", "patient004", "train"),
    ("image", TEST_PATIENT, "evaluate"),
)
DAMAGES = ("one bit", "one byte", "one bit", "truncated", "one bit", "zeros", "tail lost", "uncompressed, truncated")


def run_case(world: World, index: int, random: np.random.Generator, folder: Path) -> Verdict:
    """Damage an image or a label in a copy of the data set and run a stage that reads it."""
    kind, patient, stage = FILES[index % len(FILES)]
    damage = DAMAGES[index // len(FILES) % len(DAMAGES)]
    world.reference(stage)
    world.start(stage, folder)
    data = world.copy_data(folder)
    path = world.image(patient, data) if kind == "image" else world.label(patient, data)
    intact = gzip.decompress(path.read_bytes())
    if damage.startswith("uncompressed"):
        plain = path.with_suffix("")
        plain.write_bytes(intact)
        path.unlink()
        path = plain
        damage = "truncated"
    what = break_bytes(path, damage, random)
    overrides: dict[str, Any] = {"input": path} if stage == "inference" else {"dataset_dir": data}
    ending = world.run(stage, folder, **overrides)
    same = _content(path) == intact and _values(answer(stage, folder)) == _values(world.reference(stage).answer)
    tried = f"{stage} with {kind} {path.name}: {what}"
    return judge(ending, same, [path.name], tried, world.reference(stage).ending.warnings, difference="was used")


def _content(path: Path) -> bytes:
    """Return what a reader that looks at no checksum gets."""
    content = path.read_bytes()
    if path.suffix != ".gz":
        return content
    try:
        return zlib.decompressobj(wbits=31).decompress(content)
    except zlib.error:
        pass
    header = 10 + (content[10:].index(0) + 1 if len(content) > 10 and content[3] & 8 else 0)
    try:
        return zlib.decompressobj(wbits=-15).decompress(content[header:])
    except zlib.error:
        return b""


def _values(found: dict) -> list:
    """Return an answer without the names of its files, which go with the input's."""
    return list(found.values())
