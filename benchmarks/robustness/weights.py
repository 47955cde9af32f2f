"""Flipped and lost bytes in files of weights: each stage must refuse them, or not be touched by them."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .faults import AFTER, die_at_write
from .verdicts import Verdict, judge
from .world import OUTPUTS, World, answer

FULL = 200
# File, stage that writes it, and stage that reads it.
FILES = (
    ("model.pt", "train", "inference"),
    ("pretrained_encoder.pt", "pretrain_global", "pretrain_local"),
    ("pretrained_encoder_decoder.pt", "pretrain_local", "train"),
    ("resume.pt", "self_training", "self_training"),
    ("resume.pt", "pretrain_global", "pretrain_global"),
    ("model.pt", "train", "evaluate"),
    ("pretrained_encoder.pt", "pretrain_global", "train"),
    ("resume.pt", "train", "train"),
)
DAMAGES = ("one bit", "one bit", "one byte", "one bit of the structure", "zeros", "truncated", "one bit", "tail lost")
_STRUCTURE = 12_000  # bytes at the end with the archive's directory, and at its start with the names of the tensors


def run_case(world: World, index: int, random: np.random.Generator, folder: Path) -> Verdict:
    """Damage a file of weights and run the stage that reads it."""
    name, source, stage = FILES[index % len(FILES)]
    damage = DAMAGES[index // len(FILES) % len(DAMAGES)]
    models = world.start(stage, folder)
    overrides: dict[str, Any] = {}
    path = models / name
    if name == "resume.pt":
        path = _interrupt(world, stage, folder)
    elif (name, stage) == ("pretrained_encoder.pt", "train"):
        overrides["initialisation"] = "encoder"
        shutil.copy(world.reference(source).folder / "models" / OUTPUTS[source], path)
    what = break_bytes(path, damage, random)
    expected = _encoder_reference(world) if overrides else world.reference(stage).answer
    ending = world.run(stage, folder, **overrides)
    same = answer(stage, folder) == expected
    tried = f"{stage} with {name}: {what}"
    return judge(ending, same, [name], tried, world.reference(stage).ending.warnings, difference="was used")


def break_bytes(path: Path, damage: str, random: np.random.Generator) -> str:
    """Damage a file in place; return what was done."""
    content = bytearray(path.read_bytes())
    size = len(content)
    position = int(random.integers(size))
    if damage == "one bit of the structure":
        tail = bool(random.integers(4))
        position = size - 1 - int(random.integers(min(_STRUCTURE, size))) if tail else position % _STRUCTURE
    if damage.startswith("one bit"):
        bit = int(random.integers(8))
        content[position] ^= 1 << bit
        what = f"bit {bit} of byte {position:,} of {size:,} flipped"
    elif damage == "one byte":
        content[position] ^= int(random.integers(1, 256))
        what = f"byte {position:,} of {size:,} changed"
    elif damage == "zeros":
        content[position : position + 512] = bytes(len(content[position : position + 512]))
        what = f"512 bytes from {position:,} of {size:,} are zeros"
    elif damage == "tail lost":
        lost = int(random.integers(1, 64))
        del content[-lost:]
        what = f"last {lost} of {size:,} bytes lost"
    else:
        del content[position:]
        what = f"cut after {position:,} of {size:,} bytes"
    path.write_bytes(content)
    return what


def _interrupt(world: World, stage: str, folder: Path) -> Path:
    """Leave the state of a run that was stopped after its first step; it is made once and copied."""
    kept = world.root / "interrupted" / stage
    if not kept.is_dir():
        world.start(stage, kept)
        stopped = world.run(stage, kept, prepare=partial(die_at_write, 1, AFTER, "resume.pt"))
        if not (kept / stage / "resume.pt").is_file():
            raise RuntimeError(f"{stage} must leave resume.pt when it is stopped:\n{stopped.output}")
        undamaged = world.root / "resumed" / stage
        shutil.copytree(kept, undamaged)
        resumed = world.run(stage, undamaged)
        if not resumed.succeeded or answer(stage, undamaged) != world.reference(stage).answer:
            raise RuntimeError(f"{stage} must go on from an undamaged state as if undisturbed:\n{resumed.output}")
    shutil.copytree(kept / stage, folder / stage)
    shutil.copytree(kept / "models", folder / "models", dirs_exist_ok=True)
    return folder / stage / "resume.pt"


def _encoder_reference(world: World) -> dict:
    """Return the weights of a fine-tuning from the encoder alone."""
    folder = world.root / "reference" / "train_from_encoder"
    if not folder.is_dir():
        models = world.start("train", folder)
        shutil.copy(world.reference("pretrain_global").folder / "models" / "pretrained_encoder.pt", models)
        ending = world.run("train", folder, initialisation="encoder")
        if not ending.succeeded:
            raise RuntimeError(f"train must run from the encoder without trouble:\n{ending.output}")
    return answer("train", folder)
