"""Full disks, read-only folders, missing rights: an error that names the folder, nothing half-written, no dead end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .faults import available, limit_file_size, obey_permissions, small_disk
from .verdicts import LOST, Verdict, judge
from .world import INPUTS, World, answer, unfinished

READ_ONLY, NO_PERMISSION, LIMIT = "read-only", "no permission", "no file above 2 MB"
OUTPUT, MODELS, CACHE = "output_dir", "ckpt_dir", "cache_dir"
# Stage, folder, and trouble: one of the above, or the KiB that fit into it. Weights have 3 to 8 MB, states 15 to 25.
SITUATIONS: tuple[tuple[str, str, str | int], ...] = (
    ("train", MODELS, 4000),
    ("inference", OUTPUT, 0),
    ("pretrain_global", CACHE, 16),
    ("train", OUTPUT, 6000),
    ("evaluate", OUTPUT, READ_ONLY),
    ("train", MODELS, READ_ONLY),
    ("inference", OUTPUT, READ_ONLY),
    ("train", OUTPUT, NO_PERMISSION),
    ("pretrain_global", MODELS, 1000),
    ("pretrain_global", OUTPUT, 5000),
    ("inference", OUTPUT, 40),  # the segmentation fits, its picture does not
    ("train", MODELS, NO_PERMISSION),
    ("train", OUTPUT, READ_ONLY),
    ("pretrain_global", MODELS, READ_ONLY),
    ("pretrain_local", OUTPUT, NO_PERMISSION),
    ("pretrain_joint", MODELS, LIMIT),
    ("evaluate", OUTPUT, 0),
    ("pretrain_global", CACHE, READ_ONLY),
    ("inference", OUTPUT, NO_PERMISSION),
    ("train", OUTPUT, 40000),  # the weights fit, the state does not
)
FULL = len(SITUATIONS)


class NotPossibleHereError(RuntimeError):
    """The trouble cannot be made on this machine."""


def run_case(world: World, index: int, random: np.random.Generator, folder: Path) -> Verdict:
    """Run a stage in trouble, take the trouble away, and run it again."""
    stage, which, trouble = SITUATIONS[index]
    reference = world.reference(stage)
    models = world.start(stage, folder)
    place = {OUTPUT: folder / stage, MODELS: models, CACHE: folder / "cache"}[which]
    before = {name: (models / name).read_bytes() for name in INPUTS[stage]}
    overrides: dict[str, Any] = {}
    if which == CACHE:
        overrides["cache_dir"] = place
    if stage == "inference":
        overrides["pictures"] = True
    named = f"{trouble} KiB free" if isinstance(trouble, int) else trouble
    tried = f"{stage} with {which}: {named}"
    with troubled(place, trouble, world.root) as (prepare, end):
        ending = world.run(stage, folder, prepare=prepare, **overrides)
        names = [str(folder)] if trouble == LIMIT else [str(place)]
        verdict = judge(ending, answer(stage, folder) == reference.answer, names, tried, reference.ending.warnings)
        if left := unfinished(folder):
            verdict = Verdict(LOST, tried, f"left behind: {', '.join(left)}; {verdict.verdict}: {verdict.detail}")
        if stage == "inference" and not ending.succeeded and (half := [*place.glob("*_seg.*")]):
            verdict = Verdict(LOST, tried, f"called failed, but wrote {half[0].name}: {verdict.detail}")
        if any((models / name).read_bytes() != content for name, content in before.items()):
            return Verdict(LOST, tried, "the weights that it started from are changed")
        end()
        again = world.run(stage, folder, **overrides)
        if not again.succeeded:
            return Verdict(LOST, tried, f"cannot go on when there is room again: {again.message[:300]}")
        if answer(stage, folder) != reference.answer:
            return Verdict(LOST, tried, "not bit-identical when there is room again")
    return verdict


@contextlib.contextmanager
def troubled(
    place: Path, trouble: str | int, root: Path
) -> Iterator[tuple[Callable[[], None] | None, Callable[[], object]]]:
    """Make trouble in a folder; give what a process has to prepare for it, and a function that ends the trouble.

    Raises:
        NotPossibleHereError: if it takes a right to mount that this process has not.
    """
    place.mkdir(parents=True, exist_ok=True)
    if trouble == LIMIT:
        yield partial(limit_file_size, 2_000_000), lambda: None
    elif trouble == NO_PERMISSION:
        place.chmod(0o555)
        try:
            yield obey_permissions, lambda: place.chmod(0o755)
        finally:
            place.chmod(0o755)
    elif not available(root):
        raise NotPossibleHereError("small and read-only disks must be mounted, which takes root's right on Linux")
    else:
        with small_disk(place, trouble if isinstance(trouble, int) else 1000, read_only=trouble == READ_ONLY) as end:
            yield None, end
