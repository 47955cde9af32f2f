"""Wrong command lines: each must be an error that names the option, before anything is computed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .process import run_forked
from .verdicts import Verdict, judge
from .world import TEST_PATIENT, World, answer


@dataclass(frozen=True)
class Wrong:
    """A wrong command line.

    Attributes:
        stage: whose command line.
        options: what is given besides the right ones, or in their place.
        stray: further words without an option.
        meant: it has one sensible meaning, under which the stage's usual answer is right.
        names: what a message must name; the options' names if empty.
    """

    stage: str
    options: dict[str, Any]
    stray: tuple[str, ...] = ()
    meant: bool = False
    names: tuple[str, ...] = ()


NOWHERE = "/nowhere/at/all"
WRONG = (
    Wrong("train", {"num_labeled": 2}),
    Wrong("inference", {"largest_component": "false"}, meant=True),
    Wrong("evaluate", {"chekpoint": f"{NOWHERE}/model.pt"}),
    Wrong("inference", {}, stray=("other_1.nii.gz", "other_2.nii.gz"), names=("other_1.nii.gz",)),
    Wrong("train", {"steps": "two"}),
    Wrong("train", {"image_size": 32}),
    Wrong("pretrain_global", {"extra_unlabelled_ids": "patient004"}),
    Wrong("train", {"dataset_dir": "~/nowhere/acdc"}, names=("nowhere/acdc",)),
    Wrong("train", {"resume": "false"}, meant=True),
    Wrong("inference", {"input": "{folder}/scan#2.nii.gz"}, meant=True, names=("scan#2",)),
    Wrong("train", {"steps": 0}),
    Wrong("train", {"steps": -5}),
    Wrong("train", {"steps": 2.5}),
    Wrong("train", {"steps_per_epoch": 3}),
    Wrong("train", {"batch_size": 0}),
    Wrong("train", {"image_size": [30, 30]}),
    Wrong("train", {"image_size": [32]}),
    Wrong("train", {"spacing_mm": -1}),
    Wrong("train", {"spacing_mm": 0}),
    Wrong("inference", {"spacing_mm": "wide"}),
    Wrong("train", {"learning_rate": "fast"}),
    Wrong("train", {"draw": "c9"}),
    Wrong("train", {"num_labelled": 7}),
    Wrong("train", {"num_labelled": "one"}),
    Wrong("train", {"initialisation": "encodr"}),
    Wrong("train", {"augmentation": "wild"}),
    Wrong("train", {"mixup_alpha": -1}),
    Wrong("train", {"weight_averaging": 2}),
    Wrong("train", {"batch_norm_statistics": "none"}, names=("statistics",)),
    Wrong("inference", {"precision": "float8"}),
    Wrong("evaluate", {"device": "cuda:9"}),
    Wrong("train", {"self_training_rounds": -1}),
    Wrong("train", {"split_path": f"{NOWHERE}/splits.json"}, names=("splits.json",)),
    Wrong("pretrain_global", {"strategy": "GX"}),
    Wrong("pretrain_global", {"temperature": 0}),
    Wrong("pretrain_global", {"crop_size": 0}),
    Wrong("pretrain_joint", {"gd_pairs": "circle"}),
    Wrong("evaluate", {"subset": "tests"}),
    Wrong("evaluate", {"checkpoint": f"{NOWHERE}/model.pt"}, names=("model.pt",)),
    Wrong("inference", {"input": NOWHERE}, names=(NOWHERE,)),
)
FULL = len(WRONG)


def run_case(world: World, index: int, random: np.random.Generator, folder: Path) -> Verdict:
    """Run a stage by a wrong command line."""
    wrong = WRONG[index]
    world.start(wrong.stage, folder)
    for name in ("scan#2", "scan"):  # not the same image: to take one for the other is another answer
        patient = TEST_PATIENT if name == "scan#2" else "patient005"
        shutil.copy(world.image(patient), folder / f"{name}.nii.gz")
    options = {
        name: value.format(folder=folder) if isinstance(value, str) else value for name, value in wrong.options.items()
    }
    arguments = [*world.command(wrong.stage, folder, **options), *wrong.stray]
    ending = run_forked(arguments, folder / "run")
    reference = world.reference(wrong.stage)
    same = wrong.meant and list(answer(wrong.stage, folder).values()) == list(reference.answer.values())
    given = " ".join([*(f"--{name} {value}" for name, value in options.items()), *wrong.stray])
    names = wrong.names or tuple(wrong.options)
    tried = f"{wrong.stage} {given}"
    return judge(ending, same, names, tried, reference.ending.warnings, option=True, difference="was ignored")
