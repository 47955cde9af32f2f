"""Look at a dataset folder before hours of training: what is there, what is missing, what is odd."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tqdm import tqdm

from common.data import content, splits
from common.data.failures import describe_failure
from common.data.volume_files import DatasetError, few
from common.errors import root_cause

from .facts import FACTS_FILE, read_facts
from .places import bundle_folder
from .run import load_config

Item = dict[str, str]


@dataclass
class Findings:
    """What was found in a dataset folder.

    Attributes:
        there: what is there.
        missing: what the split file asks for and is not there.
        wrong: files that no stage can use.
        odd: what can be used and should be looked at.
    """

    there: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)


def check(name: str, dataset_dir: str = "", split_path: str = "") -> None:
    """Read every image and label of a dataset as training will, and say what is there, missing, wrong and odd.

    Nothing is written. N4, which takes the time of preprocessing, is left out.

    Args:
        name: bundle by name or folder, such as "acdc".
        dataset_dir: the dataset's folder; that of the facts by default.
        split_path: the split file; that of the bundle by default.

    Raises:
        FactsError: if there is no such bundle.
        DatasetError: if nothing of the dataset is there.
        SplitError: if the split file is invalid.
        SystemExit: with status 1 if something is missing or wrong.
    """
    found = findings(str(name), dataset_dir, split_path)
    for title, lines in vars(found).items():
        print(f"{title.capitalize()}:" if lines else f"{title.capitalize()}: nothing.")
        for line in lines:
            print(f"  {line}")
    if found.missing or found.wrong:
        raise SystemExit(1)


def findings(name: str, dataset_dir: str = "", split_path: str = "") -> Findings:
    """Return what `check` prints."""
    folder = bundle_folder(name)
    facts = read_facts(folder / FACTS_FILE)
    root = dataset_dir or facts.dataset_dir
    own: dict[str, Any] = {} if facts.is_photographs else {"n4_shrink": None}
    config = load_config(folder, "train", **own, dataset_dir=root)
    found = Findings()
    try:
        items: list[Item] = config.get_parsed_content("datalist")(root)
    except DatasetError as error:
        if not error.usable:
            raise
        items = error.usable
        found.wrong += str(error).splitlines()
    pipeline = config.get_parsed_content("volume_pipeline")
    labelled = [item["id"] for item in items if "label" in item]
    found.there.append(f"{len(items)} images, {len(labelled)} of them with a label")
    _check_split(items, split_path or str(folder / "configs" / "splits.json"), facts.extra_unlabelled_ids, found)
    _check_files(items, pipeline, facts.class_names, found)
    return found


def _check_split(items: Sequence[Item], path: str, extra: Sequence[str] | str, found: Findings) -> None:
    """Compare the folder with the lists of the split file."""
    known = {item["id"] for item in items}
    with_label = {item["id"] for item in items if "label" in item}
    draws = splits.draws_of(path)
    first = splits.read_split(path, *next((number, names[0]) for number, names in draws.items()))
    lists = {"to pre-train on": (first.pretrain, known), "to test on": (first.test, with_label)}
    for number, names in draws.items():
        for draw in names:
            split = splits.read_split(path, number, draw)
            lists[f"of the draw {draw} of {number} labelled"] = ((*split.labelled, *split.validation), with_label)
    missing: dict[tuple[str, ...], list[str]] = defaultdict(list)  # most draws lack the same ones
    for what, (ids, there) in lists.items():
        lacking = tuple(id_ for id_ in ids if id_ not in there)
        if lacking:
            missing[lacking].append(what)
        if "draw" not in what:
            found.there.append(f"{len(ids) - len(lacking)} of {len(ids)} {what}")
    usable = {
        number: sum(_complete(path, number, draw, with_label) for draw in names) for number, names in draws.items()
    }
    counts = ", ".join(f"{count} of {len(draws[number])} with {number}" for number, count in usable.items())
    found.there.append(f"whole draws: {counts} labelled")
    for lacking, lists_of_them in missing.items():
        nothing = [id_ for id_ in lacking if id_ not in known]
        no_label = [id_ for id_ in lacking if id_ in known]
        where = (
            f"{'; '.join(lists_of_them[:3])}{f' and {len(lists_of_them) - 3} more' if len(lists_of_them) > 3 else ''}"
        )
        if nothing:
            found.missing.append(f"no image of {few(nothing)} ({where})")
        if no_label:
            found.missing.append(f"no label of {few(no_label)} ({where})")
    named = {id_ for ids, _ in lists.values() for id_ in ids}
    beside = sorted(known - named - set(extra if not isinstance(extra, str) else known))
    if beside:
        found.odd.append(f"no list of {path} has {few(beside)}: unused")


def _complete(path: str, number: int | str, draw: str, with_label: set[str]) -> bool:
    split = splits.read_split(path, number, draw)
    return {*split.labelled, *split.validation} <= with_label


def _check_files(items: Sequence[Item], pipeline: Any, class_names: Sequence[str], found: Findings) -> None:
    """Read all files one after the other, as training does."""
    image = pipeline.image()
    both = pipeline.image_and_stored_label(image)
    contents: list[content.Content] = []
    sizes: list[tuple[int, ...]] = []
    spacings: list[np.ndarray] = []
    present: dict[str, int] = dict.fromkeys(class_names[1:], 0)
    num_labels = 0
    with _warnings() as odd:
        for item in tqdm(items, desc="Reading", unit="file", leave=False):
            try:
                volume = (both if "label" in item else image)(dict(item))
            except Exception as error:  # one bad file must not hide the others
                found.wrong.append(describe_failure(root_cause(error), item["image"]))
                continue
            contents += content.of_volumes([volume])
            meta = volume["image"].meta
            sizes.append(tuple(int(length) for length in np.ravel(meta["spatial_shape"])))
            spacings.append(np.linalg.norm(np.asarray(meta["original_affine"], dtype=float)[:3, :3], axis=0))
            if "label" in item:
                num_labels += 1
                values = set(np.unique(np.asarray(volume["label"])).astype(int).tolist())
                for index, structure in enumerate(class_names[1:], 1):
                    present[structure] += index in values
                if values == {0}:
                    odd.append(f"{item['label']} is empty: background only")
    if sizes:
        found.there.append(f"sizes: {_range(sizes, '{:g}')}; voxels: {_range(spacings, '{:.3g}')} mm")
    if num_labels:
        counts = ", ".join(f"{structure} in {count}" for structure, count in present.items())
        found.there.append(f"structures in {num_labels} labels: {counts}")
    found.odd += dict.fromkeys(odd)
    same: dict[str, list[str]] = defaultdict(list)
    for one in contents:
        same[one.image].append(one.id)
    found.odd += [f"{few(ids)} hold the same image" for ids in same.values() if len(ids) > 1]


def _range(rows: Sequence[Sequence[float] | np.ndarray], form: str) -> str:
    """Write the smallest and the largest value of each axis, as in "154 to 512 x 154 to 512 x 6 to 18"."""
    axes = zip(*(row for row in rows if len(row) == len(rows[0])), strict=True)
    ends = ((form.format(min(axis)), form.format(max(axis))) for axis in axes)
    return " x ".join(low if low == high else f"{low} to {high}" for low, high in ends)


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collect what the code of the bundles warns of, instead of showing it amid the progress."""
    lines: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger, handler = logging.getLogger("common"), Collector(logging.WARNING)
    propagate = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
