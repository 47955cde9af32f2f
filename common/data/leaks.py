"""Volumes that are in two subsets which must not share any: found by what is in the files, whatever they are called."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import combinations

from . import content, splits
from .content import Content
from .volume_files import DatasetError

logger = logging.getLogger(__name__)

LABELLED, VALIDATION, TEST, PRETRAINING = "labelled", "validation", "test", "pre-training"
STATISTICS, SELF_TRAINING = "batch-norm statistics", "self-training"
_FIELDS = {"pretrain": PRETRAINING}
_AT_MOST = 5  # named in a message

Subsets = Mapping[str, Sequence[Content]]
"""Volumes by the name of their subset, those above."""

FurtherFrames = Callable[[str], Mapping[str, Sequence[dict[str, str]]]]
"""Lists the frames of a dataset folder that its datalist does not have, by the id of the patient; see `datalists`."""


class LeakError(ValueError):
    """The same image is in two subsets that must not share any."""


def may_share(first: str, second: str) -> bool:
    """Whether two subsets may have volumes in common: none shares with the test, labelled ones with the validation."""
    return TEST not in (first, second) and {first, second} != {LABELLED, VALIDATION}


def check(subsets: Subsets, ancestors: Subsets | None = None) -> None:
    """Refuse to train where the same image is in two subsets that must not share any.

    A test volume may be in no other subset, a validation volume not among the labelled ones. It may be among those that
    are used without their labels (paper, section 4). An image that is twice in one subset is logged.

    Args:
        subsets: the volumes of this run, and those of the test.
        ancestors: volumes that the weights it starts from were made from, by where that was. Test volumes among them
            are refused, validation volumes among those with labels logged.

    Raises:
        LeakError: names the ids and files that are the same.
    """
    for name, contents in subsets.items():
        _report_repeated(name, contents)
    problems = [
        _problem(first, subsets[first], second, subsets[second])
        for first, second in combinations(subsets, 2)
        if not may_share(first, second)
    ]
    for name, contents in (ancestors or {}).items():
        problems.append(_problem(TEST, subsets.get(TEST, ()), name, contents))
        if name.startswith(LABELLED) and (text := _problem(VALIDATION, subsets.get(VALIDATION, ()), name, contents)):
            logger.warning(f"{text} The validation is no fair choice among the weights.")
    if found := [problem for problem in problems if problem]:
        raise LeakError(
            "\n".join(found) + "\nTake the volume out of one of the lists (split_path, or the data lists of the "
            "config), or replace the file that is a copy."
        )


def test_volumes(
    datalist: Callable[[str], list[dict[str, str]]],
    dataset_dir: str,
    split_path: str | os.PathLike[str],
    further_frames: FurtherFrames | None = None,
) -> list[Content]:
    """Read the volumes of the test patients that a dataset folder has, to compare others with.

    Args:
        datalist: one of `datalists`.
        dataset_dir: the dataset's folder. Where there is none, as in MONAI Label, nothing is known of a test.
        split_path: the split file.
        further_frames: lists the patients' other frames, which must not be trained on either; None if there are none.

    Returns:
        Their contents, without labels. Files that are not there are left out, those that cannot be read also logged.
    """
    if not os.path.isdir(dataset_dir):
        return []
    try:
        ids = splits.test_ids(split_path)
    except splits.SplitError as error:  # a run that is given lists of files needs no split
        logger.warning(f"It is not known which volumes are for the test, so none are compared: {error}")
        return []
    return _of_ids(datalist, dataset_dir, ids, further_frames)


def other_subsets(
    datalist: Callable[[str], list[dict[str, str]]], dataset_dir: str, split: splits.Split, name: str
) -> dict[str, list[Content]]:
    """Read the volumes of a split that must not be in the subset of this name, as far as the dataset folder has them.

    Args:
        datalist: one of `datalists`.
        dataset_dir: the dataset's folder.
        split: the split.
        name: one of its lists.

    Returns:
        Contents without labels by the names that `check` knows; only of subsets that must not share with it.
    """
    ids = {_FIELDS.get(field, field): split.subset(field) for field in split._fields if field != name}
    ids = {other: own for other, own in ids.items() if not may_share(_FIELDS.get(name, name), other)}
    known = {entry.id: entry for entry in _of_ids(datalist, dataset_dir, [id_ for own in ids.values() for id_ in own])}
    return {other: [known[id_] for id_ in own if id_ in known] for other, own in ids.items()}


def _of_ids(
    datalist: Callable[[str], list[dict[str, str]]],
    dataset_dir: str,
    ids: Sequence[str],
    further_frames: FurtherFrames | None = None,
) -> list[Content]:
    try:
        items = datalist(dataset_dir)
    except DatasetError as error:
        items = error.usable
    images = {item["id"]: {"id": item["id"], "image": item["image"]} for item in items}
    found = [images[id_] for id_ in dict.fromkeys(ids) if id_ in images]
    with suppress(DatasetError):  # a folder in another layout, for which the datalist was replaced
        frames = further_frames(dataset_dir) if further_frames else {}
        found += [frame for id_ in dict.fromkeys(ids) for frame in frames.get(id_, ())]
    return content.of_files(found)


def _problem(first_name: str, first: Sequence[Content], second_name: str, second: Sequence[Content]) -> str:
    """Say which images two subsets share; empty if there are none."""
    by_image = {entry.image: entry for entry in second}
    shared = [(entry, by_image[entry.image]) for entry in first if entry.image in by_image]
    if not shared:
        return ""
    pairs = [f"{one.id} ({one.path}) is {other.id} ({other.path})" for one, other in shared[:_AT_MOST]]
    more = f"; and {len(shared) - _AT_MOST} more" if len(shared) > _AT_MOST else ""
    return f"{first_name} and {second_name} volumes must have no image in common, got {'; '.join(pairs)}{more}."


def _report_repeated(name: str, contents: Sequence[Content]) -> None:
    for group in _groups(contents):
        labels = {entry.label for entry in group}
        logger.warning(
            f"The same image is {len(group)} times among the {name} volumes: "
            f"{', '.join(f'{entry.id} ({entry.path})' for entry in group[:_AT_MOST])}"
            f"{', with different labels' if len(labels) > 1 else ''}. Each of them counts; take out all but one if "
            "that is not wanted."
        )


def _groups(contents: Sequence[Content]) -> Iterator[list[Content]]:
    by_image: dict[str, list[Content]] = {}
    for entry in contents:
        by_image.setdefault(entry.image, []).append(entry)
    return (group for group in by_image.values() if len(group) > 1)
