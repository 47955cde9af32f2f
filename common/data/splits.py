"""The split file: which volumes are pre-trained on, labelled, used for validation and tested on.

Chaitanya, Erdil, Karani and Konukoglu, NeurIPS 2020, arXiv 2006.10511, section 4: a fixed set of unlabelled volumes is
pre-trained on, a fixed set is tested on, and fine-tuning has 1, 2 or 8 labelled volumes, each number drawn several
times. A draw is called c1, c2, ... here and brings its own validation volumes. The benchmark, with every volume
labelled that is not kept for validation or test, is the draw of "all".

A split file is JSON::

    {
      "source": "where the lists come from",
      "pretrain": [ids],
      "test": [ids],
      "draws": {"1": {"c1": {"labelled": [ids], "validation": [ids]}, "c2": ...}, "2": ..., "all": ...}
    }

Ids are those of the datalist (see `datalists`). No label of a pre-training volume is used, so that validation volumes
may be among them; test volumes may not.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

_ALL = "all"


class SplitError(ValueError):
    """A split file is invalid, or something that is asked for is missing in it or in the dataset."""


class Split(NamedTuple):
    """The volume ids of one experiment.

    Attributes:
        pretrain: volumes to pre-train on; their labels are not used.
        labelled: volumes to fine-tune on.
        validation: volumes that choose the checkpoint; if there are none, the last weights are taken.
        test: volumes that are only ever evaluated.
    """

    pretrain: tuple[str, ...]
    labelled: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    def subset(self, name: str) -> tuple[str, ...]:
        """Return the list of this name.

        Raises:
            SplitError: if there is no such list.
        """
        if name not in self._fields:
            raise SplitError(f"subset must be one of {', '.join(self._fields)}, got {name!r}.")
        ids: tuple[str, ...] = getattr(self, name)
        return ids


def read_split(path: str | os.PathLike[str], num_labelled: int | str, draw: str = "c1") -> Split:
    """Read one draw from a split file, after checking the whole file.

    Args:
        path: the split file.
        num_labelled: number of labelled volumes of the draw, as a number or its digits, or "all" for the benchmark.
        draw: which draw of that many volumes: "c1", "c2", ...

    Returns:
        The ids of this draw, each list in the order of the file.

    Raises:
        SplitError: if the file does not exist or is not valid JSON in the form above; if a list is empty that is not
            of validation volumes, a list has an id twice, or a draw has another number of labelled ids than it says; if
            a test id is also in a labelled, validation or pre-training list, or a validation id among the labelled ones
            of the same draw; or if the file has no such draw.
    """
    pretrain, test, draws = _read(Path(path))
    number = str(num_labelled)
    if number not in draws:
        raise SplitError(f"num_labelled must be one of {', '.join(draws)} for {path}, got {num_labelled!r}.")
    if draw not in draws[number]:
        raise SplitError(
            f"draw must be one of {', '.join(draws[number])} for num_labelled {number} of {path}, got {draw!r}."
        )
    labelled, validation = draws[number][draw]
    return Split(pretrain, labelled, validation, test)


def draws_of(path: str | os.PathLike[str]) -> dict[int | str, tuple[str, ...]]:
    """List the draws of a split file, by number of labelled volumes; that of the benchmark is "all".

    Args:
        path: the split file.

    Raises:
        SplitError: if the file is invalid (see `read_split`).
    """
    draws = _read(Path(path))[2]
    return {number if number == _ALL else int(number): tuple(names) for number, names in draws.items()}


def pretraining_ids(path: str | os.PathLike[str], extra: Sequence[str] = ()) -> tuple[str, ...]:
    """Read the volumes to pre-train on, which are the same for every draw.

    Args:
        path: the split file.
        extra: ids of further unlabelled volumes, used after the file's own.

    Returns:
        The ids, each once.

    Raises:
        SplitError: if the file is invalid (see `read_split`) or an extra id is a test volume.
    """
    pretrain, test, _ = _read(Path(path))
    _require_disjoint(Path(path), "extra_unlabelled_ids", tuple(extra), "test", test)
    return tuple(dict.fromkeys((*pretrain, *extra)))


def test_ids(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read the test volumes, which are the same for every draw.

    Args:
        path: the split file.

    Raises:
        SplitError: if the file is invalid (see `read_split`).
    """
    return _read(Path(path))[1]


