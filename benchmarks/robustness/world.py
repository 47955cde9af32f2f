"""A small world to damage: phantom patients, a split, a cache, and every stage run once on them without trouble.

Everything is tiny: images of 32 x 32 pixels, two steps, an N4 of two iterations. The stages are those of `bundle_acdc`,
run by their command lines.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import importlib
import inspect
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partialmethod
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch

from common.engines import Resume
from common.transforms import N4BiasFieldCorrectiond
from phantom import write_acdc_phantom, write_phantom_splits  # the one import from there

from .process import TIMEOUT_SECONDS, Ending, run_forked

BUNDLE = Path(__file__).resolve().parents[2] / "bundle_acdc"
STAGES = ("pretrain_global", "pretrain_local", "pretrain_joint", "train", "evaluate", "inference")
OUTPUTS = {
    "pretrain_global": "pretrained_encoder.pt",
    "pretrain_local": "pretrained_encoder_decoder.pt",
    "pretrain_joint": "pretrained_encoder_decoder.pt",
    "train": "model.pt",
    "self_training": "model.pt",
}
# For each stage, the weights that must lie in its ckpt_dir, and the stage that they come from.
INPUTS = {
    "pretrain_global": {},
    "pretrain_local": {"pretrained_encoder.pt": "pretrain_global"},
    "pretrain_joint": {},
    "train": {"pretrained_encoder_decoder.pt": "pretrain_local"},
    "self_training": {"pretrained_encoder_decoder.pt": "pretrain_local"},
    "evaluate": {"model.pt": "train"},
    "inference": {"model.pt": "train"},
}
_GEOMETRY = {"image_size": [32, 32], "spacing_mm": 4.0, "device": "cpu", "precision": "float32"}
_STEPS = {"steps": 2, "steps_per_epoch": 1, "batch_size": 8}
_START = {"initialisation": "encoder_decoder"}
_GLOBAL = {"hidden_features": 16, "crop_size": 20, "crop_start": [2, 10], "num_partitions": 2}
_OPTIONS: dict[str, dict[str, Any]] = {
    "pretrain_global": {**_STEPS, **_GLOBAL},
    "pretrain_local": {**_STEPS, "num_partitions": 2},
    "pretrain_joint": {**_STEPS, **_GLOBAL},
    # Without what makes a run one with a plan, which cannot be made longer.
    "train": {**_STEPS, **_START, "self_training_rounds": 0, "learning_rate_decay": "none"},
    "self_training": {**_STEPS, **_START, "self_training_rounds": 1},
    "evaluate": {"pictures": False},
    "inference": {"pictures": False},
}
NUM_PATIENTS, NUM_PRETRAIN = 6, 3  # patient001 is labelled, 004 for validation, 005 and 006 to test on
TEST_PATIENT = "patient006"
_SIZE = (64, 72)

Answer = dict[str, Any]


@dataclass(frozen=True)
class Reference:
    """A stage without trouble: its folder, how it ended and what came out of it."""

    folder: Path
    ending: Ending
    answer: Answer


class World:
    """The phantoms and the undamaged runs, which are made when they are first asked for.

    Args:
        root: folder of everything.

    Raises:
        RuntimeError: if a stage fails without any trouble.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data, self.splits, self.cache = root / "data", root / "splits.json", root / "cache"
        self.ids = write_acdc_phantom(self.data, NUM_PATIENTS, size=_SIZE)
        write_phantom_splits(self.splits, self.ids, NUM_PRETRAIN)
        self._references: dict[str, Reference] = {}
        torch.set_num_threads(1)
        _shrink()

    def image(self, patient: str, data: Path | None = None) -> Path:
        """Return where the image of a patient is, in the world's data set or a copy."""
        return (data or self.data) / "training" / patient / f"{patient}_frame01.nii.gz"

    def label(self, patient: str, data: Path | None = None) -> Path:
        """Return where the label of a patient is."""
        return self.image(patient, data).with_name(f"{patient}_frame01_gt.nii.gz")

    def copy_data(self, folder: Path) -> Path:
        """Copy the data set, to break something in."""
        return Path(shutil.copytree(self.data, folder / "data"))

    def start(self, stage: str, folder: Path) -> Path:
        """Put the weights that a stage needs into a folder's `models`; return that."""
        models = folder / "models"
        models.mkdir(parents=True, exist_ok=True)
        for name, source in INPUTS[stage].items():
            shutil.copy(self.reference(source).folder / "models" / OUTPUTS[source], models / name)
        return models

    def command(self, stage: str, folder: Path, **overrides: Any) -> list[str]:
        """Return the command line of a stage that writes to a folder only; None as a value leaves an option out."""
        config = "train" if stage == "self_training" else stage
        run_id = "run" if stage in ("evaluate", "inference") else "training"
        options: dict[str, Any] = {
            "config_file": BUNDLE / "configs" / f"{config}.json",
            "meta_file": BUNDLE / "configs" / "metadata.json",
            "logging_file": BUNDLE / "configs" / "logging.conf",
            "bundle_root": BUNDLE,
            **_GEOMETRY,
            **_OPTIONS[stage],
            "output_dir": folder / stage,
        }
        if stage == "inference":
            options.update(input=self.image(TEST_PATIENT), checkpoint=folder / "models" / "model.pt")
        else:
            options.update(dataset_dir=self.data, split_path=self.splits, cache_dir=self.cache)
            options["ckpt_dir"] = folder / "models"
        options.update(overrides)
        given = {name: value for name, value in options.items() if value is not None}
        return ["run", run_id, *(text for name, value in given.items() for text in (f"--{name}", str(value)))]

    def run(
        self,
        stage: str,
        folder: Path,
        timeout: float = TIMEOUT_SECONDS,
        kill_after: float | None = None,
        prepare: Callable[[], None] | None = None,
        **overrides: Any,
    ) -> Ending:
        """Run a stage in a child."""
        arguments = self.command(stage, folder, **overrides)
        return run_forked(arguments, folder / "run", timeout, kill_after, prepare)

    def reference(self, stage: str) -> Reference:
        """Return a stage's run without trouble; the first time it takes place."""
        if stage not in self._references:
            folder = self.root / "reference" / stage
            self.start(stage, folder)
            ending = self.run(stage, folder)
            if not ending.succeeded:
                raise RuntimeError(f"{stage} must run without trouble before it can be disturbed:\n{ending.output}")
            _import(ending.modules)
            self._references[stage] = Reference(folder, ending, answer(stage, folder))
        return self._references[stage]


