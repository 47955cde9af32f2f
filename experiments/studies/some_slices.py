"""Whether one labelled slice of each of eight volumes is worth as much as one volume with all its slices."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from bundles.places import RUNS
from common.data.datalists import acdc
from common.data.splits import read_split
from common.transforms.labels import UNLABELLED

from ..cells import bundle_of
from ..curve import measure

_MANY, _ONE = 8, 1
_WAYS = ("slices", "volume")


def some_slices(dataset_dir: str, output_dir: str = "", draw: str = "c1", way: str = "", **settings: Any) -> None:
    """Train on ACDC both ways, and evaluate on the test volumes.

    The slice that is kept of the i-th of the eight volumes lies at i / 8 of those that show a structure, so that
    together they show all levels of the heart. What is finished is not run again.

    Args:
        dataset_dir: holds ACDC.
        output_dir: gets a folder for each way, with `result.json`; `runs/some_slices` if empty.
        draw: of eight and of one volume, c1 to c3.
        way: "slices" or "volume" runs one of the two only.
        **settings: values of further ids of `train.json`, such as `steps`.

    Raises:
        ValueError: if there is no such way.
    """
    if way not in ("", *_WAYS):
        raise ValueError(f"way must be {' or '.join(_WAYS)}, or empty for both, got {way!r}.")
    root = Path(output_dir).resolve() if output_dir else RUNS / "some_slices"
    bundle = bundle_of("acdc")
    for name, number in zip(_WAYS, (_MANY, _ONE), strict=True):
        if way not in ("", name):
            continue
        labelled = read_split(bundle / "configs" / "splits.json", number, draw).labelled
        folder = str(Path(dataset_dir).resolve())
        if name == "slices":
            folder = str(keep_one_slice_each(Path(dataset_dir), labelled, root / f"data_{draw}"))
        own = {"train": {**settings, "num_labelled": number, "draw": draw}, "evaluate": {}}
        point = measure(bundle, root / f"{name}_{draw}", folder, 0, labelled, own)
        logging.info(f"{name}, {draw}: test Dice {point.mean}.")


def keep_one_slice_each(source: Path, ids: tuple[str, ...], target: Path) -> Path:
    """Make a copy of a dataset by links, in which one slice of each of these volumes is labelled.

    Args:
        source: the dataset's folder.
        ids: of the volumes.
        target: the copy; one that is there is made anew.

    Returns:
        The copy.
    """
    shutil.rmtree(target, ignore_errors=True)
    places = {id_: place for place, id_ in enumerate(ids)}
    for item in acdc(source):
        folder = target / "training" / Path(item["image"]).parent.name
        folder.mkdir(parents=True)
        for path in Path(item["image"]).resolve().parent.iterdir():
            (folder / path.name).symlink_to(path)
        if item["id"] in places:
            path = folder / Path(item["label"]).name
            file = nibabel.load(path)
            label = np.asanyarray(file.dataobj)
            shown = np.flatnonzero((label > 0).any(axis=(0, 1)))
            kept = shown[len(shown) * places[item["id"]] // len(ids)]
            changed = np.full(label.shape, UNLABELLED, np.uint8)
            changed[..., kept] = label[..., kept]
            path.unlink()
            nibabel.save(nibabel.Nifti1Image(changed, file.affine, file.header), path)
    return target
