"""The recommended way on phantoms, in minutes on a CPU: shows that everything runs, not that the method works."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from bundles.places import REPOSITORY, RUNS
from bundles.run import run_config
from common.data import datalists
from phantom import (
    write_acdc_phantom,
    write_cityscapes_phantom,
    write_mmwhs_phantom,
    write_phantom_splits,
    write_prostate_phantom,
    write_reoriented,
)

NUM_PRETRAIN, NUM_TEST = 9, 4
GLOBAL_STEPS, FINE_TUNING_STEPS = 150, 60
CROP: dict[str, Any] = {"crop_size": 50, "crop_start": [5, 35]}  # the share of the image that it is in the paper


def reorient(original: Path, folder: Path) -> Path:
    """Write a volume in another orientation, to be segmented; return the file."""
    path = folder / f"{original.name.removesuffix('.nii.gz')}_SAR.nii.gz"
    write_reoriented(original, path, "SAR")
    return path


def shrink(original: Path, folder: Path) -> Path:
    """Write a photograph in another size and format, to be segmented; return the file."""
    path = folder / f"{original.stem}.jpg"
    with Image.open(original) as photograph:
        photograph.reduce(2).save(path)
    return path


@dataclass(frozen=True)
class Task:
    """A dataset of the demonstration.

    Attributes:
        bundle: its folder.
        write: writes so many phantoms into a folder and returns their ids.
        datalist: lists what is in that folder.
        geometry: what the bundle's configs are overridden with: fewer and larger pixels, so that it takes minutes.
        crop: the same for the views of the global stage.
        num_labelled: images that are labelled.
        change: writes an image of the phantom in another way into a folder, to be segmented, and returns the file.
        changed: how, in words.
        suffix: what the name of its segmentation ends in.
    """

    bundle: Path
    write: Callable[..., list[str]]
    datalist: Callable[[Path], list[dict[str, str]]]
    geometry: dict[str, Any]
    crop: dict[str, Any] = field(default_factory=lambda: CROP)
    num_labelled: int = 1
    change: Callable[[Path, Path], Path] = reorient
    changed: str = "a volume in another orientation"
    suffix: str = "_seg.nii.gz"


TASKS = {
    "acdc": Task(
        bundle=REPOSITORY / "bundle_acdc",
        write=write_acdc_phantom,
        datalist=datalists.acdc,
        geometry={"image_size": [96, 96], "spacing_mm": 2.2},
    ),
    "prostate": Task(
        bundle=REPOSITORY / "bundle_prostate",
        write=write_prostate_phantom,
        datalist=datalists.msd_prostate,
        geometry={"image_size": [96, 96], "spacing_mm": 1.25},
    ),
    "mmwhs": Task(
        bundle=REPOSITORY / "bundle_mmwhs",
        write=write_mmwhs_phantom,
        datalist=datalists.mmwhs,
        geometry={"image_size": [96, 96], "spacing_mm": 2.5},
    ),
    "cityscapes": Task(
        bundle=REPOSITORY / "bundle_cityscapes",
        write=partial(write_cityscapes_phantom, size=(256, 512)),
        datalist=datalists.cityscapes,
        geometry={"image_size": [64, 128]},
        crop={},
        num_labelled=4,
        change=shrink,
        changed="a photograph in another size and format",
        suffix="_seg.png",
    ),
}


def demo(output_dir: str = "", dataset: str = "acdc", labels_dir: str = "") -> None:
    """Prepare, pre-train, fine-tune, evaluate and segment phantoms; a folder of an earlier demo is replaced.

    Args:
        output_dir: gets the phantoms, weights, tables and pictures; `runs/demo` or `runs/demo_<dataset>` if empty.
        dataset: acdc, prostate, mmwhs or cityscapes: whose bundle is shown, on phantoms in its layout.
        labels_dir: with prostate, a folder with the label volumes of MSD Task05 (`prostate_00.nii.gz` and so on) to
            make the phantoms around; without one their anatomy is made up.
    """
    if dataset not in TASKS:
        raise ValueError(f"dataset must be one of {', '.join(TASKS)}, got {dataset!r}.")
    if labels_dir and (dataset != "prostate" or not Path(labels_dir).is_dir()):
        raise ValueError(
            f"labels_dir must be a folder with label volumes, and dataset prostate, got {labels_dir!r} and {dataset!r}."
        )
    started = time.monotonic()
    task = TASKS[dataset]
    default = RUNS / ("demo" if dataset == "acdc" else f"demo_{dataset}")
    root = Path(output_dir).resolve() if output_dir else default
    marker = root / ".demo"
    if root.exists() and not marker.is_file() and any(root.iterdir()):
        raise ValueError(
            f"output_dir must be empty or the folder of an earlier demo, got {str(root)!r}: choose another."
        )
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    marker.touch()
    logging.basicConfig(level=logging.WARNING)

    dataset_dir, splits = root / "phantom", root / "splits.json"
    anatomy = {"labels_dir": labels_dir} if labels_dir else {}
    ids = task.write(dataset_dir, NUM_PRETRAIN + 1 + NUM_TEST, **anatomy)
    write_phantom_splits(splits, ids, NUM_PRETRAIN, (task.num_labelled,))
    shared: dict[str, Any] = {"dataset_dir": dataset_dir, "split_path": splits, "cache_dir": root / "cache"}
    small = {**shared, **task.geometry}
    initialisations = {"random": "random", "pre-trained": "encoder"}

    stages: list[tuple[str, str, dict[str, Any]]] = [
        ("pretrain_global", "pretrain_global", {"steps": GLOBAL_STEPS, "hidden_features": 512, **task.crop}),
    ]
    for name, initialisation in initialisations.items():
        folder = root / name
        stages += [
            (
                f"fine-tuning ({name})",
                "train",
                {
                    "num_labelled": task.num_labelled,
                    "initialisation": initialisation,
                    "pretrained_dir": root / "pretrained",
                    "ckpt_dir": folder,
                    "output_dir": folder,
                    "steps": FINE_TUNING_STEPS,
                    "steps_per_epoch": FINE_TUNING_STEPS // 3,
                    "batch_size": 12,
                },
            ),
            (
                f"evaluation ({name})",
                "evaluate",
                {
                    "num_labelled": task.num_labelled,
                    "checkpoint": folder / "model.pt",
                    "output_dir": folder / "test",
                },
            ),
        ]
    with tqdm(total=len(stages) + 2, desc="Demo", unit="stage") as bar:
        bar.set_postfix_str("prepare")
        run_config(task.bundle, "pretrain_global", "prepare", quiet=True, **small)
        bar.update()
        for description, config, overrides in stages:
            bar.set_postfix_str(description)
            settings = {**small, "ckpt_dir": root / "pretrained", "output_dir": root / config, **overrides}
            if config == "evaluate":
                settings.pop("ckpt_dir")
            run_config(task.bundle, config, quiet=True, **settings)
            bar.update()
        bar.set_postfix_str(f"inference on {task.changed}")
        test_id = ids[-1]
        original = next(item["image"] for item in task.datalist(dataset_dir) if item["id"] == test_id)
        (root / "new").mkdir()
        changed = task.change(Path(original), root / "new")
        run_config(
            task.bundle,
            "inference",
            quiet=True,
            **task.geometry,
            input=changed,
            checkpoint=root / "pre-trained" / "model.pt",
            output_dir=root / "segmentations",
        )
        bar.update()

    print(f"\nDice on {NUM_TEST} phantoms for the test; labelled: {task.num_labelled}, steps: {FINE_TUNING_STEPS}.")
    for initialisation in initialisations:
        means = json.loads((root / initialisation / "test" / "evaluation.json").read_text())["mean_dice"]
        print(f"  {initialisation:12s}" + "".join(f"  {name} {value:.3f}" for name, value in means.items()))
    print(f"Picture of a segmentation: {root / 'pre-trained' / 'test' / 'pictures' / f'{test_id}.png'}")
    segmentation = root / "segmentations" / f"{changed.name.split('.')[0]}{task.suffix}"
    print(f"Segmentation of {task.changed}: {segmentation}")
    print(f"It took {(time.monotonic() - started) / 60:.1f} minutes. Phantoms prove that the code runs; they prove")
    print("nothing about patients.")