def answer(stage: str, folder: Path) -> Answer:
    """Return what a stage has left in a folder, in a form that can be compared; empty where there is nothing."""
    if stage == "inference":
        return {path.name: volume(path) for path in sorted((folder / stage).glob("*_seg.nii.gz"))}
    if stage == "evaluate":
        path = folder / stage / "dice.csv"
        return {path.name: path.read_text()} if path.is_file() and (path.parent / "evaluation.json").is_file() else {}
    path = folder / "models" / OUTPUTS[stage]
    return tensors(path) if path.is_file() else {}


def tensors(path: Path) -> Answer:
    """Return hashes of the tensors of a file by name, without the product's help; {"unreadable": ...} if damaged."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can fail in any way
        return {"unreadable": type(error).__name__}
    return dict(_hashes("", content))


def _hashes(name: str, value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        array = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
        yield name, (tuple(value.shape), str(value.dtype), hashlib.sha256(array.tobytes()).hexdigest())
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield from _hashes(f"{name}/{key}", entry)
    elif isinstance(value, (list, tuple)):
        for index, entry in enumerate(value):
            yield from _hashes(f"{name}/{index}", entry)
    else:
        yield name, repr(value)


def volume(path: Path) -> Answer:
    """Return shape, affine and voxels of a NIfTI file."""
    image = nibabel.load(path)
    return {"affine": image.affine.tolist(), "voxels": np.asanyarray(image.dataobj).tolist()}


def unfinished(*folders: Path) -> list[str]:
    """Return what was half-written and left behind in folders."""
    return sorted(str(path) for folder in folders for path in folder.rglob(".unfinished-*"))


def _shrink() -> None:
    """Shorten N4, and save the state of a run after every epoch instead of every minute, in all children."""
    n4 = N4BiasFieldCorrectiond.__init__
    short = {name: (2,) for name in ("iterations",) if name in inspect.signature(n4).parameters}
    if short:
        names = list(inspect.signature(n4).parameters)
        values = n4.__defaults__ or ()
        defaults = dict(zip(names[-len(values) :], values, strict=True))
        n4.__defaults__ = tuple({**defaults, **short}.values())
    if "interval_seconds" in inspect.signature(Resume.__init__).parameters and not isinstance(
        Resume.__dict__["__init__"], partialmethod
    ):
        setattr(Resume, "__init__", partialmethod(Resume.__init__, interval_seconds=0.0))  # noqa: B010 (mypy forbids =)


def _import(modules: tuple[str, ...]) -> None:
    """Import what a child had to, so that the next ones need not."""
    if "itk" in modules:  # its parts load one another in an order of their own
        itk = importlib.import_module("itk")
        itk.image_from_array(np.zeros((2, 2, 2), np.float32))
        importlib.import_module("itk.itkN4BiasFieldCorrectionImageFilterPython")
    for name in modules:
        if name not in sys.modules and name != "__main__" and name.split(".")[0] not in ("itk", "_ITKCommonPython"):
            with contextlib.suppress(Exception):  # some can be imported by others only
                importlib.import_module(name)
    gc.freeze()  # else each child's collection of garbage would copy what it shares with this process
