"""Whether one labelled slice of each of eight volumes is worth as much as one volume with all its slices."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from bundles.places import RUNS
from bundles.run import commit
from common.data.datalists import acdc
from common.data.splits import read_split
from common.records import write_record
from common.transforms.labels import UNLABELLED

from ..cells import bundle_of
from ..curve import measure
from .rows import read_rows

logger = logging.getLogger(__name__)

WAYS = {"slices": 8, "volume": 1}
"""How many volumes are labelled in each way."""


def some_slices(
    dataset_dir: str,
    output: str,
    draws: str | Sequence[str] = ("c1", "c2", "c3"),
    runs_dir: str = "",
    **settings: Any,
) -> None:
    """Train on ACDC both ways, and evaluate on the test volumes.

    The slice that is kept of the i-th of the eight volumes lies at i / 8 of those that show a structure, so that
    together they show all levels of the heart. What the file has, and what is finished in its folder, is not run again.
    After each training the file is written anew.

    Args:
        dataset_dir: the ACDC folder.
        output: the JSON file.
        draws: of eight and of one volume, c1 to c3.
        runs_dir: gets a folder for each training; `runs/some_slices` if empty.
        **settings: values of further ids of `train.json`, such as `steps`.

    Raises:
        ValueError: if the file is of a run with other settings.
    """
    root = Path(runs_dir).resolve() if runs_dir else RUNS / "some_slices"
    bundle = bundle_of("acdc")
    rows = read_rows(Path(output), settings, "draw", "way")
    for draw in [draws] if isinstance(draws, str) else draws:
        for way, number in WAYS.items():
            if (draw, way) in rows:
                continue
            logger.info(f"{way}, {draw}.")
            labelled = read_split(bundle / "configs" / "splits.json", number, draw).labelled
            folder = Path(dataset_dir).resolve()
            if way == "slices":
                folder = keep_one_slice_each(folder, labelled, root / f"data_{draw}")
            own = {"train": {**settings, "num_labelled": number, "draw": draw}, "evaluate": {"pictures": False}}
            point = measure(bundle, root / f"{way}_{draw}", str(folder), 0, labelled, own)
            rows[draw, way] = {"draw": draw, "way": way, "labelled": list(labelled), "dice": point.mean}
            record = {"commit": commit(), "settings": settings, "volumes": len(point.volumes)}
            write_record(Path(output), {**record, "rows": list(rows.values())})
    print(f"Wrote {output}.")


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
