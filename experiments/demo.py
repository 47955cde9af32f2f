"""The whole method on phantoms, in minutes on a CPU: shows that everything runs, not that the method works."""

from __future__ import annotations

import json
import logging
import shutil
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .phantom import write_acdc_phantom, write_phantom_splits, write_reoriented
from .stages import REPOSITORY, run_config

BUNDLE = REPOSITORY / "bundle_acdc"
NUM_PRETRAIN, NUM_TEST = 9, 4
GLOBAL_STEPS, LOCAL_STEPS, FINE_TUNING_STEPS = 150, 30, 60


def demo(output_dir: str = str(REPOSITORY / "runs" / "demo")) -> None:
    """Pre-train, fine-tune, evaluate and segment phantom volumes; a folder of an earlier demo is replaced.

    Args:
        output_dir: gets the phantoms, weights, tables and pictures.
    """
    started = time.monotonic()
    root = Path(output_dir).resolve()
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
    ids = write_acdc_phantom(dataset_dir, NUM_PRETRAIN + 1 + NUM_TEST)
    write_phantom_splits(splits, ids, NUM_PRETRAIN)
    shared: dict[str, Any] = {"dataset_dir": dataset_dir, "split_path": splits, "cache_dir": root / "cache"}
    # A quarter of the pixels: minutes, not hours.
    geometry: dict[str, Any] = {"image_size": [96, 96], "spacing_mm": 2.2}
    small = {**shared, **geometry}
    starts = {"random": "random", "pre-trained": "encoder_decoder"}

    stages: list[tuple[str, str, dict[str, Any]]] = [
        (
            "pretrain_global",
            "pretrain_global",
            {"steps": GLOBAL_STEPS, "hidden_features": 512, "crop_size": 50, "crop_start": [5, 35]},
        ),
        ("pretrain_local", "pretrain_local", {"steps": LOCAL_STEPS}),
    ]
    for start, initialisation in starts.items():
        folder = root / start
        stages += [
            (
                f"fine-tuning ({start})",
                "train",
                {
                    "initialisation": initialisation,
                    "pretrained_dir": root / "pretrained",
                    "ckpt_dir": folder,
                    "output_dir": folder,
                    "steps": FINE_TUNING_STEPS,
                    "steps_per_epoch": 20,
                    "batch_size": 12,
                },
            ),
            (f"evaluation ({start})", "evaluate", {"checkpoint": folder / "model.pt", "output_dir": folder / "test"}),
        ]
    with tqdm(total=len(stages) + 1, desc="Demo", unit="stage") as bar:
        for description, config, overrides in stages:
            bar.set_postfix_str(description)
            settings = {**small, "ckpt_dir": root / "pretrained", "output_dir": root / config, **overrides}
            if config == "evaluate":
                settings.pop("ckpt_dir")
            run_config(BUNDLE, config, quiet=True, **settings)
            bar.update()
        bar.set_postfix_str("inference in another orientation")
        test_id = ids[-1]
        stem = f"{test_id}_frame01"
        original = dataset_dir / "training" / test_id / f"{stem}.nii.gz"
        reoriented = root / "new" / f"{stem}_SAR.nii.gz"
        reoriented.parent.mkdir()
        write_reoriented(original, reoriented, "SAR")
        run_config(
            BUNDLE,
            "inference",
            quiet=True,
            **geometry,
            input=reoriented,
            checkpoint=root / "pre-trained" / "model.pt",
            output_dir=root / "segmentations",
        )
        bar.update()

    print(f"\nDice on {NUM_TEST} phantom test volumes, one labelled volume, {FINE_TUNING_STEPS} fine-tuning steps:")
    for start in starts:
        means = json.loads((root / start / "test" / "evaluation.json").read_text())["mean_dice"]
        print(f"  {start:12s}" + "".join(f"  {name} {value:.3f}" for name, value in means.items()))
    print(f"Picture of a segmentation: {root / 'pre-trained' / 'test' / 'pictures' / f'{test_id}.png'}")
    print(f"Segmentation of a volume in another orientation: {root / 'segmentations' / f'{stem}_SAR_seg.nii.gz'}")
    print(f"It took {(time.monotonic() - started) / 60:.1f} minutes. Phantoms prove that the code runs; they prove")
    print("nothing about patients.")