def select(
    datalist: Iterable[Mapping[str, str]], ids: Sequence[str], require_label: bool = False
) -> list[dict[str, str]]:
    """Pick volumes out of a datalist.

    Args:
        datalist: items with the keys "id", "image" and, where there is a label, "label".
        ids: the volumes to pick.
        require_label: True for volumes whose labels are used. Otherwise the labels are left out of the result, so that
            no later step can come to depend on them.

    Returns:
        Copies of the items, in the order of `ids`.

    Raises:
        SplitError: if the datalist lacks an id, or a label that is required.
    """
    items = {item["id"]: item for item in datalist}
    if missing := [name for name in ids if name not in items]:
        raise SplitError(
            f"ids must be among the volumes of the dataset, got {', '.join(missing)} that the dataset does not have. "
            f"Check {_folder(items.values())}: it may be incomplete, or the split file belongs to another dataset."
        )
    if not require_label:
        return [{key: value for key, value in items[name].items() if key != "label"} for name in ids]
    if unlabelled := [name for name in ids if "label" not in items[name]]:
        raise SplitError(
            f"ids must be of volumes with a label, got {', '.join(unlabelled)} without one. Check "
            f"{_folder(items[name] for name in unlabelled)}."
        )
    return [dict(items[name]) for name in ids]


def _folder(items: Iterable[Mapping[str, str]]) -> str:
    """Name the folder that holds the images of these items."""
    folders = [os.path.dirname(item["image"]) for item in items]
    return f"the folder {os.path.commonpath(folders)}" if folders else "dataset_dir, where no volume was found"


_Ids = tuple[str, ...]
_Draws = dict[str, dict[str, tuple[_Ids, _Ids]]]


def _read(path: Path) -> tuple[_Ids, _Ids, _Draws]:
    """Read and check a whole split file; returns pre-training ids, test ids and (labelled, validation) of each draw."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))  # with or without a byte-order mark
    except FileNotFoundError:
        raise SplitError(f"path must be a split file, got {str(path)!r}, which does not exist.") from None
    except ValueError as error:  # not JSON, or not text
        raise SplitError(f"{path} must be valid JSON: {error}.") from error

    _require_keys(path, "the file", content, {"pretrain", "test", "draws"}, optional={"source"})
    pretrain = _ids(path, "pretrain", content["pretrain"])
    test = _ids(path, "test", content["test"])
    _require_disjoint(path, "pretrain", pretrain, "test", test)

    draws: _Draws = {}
    for number, named in _members(path, "draws", content["draws"]):
        if not re.fullmatch(f"[1-9][0-9]*|{_ALL}", number):
            raise SplitError(f"{path}: the keys of draws must be positive whole numbers or {_ALL!r}, got {number!r}.")
        draws[number] = {}
        for draw, lists in _members(path, f"draws {number}", named):
            name = f"draws {number} {draw}"
            _require_keys(path, name, lists, {"labelled", "validation"})
            labelled = _ids(path, f"{name} labelled", lists["labelled"])
            validation = _ids(path, f"{name} validation", lists["validation"], may_be_empty=True)
            if number != _ALL and len(labelled) != int(number):
                raise SplitError(
                    f"{path}: {name} labelled must have {number} ids, got {len(labelled)}: {', '.join(labelled)}."
                )
            _require_disjoint(path, f"{name} labelled", labelled, "test", test)
            _require_disjoint(path, f"{name} validation", validation, "test", test)
            _require_disjoint(path, f"{name} validation", validation, f"{name} labelled", labelled)
            draws[number][draw] = labelled, validation
    return pretrain, test, draws


def _require_keys(
    path: Path, name: str, value: Any, required: set[str], optional: frozenset[str] | set[str] = frozenset()
) -> None:
    """Raise unless the value is a JSON object with the required keys and no others than the optional ones."""
    keys = set(value) if isinstance(value, dict) else set()
    if missing := sorted(required - keys):
        raise SplitError(f"{path}: {name} must be an object with the keys {', '.join(missing)}; add them.")
    if unknown := sorted(keys - required - optional):
        raise SplitError(f"{path}: {name} must have no other keys than {sorted(required | optional)}, got {unknown}.")


def _members(path: Path, name: str, value: Any) -> list[tuple[str, Any]]:
    """Return the members of a JSON object that must have some."""
    if not isinstance(value, dict) or not value:
        raise SplitError(f"{path}: {name} must be an object with at least one member, got {value!r}.")
    return list(value.items())


def _ids(path: Path, name: str, value: Any, may_be_empty: bool = False) -> _Ids:
    """Return a list of ids as a tuple, after checking that it is one, has some, and has none twice."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value) or not (value or may_be_empty):
        how_many = "ids" if may_be_empty else "at least one id"
        raise SplitError(f"{path}: {name} must be a list of {how_many}, each a string, got {value!r}.")
    if repeated := sorted({item for item in value if value.count(item) > 1}):
        raise SplitError(f"{path}: {name} must have each id once, got {', '.join(repeated)} more than once.")
    return tuple(value)


def _require_disjoint(path: Path, first_name: str, first: _Ids, second_name: str, second: _Ids) -> None:
    """Raise if two lists share an id."""
    if shared := sorted(set(first) & set(second)):
        raise SplitError(
            f"{path}: {first_name} and {second_name} must have no id in common, got {', '.join(shared)} in both."
        )
