"""Draw which images of a large dataset serve for what, by a rule that gives the same on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from common.data import datalists
from common.files import write_text_atomically

from .facts import FACTS_FILE, FactsError, read_facts
from .json_text import layout
from .places import bundle_folder

_RULE = (
    "drawn by `python -m bundles draw`: ids in the order of the SHA-256 of 'test/ID', the first of them for the test, "
    "or those that the dataset itself has for it; all others are pre-trained on. Of these, in the order of the "
    "SHA-256 of 'DRAW/ID', the first serve for validation and the next are labelled, so that fewer are among more of "
    "one draw; in 'all' every one is labelled that is not for validation in the largest draw"
)


def draw(
    name: str,
    num_test: int,
    sizes: Mapping[int, int],
    num_draws: int = 3,
    dataset_dir: str = "",
    test_folder: str = "",
) -> None:
    """Write the split file of a bundle: draws of labelled and validation images from those of its dataset.

    Args:
        name: bundle by name or folder.
        num_test: images to test on; 0 with `test_folder`.
        sizes: number of validation images by number of labelled ones, as in "{100: 100, 200: 200}".
        num_draws: draws of each number, called c1, c2, ...
        dataset_dir: the dataset's folder; that of the facts by default.
        test_folder: a folder of the dataset, such as "test", whose images are those to test on.

    Raises:
        FactsError: if there is no such bundle, or there are too few images with labels.
        DatasetError: if the dataset cannot be listed.
    """
    folder = bundle_folder(str(name))
    facts = read_facts(folder / FACTS_FILE)
    root = dataset_dir or facts.dataset_dir
    items = [item for item in getattr(datalists, facts.datalist.rpartition(".")[2])(root) if "label" in item]
    test = [item["id"] for item in items if test_folder and test_folder in Path(item["image"]).parts]
    split = draw_split([item["id"] for item in items], num_test, dict(sizes), num_draws, test)
    path = folder / "configs" / "splits.json"
    write_text_atomically(path, layout(split))
    print(f"Wrote {path}: {len(split['pretrain'])} images to pre-train on, {len(split['test'])} to test on.")


def draw_split(
    ids: Iterable[str], num_test: int, sizes: Mapping[int, int], num_draws: int = 3, test: Collection[str] = ()
) -> dict[str, Any]:
    """Draw a split from the ids of images with labels; see `_RULE`.

    Args:
        ids: of all images.
        num_test: see `draw`.
        sizes: see `draw`.
        num_draws: see `draw`.
        test: those to test on, if the dataset says which; then `num_test` must be 0.

    Returns:
        The content of a split file.

    Raises:
        FactsError: if there are too few images.
    """
    ids = sorted(ids)
    if bool(test) == bool(num_test):
        raise FactsError(f"num_test must be 0 where a folder says what the test is, and only there, got {num_test!r}.")
    test = sorted(test) if test else sorted(_ordered("test", ids)[:num_test])
    taken = set(test)
    pretrain = [id_ for id_ in ids if id_ not in taken]
    most = max(sizes.values())
    if len(pretrain) < max(sizes) + most:
        raise FactsError(
            f"{max(sizes)} labelled and {most} validation images must be drawn from those that are not for the test, "
            f"got {len(pretrain)} of these among {len(ids)}: take smaller numbers, or label more."
        )
    draws: dict[str, dict[str, dict[str, list[str]]]] = {str(number): {} for number in (*sizes, "all")}
    for name in (f"c{number}" for number in range(1, num_draws + 1)):
        order = _ordered(name, pretrain)
        validation, rest = order[:most], order[most:]
        for number, num_validation in sizes.items():
            own = {"labelled": sorted(rest[:number]), "validation": sorted(validation[:num_validation])}
            draws[str(number)][name] = own
        if not draws["all"]:
            draws["all"][name] = {"labelled": sorted(rest), "validation": sorted(validation)}
    return {"source": _RULE, "pretrain": pretrain, "test": test, "draws": draws}


def _ordered(salt: str, ids: Iterable[str]) -> list[str]:
    return sorted(ids, key=lambda id_: hashlib.sha256(f"{salt}/{id_}".encode()).hexdigest())
