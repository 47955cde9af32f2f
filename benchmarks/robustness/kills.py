"""Kills at random moments and at writes: what was there stays whole, and the same command ends as if undisturbed."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import numpy as np

from .faults import AFTER, BEFORE, HALF, count_writes, die_at_write
from .process import Ending
from .verdicts import LOST, RIGHT, Verdict, judge_error
from .world import INPUTS, OUTPUTS, STAGES, World, answer, tensors, unfinished

FULL = 60
MOST_RESTARTS = 3


def run_case(world: World, index: int, random: np.random.Generator, folder: Path) -> Verdict:
    """Kill a stage, look at what it has left, and start it again until it is done."""
    stage, reference = STAGES[index % len(STAGES)], world.reference(STAGES[index % len(STAGES)])
    world.start(stage, folder)
    before = {name: (folder / "models" / name).read_bytes() for name in INPUTS[stage]}
    again = bool(index // len(STAGES) % 5 == 4)  # sometimes over what an earlier run has finished
    if again:
        shutil.copytree(reference.folder / stage, folder / stage)
        shutil.copytree(reference.folder / "models", folder / "models", dirs_exist_ok=True)
    if index // len(STAGES) % 2:
        after = float(random.uniform(0, _duration(world, stage)))
        killed = world.run(stage, folder, kill_after=after)
        tried = f"{stage} killed after {after:.2f} s"
    else:
        number = int(random.integers(1, _number_of_writes(world, stage) + 1))
        moment = str(random.choice([BEFORE, HALF, AFTER]))
        killed = world.run(stage, folder, prepare=partial(die_at_write, number, moment))
        tried = f"{stage} killed {moment} write {number}"
    tried += " of a run over a finished one" if again else ""
    if killed.signal is None:
        tried += " (it had ended before)"
    if broken := _broken(world, stage, folder):
        return Verdict(LOST, tried, f"half-written after the kill: {broken}")
    endings: list[Ending] = []
    while len(endings) < MOST_RESTARTS and not (endings and endings[-1].succeeded):
        endings.append(world.run(stage, folder))
    ending = endings[-1]
    if not ending.succeeded:
        cannot = judge_error(ending, [folder.name], tried)
        return Verdict(LOST, tried, f"cannot go on: {cannot.detail}")
    if answer(stage, folder) != reference.answer:
        return Verdict(LOST, tried, "not bit-identical after it was started again")
    if any((folder / "models" / name).read_bytes() != content for name, content in before.items()):
        return Verdict(LOST, tried, "the weights that it started from are changed")
    if left := unfinished(folder):
        return Verdict(LOST, tried, f"left behind: {', '.join(left)}")
    return Verdict(RIGHT, tried)


def _broken(world: World, stage: str, folder: Path) -> str:
    """Return a finished file's name that is not whole, "" if all are.

    Weights and states must be readable, tables and segmentations what the undisturbed run has written.
    """
    for path in [*(folder / "models").glob("*.pt"), *(folder / stage).glob("*.pt")]:
        if "unreadable" in tensors(path):
            return path.name
    if stage in OUTPUTS:
        return ""
    for path in (folder / stage).glob("*.*"):
        undisturbed = world.reference(stage).folder / stage / path.name
        if path.suffix in (".gz", ".csv") and path.is_file() and path.read_bytes() != undisturbed.read_bytes():
            return path.name
    return ""


def _number_of_writes(world: World, stage: str) -> int:
    """Return how many files take their place in an undisturbed run."""
    counter = world.root / "writes" / f"{stage}.txt"
    if not counter.is_file():
        folder = world.root / "writes" / stage
        world.start(stage, folder)
        counter.touch()
        world.run(stage, folder, prepare=partial(count_writes, counter))
    return max(1, counter.stat().st_size)


def _duration(world: World, stage: str) -> float:
    """Return the seconds of an undisturbed run; not those of the reference, which had modules to import."""
    timed = world.root / "timed" / f"{stage}.txt"
    if not timed.is_file():
        world.start(stage, timed.parent / stage)
        timed.write_text(str(world.run(stage, timed.parent / stage).seconds))
    return float(timed.read_text())
