"""A smoke run of `bundle_prostate` on the few real volumes at hand: shows that they pass, not how good the result is.

Eight T2 volumes, one of them with a label, are what is at hand: three PROSTATEx cases stored as in MSD Task05 (4-D, T2
and ADC) and five of Prostate-3T (3-D). No accuracy can be measured with that.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from matplotlib.lines import Line2D

from bundles.places import REPOSITORY, RUNS
from bundles.run import commit, run_config
from common.data.datalists import image_label_folders
from common.data.inputs import images
from common.evaluation import volume_dice
from common.files import write_text_atomically
from common.outputs import segmentation_path
from common.pictures import COLOURS
from common.records import write_record
from phantom.files import reoriented

from ..plots import new_figure, save_figure

BUNDLE = REPOSITORY / "bundle_prostate"
GLOBAL_STEPS, LOCAL_STEPS, FINE_TUNING_STEPS = 100, 50, 150
CLASSES = ("PZ", "CZ")
_NUM_SLICES, _SHOWN_MM = 5, 110.0


def prostate_smoke(data_dir: str, output_dir: str = "", pictures_dir: str = "", **settings: Any) -> None:
    """Prepare, pre-train, fine-tune on the labelled volume and segment all; what is finished is not run again.

    The last volume of each folder is kept out of pre-training. There are no validation volumes: the last weights are
    the model.

    Args:
        data_dir: has `Task05_like/imagesTr` and `labelsTr` with 4-D volumes, at least one with a label, and `T2_only`
            with 3-D volumes; five or more volumes that are not the last of their folder.
        output_dir: gets weights, segmentations and `smoke.json`; `runs/prostate_smoke` if empty.
        pictures_dir: gets `smoke.png`; `output_dir` if empty.
        **settings: further values of the configs' ids, for all configs.
    """
    logging.basicConfig(level=logging.WARNING)
    root = Path(output_dir).resolve() if output_dir else RUNS / "prostate_smoke"
    four_d = image_label_folders(Path(data_dir, "Task05_like"))
    three_d = images(Path(data_dir, "T2_only"))
    items = [*four_d, *three_d]
    labelled = [item for item in items if "label" in item]
    if not labelled:
        raise ValueError(f"data_dir must have a label in Task05_like/labelsTr, got none in {data_dir!r}.")
    held_out = [four_d[-1]["id"], three_d[-1]["id"]]
    shared = _write_lists(root, items, labelled[:1], held_out) | settings

    stages: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("pretrain_global", "prepare", {}),
        ("pretrain_global", "run", {"steps": GLOBAL_STEPS}),
        ("pretrain_local", "run", {"steps": LOCAL_STEPS}),
        ("train", "run", {"steps": FINE_TUNING_STEPS, "initialisation": "encoder_decoder"}),
    )
    seconds: dict[str, float] = {}
    for config, run_id, overrides in stages:
        started = time.monotonic()
        values = {**shared, "ckpt_dir": root / "models", "output_dir": root / config, **overrides}
        run_config(BUNDLE, config, run_id, quiet=True, **values)
        seconds[config if run_id == "run" else run_id] = time.monotonic() - started
    for folder in {Path(item["image"]).parent for item in items}:
        run_config(
            BUNDLE,
            "inference",
            quiet=True,
            input=folder,
            checkpoint=root / "models" / "model.pt",
            output_dir=root / "segmentations",
            **settings,
        )
    _report(root, Path(pictures_dir or root), items, labelled[0], held_out, seconds)


def _write_lists(
    root: Path, items: Sequence[dict[str, str]], labelled: Sequence[dict[str, str]], held_out: Sequence[str]
) -> dict[str, Any]:
    """Write a datalist and a split file, and return what the configs are overridden with to use them."""
    root.mkdir(parents=True, exist_ok=True)
    absolute = [
        {key: value if key == "id" else str(Path(value).resolve()) for key, value in item.items()} for item in items
    ]
    write_text_atomically(root / "datalist.json", json.dumps({"training": absolute}, indent=2) + "\n")
    names = [item["id"] for item in labelled]
    pretrain = [item["id"] for item in items if item["id"] not in held_out]
    split = {
        "source": "smoke run on a few volumes: those of the test have no label and are not used",
        "pretrain": pretrain,
        "test": list(held_out),
        "draws": {str(len(names)): {"c1": {"labelled": names, "validation": []}}},
    }
    write_text_atomically(root / "splits.json", json.dumps(split, indent=2) + "\n")
    return {
        "dataset_dir": root,
        "datalist": "$datalists.json_datalist",
        "split_path": root / "splits.json",
        "cache_dir": root / "cache",
    }


def _report(
    root: Path,
    pictures_dir: Path,
    items: Sequence[dict[str, str]],
    labelled: Mapping[str, str],
    held_out: Sequence[str],
    seconds: Mapping[str, float],
) -> None:
    """Write `smoke.json` and the picture `smoke.png`, which has the volumes of the zones beside each row."""
    zones_ml: dict[str, dict[str, float]] = {}
    for item in items:
        image = nibabel.load(segmentation_path(item["image"], str(root / "segmentations")))
        voxel_ml = float(np.prod(nibabel.affines.voxel_sizes(image.affine))) / 1000
        counts = np.bincount(np.asanyarray(image.dataobj).ravel(), minlength=len(CLASSES) + 1)[1:]
        zones_ml[item["id"]] = {
            name: round(float(count) * voxel_ml, 1) for name, count in zip(CLASSES, counts, strict=True)
        }
    prediction, truth = (
        torch.as_tensor(np.asanyarray(nibabel.load(path).dataobj).astype(np.int64))
        for path in (segmentation_path(labelled["image"], str(root / "segmentations")), labelled["label"])
    )
    dice = volume_dice(prediction, truth, len(CLASSES) + 1)[1:].tolist()
    result = {
        "commit": commit(),
        "steps": {"pretrain_global": GLOBAL_STEPS, "pretrain_local": LOCAL_STEPS, "train": FINE_TUNING_STEPS},
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "labelled": labelled["id"],
        "not_pre_trained_on": list(held_out),
        "dice_on_the_volume_trained_on": dict(zip(CLASSES, (round(value, 3) for value in dice), strict=True)),
        "zones_ml": zones_ml,
    }
    write_record(root / "smoke.json", result)

    figure = new_figure(1.2 * _NUM_SLICES + 1.2, 1.25 * (len(items) + 1) + 0.5)
    axes = figure.subplots(len(items) + 1, _NUM_SLICES, squeeze=False)
    _draw_row(axes[0], labelled["image"], labelled["label"], f"{labelled['id']}\nLABEL")
    for row, item in zip(axes[1:], items, strict=True):
        notes = ["trained on"] if item["id"] == labelled["id"] else []
        notes += ["never seen"] if item["id"] in held_out else []
        notes += [f"{name} {value:g} ml" for name, value in zones_ml[item["id"]].items()]
        path = segmentation_path(item["image"], str(root / "segmentations"))
        _draw_row(row, item["image"], path, "\n".join([item["id"].removesuffix("_T2"), *notes]))
    handles = [Line2D([], [], color=colour, label=name) for name, colour in zip(CLASSES, COLOURS, strict=False)]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=7)
    figure.suptitle(f"{len(items)} volumes, 1 label: no accuracy claim", fontsize=9)
    save_figure(figure, pictures_dir / "smoke.png")
    print(f"Wrote {root / 'smoke.json'} and {pictures_dir / 'smoke.png'}. This shows that the code runs on real files.")


def _draw_row(axes: np.ndarray, image_path: str, classes_path: str | Path, title: str) -> None:
    """Draw the middle of slices that are spread evenly over a volume, with outlines."""
    image, classes = (reoriented(nibabel.load(path), "LPS") for path in (image_path, classes_path))
    t2 = np.asanyarray(image.dataobj)
    t2 = t2[..., 0] if t2.ndim == 4 else t2
    labels = np.asanyarray(classes.dataobj)
    window = tuple(
        slice(max(0, n // 2 - half), n // 2 + half)
        for n, half in zip(t2.shape, (round(_SHOWN_MM / 2 / mm) for mm in image.header.get_zooms()[:2]), strict=False)
    )
    low, high = np.percentile(t2[window], (1, 99))
    indices = np.linspace(0, t2.shape[2] - 1, _NUM_SLICES + 2).round().astype(int)[1:-1]
    for axis, index in zip(axes, indices, strict=True):
        axis.imshow(t2[(*window, index)].T, cmap="gray", vmin=low, vmax=high)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_title(f"slice {index}", fontsize=6, pad=1)
        for value, colour in zip(range(1, len(CLASSES) + 1), COLOURS, strict=False):
            outline = labels[(*window, index)].T == value
            if outline.any():
                axis.contour(outline, levels=[0.5], colors=[colour], linewidths=0.9)
    axes[0].set_ylabel(title, fontsize=6, rotation=0, ha="right", va="center")
