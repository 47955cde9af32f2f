"""Phantom datasets with filled caches, and a way to run the bundles' configs on them in seconds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from bundles.run import load_config, run_config
from common.data.cache import prepare
from common.errors import root_cause
from phantom import (
    write_acdc_phantom,
    write_cityscapes_phantom,
    write_mmwhs_phantom,
    write_phantom_splits,
    write_prostate_phantom,
)

from .places import BUNDLE, BUNDLES
from .processes import undisturbed

NUM_PRETRAIN = 4

# Everything that makes a result or a cache entry: images of a ninth of the pixels, and an N4 that hardly iterates.
# A string is what MONAI Label gives as the device; float32 so that no test depends on the processor's instructions.
PREPROCESSING = {"image_size": [64, 64], "spacing_mm": 2.4, "n4_iterations": [5, 5]}
# The labels of 18 (to pre-train on) and 32 (to test on) lack a class, in the phantom as in the real data.
PROSTATE_IDS = [f"prostate_{number}" for number in ("00", "01", "02", "18", "29", "32", "34")]
SPACING_MM = {"acdc": 2.4, "prostate": 1.8, "mmwhs": 3.2}
NETWORK = {"device": "cpu", "precision": "float32"}
STEPS = {"steps": 2, "steps_per_epoch": 1, "batch_size": 16}
# What `train` does by default and the paper does not: left out where a test is about something else, since it takes
# time, and a run with a plan cannot be made longer.
PLAIN = {"self_training_rounds": 0, "learning_rate_decay": "none", "weight_averaging": 0.0, "augmentation": "paper"}
OUTPUT = {"largest_component": False}
GLOBAL = {"hidden_features": 16, "crop_size": 40, "crop_start": [3, 20]}
OPTIONS: dict[str, dict[str, Any]] = {
    "pretrain_global": {**STEPS, **GLOBAL},
    "pretrain_local": STEPS,
    "pretrain_joint": {**STEPS, **GLOBAL},
    "train": {**STEPS, **PLAIN, "initialisation": "encoder_decoder"},
    "select": {},
    "evaluate": OUTPUT,
    "inference": OUTPUT,
}
# What takes their place where photographs are.
PHOTOGRAPHS = {"image_size": [32, 64], "num_labelled": 1}
OF_VOLUMES = {"spacing_mm", "n4_iterations", "crop_size", "crop_start"}
TRAINING = ("pretrain_global", "pretrain_local", "pretrain_joint", "train")
# For volumes that are not in the cache: to start processes takes longer than to preprocess them.
NO_PROCESSES = {f"{part}#num_workers": 0 for part in ("train#dataset", "validate#dataset", "unlabelled")}


def contents(bundle: Path) -> dict[str, dict[str, Any]]:
    """Read all configs of a bundle that are not laid over another."""
    return {name: json.loads((bundle / "configs" / f"{name}.json").read_text(encoding="utf-8")) for name in OPTIONS}


def as_text(value: Any) -> Any:
    """Return a path as MONAI needs it in a config."""
    return str(value) if isinstance(value, Path) else value


def load_small(bundle: Path, config: str, settings: dict[str, Any]) -> Any:
    """Load a config of a bundle with settings that may be paths."""
    return load_config(bundle, config, **{key: as_text(value) for key, value in settings.items()})


def voxels(path: Path) -> np.ndarray:
    """Read the voxels of a NIfTI file as they are stored."""
    return np.asanyarray(nibabel.load(path).dataobj)


def dice(found: np.ndarray, truth: np.ndarray) -> float:
    """Compute the Dice coefficient of two masks."""
    return 2 * (found & truth).sum() / (found.sum() + truth.sum())


def change_voxels(path: Path, function: Callable[[np.ndarray], np.ndarray]) -> None:
    """Replace a volume by a function of its voxels, on the same grid."""
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(function(np.asanyarray(image.dataobj)), image.affine), path)


@dataclass(frozen=True)
class Phantom:
    """Seven phantom patients: four to pre-train on (the first of them labelled), one for validation, two to test on."""

    root: Path
    bundle: Path = BUNDLE

    @property
    def name(self) -> str:
        """Which dataset it is one of, as in `BUNDLES`."""
        return self.bundle.name.removeprefix("bundle_")

    @property
    def dataset_dir(self) -> Path:
        return self.root / "data"

    @property
    def split_path(self) -> Path:
        return self.root / "splits.json"

    @property
    def cache_dir(self) -> Path:
        return self.root / "cache"

    @property
    def items(self) -> dict[str, dict[str, str]]:
        """The items of the datalist, by id."""
        datalist = load_config(self.bundle, "pretrain_global").get_parsed_content("datalist")
        return {item["id"]: item for item in datalist(self.dataset_dir)}

    def image(self, patient: str) -> Path:
        return Path(self.items[patient]["image"])

    def label(self, patient: str) -> Path:
        return Path(self.items[patient]["label"])

    def settings(self, config: str, folder: Path, **overrides: Any) -> dict[str, Any]:
        """Return what has to be overridden for a small run that writes to `folder` only."""
        settings: dict[str, Any] = {**PREPROCESSING, **NETWORK, **OPTIONS[config], "output_dir": folder / config}
        if self.name in SPACING_MM:
            settings["spacing_mm"] = SPACING_MM[self.name]
        else:
            settings = {key: value for key, value in settings.items() if key not in OF_VOLUMES} | PHOTOGRAPHS
            settings["augmentation"] = "crop+colour"
            own = contents(self.bundle)[config]
            settings = {key: value for key, value in settings.items() if key in own}
        if config == "inference":
            settings["checkpoint"] = folder / "models" / "model.pt"
        else:
            settings.update(dataset_dir=self.dataset_dir, split_path=self.split_path, cache_dir=self.cache_dir)
            settings["ckpt_dir"] = folder / "models"
        return {**settings, **overrides}

    def config(self, config: str, folder: Path | None = None, **overrides: Any) -> Any:
        """Load a config for a small run without running it."""
        return load_small(self.bundle, config, self.settings(config, folder or self.root, **overrides))

    def run(self, config: str, folder: Path, run_id: str = "run", **overrides: Any) -> None:
        """Run a config in this process."""
        with undisturbed():
            run_config(self.bundle, config, run_id, **self.settings(config, folder, **overrides))

    def fail(self, config: str, folder: Path, run_id: str = "run", **overrides: Any) -> BaseException:
        """Run a config that must fail, and return the error that started it all."""
        with pytest.raises(RuntimeError) as caught:
            self.run(config, folder, run_id, **overrides)
        return root_cause(caught.value)


def make_phantom(name: str, root: Path) -> Phantom:
    """Write a phantom dataset in its official layout, its split file and its cache."""
    phantom = Phantom(root, BUNDLES[name])
    if name == "acdc":
        ids = write_acdc_phantom(phantom.dataset_dir, 7, size=(64, 72))
    elif name == "prostate":
        ids = write_prostate_phantom(phantom.dataset_dir, PROSTATE_IDS, num_unlabelled=1, size=(64, 72))
    elif name == "cityscapes":
        ids = write_cityscapes_phantom(phantom.dataset_dir, 7, size=(64, 128))
    else:
        ids = write_mmwhs_phantom(phantom.dataset_dir, 7, size=(56, 64))
    write_phantom_splits(phantom.split_path, ids, NUM_PRETRAIN)
    # Filled here, since stages that find two volumes missing start processes, which takes longer than all of them.
    config = phantom.config("pretrain_global")
    datalist, cached = (config.get_parsed_content(key) for key in ("datalist", "cached_preprocessing"))
    prepare(datalist, str(phantom.dataset_dir), cached, num_workers=0, progress=False)
    return phantom
