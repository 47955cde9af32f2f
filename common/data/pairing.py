"""From the files of a dataset to its items: the folder that they are in, images and labels put together, and ids."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .volume_files import DatasetError, entries, few, stem

logger = logging.getLogger(__name__)

_Item = dict[str, str]
_Files = list[tuple[str, Path]]  # id and path of each file


def dataset_root(dataset_dir: str | os.PathLike[str], is_root: Callable[[Path], bool]) -> Path | None:
    """Return the folder in which a dataset lies: the given one, or the one below it that can be it; else None.

    Archives are often unpacked into a folder of their own name, and then lie one level deeper than expected.

    Raises:
        DatasetError: if several folders below can be it.
    """
    given = Path(dataset_dir)
    if is_root(given):
        return given
    roots = [folder for folder in entries(given) if folder.is_dir() and is_root(folder)]
    if len(roots) > 1:
        raise DatasetError(
            f"dataset_dir must hold one dataset, got {os.fspath(dataset_dir)!r} with {few(roots)}. Set dataset_dir to "
            "one of them."
        )
    if not roots:
        return None
    logger.warning(f"The dataset lies one level deeper than dataset_dir says: {roots[0]} is used.")
    return roots[0]


def pair(images: _Files, labels: _Files, problems: Iterable[str] = ()) -> list[_Item]:
    """Put images and labels of the same id together, ordered by id; an id must be there once, with an image."""
    problems = list(problems)
    repeated: set[str] = set()
    for kind, files in (("image", images), ("label", labels)):
        counts = Counter(name for name, _ in files)
        for name in sorted(name for name, count in counts.items() if count > 1):
            paths = [path for own, path in files if own == name]
            problems.append(f"{few(paths)} have one id, {name}, but a volume has one {kind}. Keep one of them.")
            repeated.add(name)
    label_of = dict(labels)
    names = {name for name, _ in images}
    for name, path in sorted(label_of.items()):
        if name not in names:
            problems.append(f"{path} is a label without an image of the id {name}. Add the image, or remove the label.")
    items = [
        {"id": name, "image": str(path), **({"label": str(label_of[name])} if name in label_of else {})}
        for name, path in sorted(images)
        if name not in repeated
    ]
    return usable(problems, items)


def usable(problems: Iterable[str], items: list[_Item]) -> list[_Item]:
    """Return the items if there is no problem.

    Raises:
        DatasetError: with all problems, and the items as those that can be used.
    """
    if message := "\n".join(filter(None, problems)):
        raise DatasetError(message, items)
    return items


def with_ids(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return items of which each has an "id", as those of other people's lists need not.

    An item without one is called like the file of its "image", with as many of the folders above it as it takes to tell
    all of these items apart, if they can be.
    """
    nameless = [index for index, item in enumerate(items) if "id" not in item]
    paths = [Path(items[index]["image"]) for index in nameless]
    most = max((len(path.parts) for path in paths), default=1)
    for depth in range(1, most + 1):
        names = ["_".join([*path.parent.parts[len(path.parts) - depth :], _name(path)]) for path in paths]
        if len(set(names)) == len(set(paths)):
            break
    found = dict(zip(nameless, names, strict=True)) if nameless else {}
    return [{"id": found[index], **item} if index in found else dict(item) for index, item in enumerate(items)]


def _name(path: Path) -> str:
    name = stem(path)
    return path.stem if name == path.name else name  # a photograph


def no_folder(dataset_dir: str | os.PathLike[str]) -> str:
    """Return a remark for a message if a folder is not there."""
    return "" if os.path.isdir(dataset_dir) else " (no such folder)"
