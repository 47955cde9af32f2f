"""The same images on both sides of a line: refused where a result would be wrong, warned of where it is only odd."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from .process import Ending
from .verdicts import CLEAR, SILENT, WARNED, Verdict, judge
from .world import World

# One patient of each subset of the world's split file.
PATIENT_OF = {"labelled": "patient001", "pretrain": "patient003", "validation": "patient004", "test": "patient005"}
# Two subsets, the first stage that reads one of them, and the stages after it that could still notice.
PAIRS = (
    ("labelled", "test", ("train", "evaluate")),
    ("pretrain", "test", ("pretrain_global", "train", "evaluate")),
    ("validation", "test", ("train", "evaluate")),
    ("labelled", "validation", ("train",)),
)
FORMS = ("copied", "recompressed", "linked", "of another data type")
OTHERS = (
    "evaluate on the labelled volume",
    "evaluate on a volume to pre-train on",
    "evaluate by a split that calls the labelled volume a test volume",
    "evaluate on a copy of the labelled volume that was put there later",
    "evaluate after self-training on the test volume",
    "evaluate after a pre-training that knows the test volume",
    "pre-train on one image under two ids",
    "fine-tune on one image under two ids",
    "evaluate on the labelled volume, asked for",
)
FULL = len(PAIRS) * len(FORMS) + len(OTHERS)


def run_case(world: World, index: int, random: np.random.Generator, folder: Path) -> Verdict:
    """Let a leak in and run the stages that should stop at it."""
    if index < len(PAIRS) * len(FORMS):
        first, second, stages = PAIRS[index % len(PAIRS)]
        form = FORMS[index // len(PAIRS)]
        data = world.copy_data(folder)
        put_under(world, data, PATIENT_OF[first], PATIENT_OF[second], form)
        names = [PATIENT_OF[first], PATIENT_OF[second]]
        return _chain(world, stages, folder, names, f"image of {first} {form} to {second}", dataset_dir=data)
    what = OTHERS[index - len(PAIRS) * len(FORMS)]
    return globals()[f"_case_{OTHERS.index(what)}"](world, folder, what)


def put_under(world: World, data: Path, source: str, target: str, form: str) -> None:
    """Let the image of one patient be that of another one too; label and grid of the latter go with it."""
    for place in (world.image, world.label):
        old, new = place(source, data), place(target, data)
        new.unlink()
        if form == "linked":
            os.symlink(old, new)
        elif form == "recompressed":
            new.write_bytes(gzip.compress(gzip.decompress(old.read_bytes()), 1))
        elif form == "of another data type" and place == world.image:
            image = nibabel.load(old)
            image.set_data_dtype(np.float32)
            nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj, np.float32), None, image.header), new)
        else:
            shutil.copy(old, new)


def _chain(
    world: World, stages: tuple[str, ...], folder: Path, names: list[str], tried: str, **overrides: Any
) -> Verdict:
    """Run stages one after another until one refuses or warns."""
    world.start(stages[0], folder)
    for stage in stages:
        known = world.reference(stage).ending.warnings
        more = {"initialisation": "encoder"} if stage == "train" and "pretrain_global" in stages else {}
        ending = world.run(stage, folder, **{**overrides, **more})
        verdict = _judged(ending, names, f"{tried}: {stage}", known)
        if verdict.verdict != SILENT:
            return verdict
    return verdict


def _judged(ending: Ending, names: list[str], tried: str, known: list[str]) -> Verdict:
    return judge(ending, False, names, tried, known, difference="went through")


def _split(world: World, folder: Path, **changes: Any) -> Path:
    """Write the world's split file with other lists; `labelled` and `validation` are those of the draw of one."""
    content = json.loads(world.splits.read_text())
    draw = content["draws"]["1"]["c1"]
    for name, ids in changes.items():
        (draw if name in draw else content)[name] = ids
    content["draws"] = {"1": {"c1": draw}}
    path = folder / "splits.json"
    path.write_text(json.dumps(content))
    return path


