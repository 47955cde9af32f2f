"""A phantom dataset with a filled cache, and a way to run the bundle's configs on it in seconds."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser

from common.data.cache import fill_cache
from common.data.datalists import acdc
from experiments.phantom import write_acdc_phantom, write_phantom_splits
from experiments.stages import run_config
from tests.conftest import REPOSITORY

BUNDLE = REPOSITORY / "bundle_acdc"
CONFIGS = BUNDLE / "configs"
NUM_PRETRAIN = 4

# Everything that makes a result or a cache entry: images of a ninth of the pixels, and an N4 that hardly iterates.
# A string is what MONAI Label gives as the device; float32 so that no test depends on the processor's instructions.
PREPROCESSING = {"image_size": [64, 64], "spacing_mm": 2.4, "preprocessing#transforms#4#iterations": [5, 5]}
NETWORK = {"device": "cpu", "precision": "float32"}
STEPS = {"steps": 2, "steps_per_epoch": 1, "batch_size": 16}
GLOBAL = {"hidden_features": 16, "crop_size": 40, "crop_start": [3, 20]}
OPTIONS: dict[str, dict[str, Any]] = {
    "pretrain_global": {**STEPS, **GLOBAL},
    "pretrain_local": STEPS,
    "pretrain_joint": {**STEPS, **GLOBAL},
    "train": STEPS,
    "evaluate": {},
    "inference": {},
}


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Undo what a run does to the process: log handlers on a captured stdout, the hook for errors, the import path."""
    root, hook, path = logging.getLogger(), sys.excepthook, list(sys.path)
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        root.handlers[:], sys.excepthook, sys.path[:] = handlers, hook, path
        root.setLevel(level)


@dataclass(frozen=True)
class Phantom:
    """Seven phantom patients: four to pre-train on (the first of them labelled), one for validation, two to test on."""

    root: Path

    @property
    def dataset_dir(self) -> Path:
        return self.root / "data"

    @property
    def split_path(self) -> Path:
        return self.root / "splits.json"

    @property
    def cache_dir(self) -> Path:
        return self.root / "cache"

    def image(self, patient: str) -> Path:
        return self.dataset_dir / "training" / patient / f"{patient}_frame01.nii.gz"

    def label(self, patient: str) -> Path:
        return self.dataset_dir / "training" / patient / f"{patient}_frame01_gt.nii.gz"

    def settings(self, config: str, folder: Path, **overrides: Any) -> dict[str, Any]:
        """Return what has to be overridden for a small run that writes to `folder` only."""
        settings: dict[str, Any] = {**PREPROCESSING, **NETWORK, **OPTIONS[config], "output_dir": folder / config}
        if config == "inference":
            settings["checkpoint"] = folder / "models" / "model.pt"
        else:
            settings.update(dataset_dir=self.dataset_dir, split_path=self.split_path, cache_dir=self.cache_dir)
            settings["ckpt_dir"] = folder / "models"
        return {**settings, **overrides}

    def run(self, config: str, folder: Path, run_id: str = "run", **overrides: Any) -> None:
        """Run a config in this process."""
        with undisturbed():
            run_config(BUNDLE, config, run_id, **self.settings(config, folder, **overrides))


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Phantom:
    phantom = Phantom(tmp_path_factory.mktemp("phantom"))
    ids = write_acdc_phantom(phantom.dataset_dir, 7, size=(64, 72))
    write_phantom_splits(phantom.split_path, ids, NUM_PRETRAIN)
    # Filled here, since stages that find two volumes missing start processes, which takes longer than all of them.
    parser = ConfigParser()
    parser.read_config(str(CONFIGS / "pretrain_global.json"))
    parser.update({**PREPROCESSING, "cache_dir": str(phantom.cache_dir)})
    files = [item["image"] for item in acdc(phantom.dataset_dir)]
    fill_cache(files, parser.get_parsed_content("cached_preprocessing"), num_workers=0, progress=False)
    return phantom