def _evaluate(world: World, folder: Path, tried: str, names: list[str], **overrides: Any) -> Verdict:
    world.start("evaluate", folder)
    known = world.reference("evaluate").ending.warnings
    return _judged(world.run("evaluate", folder, **overrides), names, tried, known)


def _case_0(world: World, folder: Path, tried: str) -> Verdict:
    return _evaluate(world, folder, tried, [PATIENT_OF["labelled"]], subset="labelled")


def _case_1(world: World, folder: Path, tried: str) -> Verdict:
    return _evaluate(world, folder, tried, ["patient002", "patient003"], subset="pretrain")


def _case_2(world: World, folder: Path, tried: str) -> Verdict:
    labelled = PATIENT_OF["labelled"]
    split = _split(world, folder, pretrain=["patient002"], test=[labelled], labelled=["patient003"])
    return _evaluate(world, folder, tried, [labelled], split_path=split)


def _case_3(world: World, folder: Path, tried: str) -> Verdict:
    data = world.copy_data(folder)
    shutil.copytree(data / "training" / PATIENT_OF["labelled"], folder / "kept")
    put_under(world, data, PATIENT_OF["labelled"], PATIENT_OF["test"], "recompressed")
    return _evaluate(world, folder, tried, [PATIENT_OF["labelled"], PATIENT_OF["test"]], dataset_dir=data)


def _case_4(world: World, folder: Path, tried: str) -> Verdict:
    test = PATIENT_OF["test"]
    split = _split(world, folder, test=["patient006"], pretrain=["patient002", "patient003", test])
    world.start("self_training", folder)
    made = world.run("self_training", folder, split_path=split)
    if not made.succeeded:
        return _judged(made, [test], f"{tried}: self-training", [])
    return _chain_on(world, ("evaluate",), folder, [test], tried)


def _case_5(world: World, folder: Path, tried: str) -> Verdict:
    test = PATIENT_OF["test"]
    split = _split(world, folder, pretrain=["patient002", test], test=["patient006"])
    made = world.run("pretrain_global", folder, split_path=split)
    if not made.succeeded:
        return _judged(made, [test], f"{tried}: pre-training", [])
    return _chain_on(world, ("train", "evaluate"), folder, [test], tried, train={"initialisation": "encoder"})


def _chain_on(
    world: World, stages: tuple[str, ...], folder: Path, names: list[str], tried: str, **overrides: dict[str, Any]
) -> Verdict:
    """Run stages on the weights that are there already, until one refuses or warns."""
    for stage in stages:
        known = world.reference(stage).ending.warnings
        ending = world.run(stage, folder, **overrides.get(stage, {}))
        verdict = _judged(ending, names, f"{tried}: {stage}", known)
        if verdict.verdict != SILENT:
            return verdict
    return verdict


def _case_6(world: World, folder: Path, tried: str) -> Verdict:
    data = world.copy_data(folder)
    put_under(world, data, "patient002", "patient003", "copied")
    return _only_warned(_chain(world, ("pretrain_global",), folder, ["patient002"], tried, dataset_dir=data))


def _case_7(world: World, folder: Path, tried: str) -> Verdict:
    data = world.copy_data(folder)
    put_under(world, data, "patient001", "patient002", "copied")
    names = ["patient001", "patient002"]
    return _only_warned(_chain(world, ("train",), folder, names, tried, dataset_dir=data, num_labelled=2))


def _only_warned(verdict: Verdict) -> Verdict:
    """A warning is what is wanted within a subset; a refusal would say more than is known."""
    if verdict.verdict == CLEAR:
        return Verdict(WARNED, verdict.tried, f"refused, where a warning is enough: {verdict.detail}")
    return verdict


def _case_8(world: World, folder: Path, tried: str) -> Verdict:
    world.start("evaluate", folder)
    ending = world.run("evaluate", folder, subset="labelled", allow_overlap=True)
    path = folder / "evaluate" / "evaluation.json"
    said = path.is_file() and "overlap" in path.read_text()
    known = world.reference("evaluate").ending.warnings
    verdict = judge(ending, said, ["overlap"], tried, known, difference="evaluation.json does not say so")
    return verdict if verdict.verdict != WARNED or said else Verdict(SILENT, tried, verdict.detail)
