"""Make a whole bundle from the facts of a dataset."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jinja2

from common.data import datalists
from common.data.volume_files import DatasetError, few
from common.files import write_text_atomically

from .facts import FACTS_FILE, Facts, FactsError, read_facts
from .write import json_environment, render_json, write_folder

_TEMPLATES = Path(__file__).parent / "new_bundle"
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_TEST_SHARE = 0.4


def new(name: str, facts: str, out: str = ".", title: str = "") -> None:
    """Make a bundle: configs, metadata, a proposal for the split, a page of documentation and a note on the licence.

    Args:
        name: of the dataset, lower-case letters, digits and _; the folder is called `bundle_<name>`.
        facts: JSON file of the facts, see `Facts`. `dataset_dir` must be there, since the split lists its volumes.
        out: the folder that the bundle's folder is made in.
        title: what the bundle is called in texts; the name by default.

    Raises:
        FactsError: if the name or a fact is wrong, the bundle is there already, or the dataset has too few volumes.
        DatasetError: if the dataset cannot be listed.
    """
    if not _NAME.fullmatch(str(name)):
        raise FactsError(f"name must begin with a lower-case letter and have letters, digits and _, got {name!r}.")
    folder = Path(out) / f"bundle_{name}"
    if folder.exists():
        raise FactsError(f"{folder} is there already: choose another name or out, or move it away.")
    known = read_facts(Path(facts))
    split = propose_split(_list_volumes(known))  # before anything is written
    texts = _texts(known, folder.name, title or name.replace("_", " ").capitalize())
    (folder / "configs").mkdir(parents=True)
    try:
        shutil.copyfile(facts, folder / FACTS_FILE)
        for path, text in {**texts, "configs/splits.json": json.dumps(split, indent=4) + "\n"}.items():
            write_text_atomically(folder / path, text)
        write_text_atomically(folder / "models" / ".gitkeep", "")
        write_folder(folder)
    except BaseException:
        shutil.rmtree(folder)  # half a bundle would be taken for one
        raise
    draws = split["draws"]
    print(
        f"Made {folder}. Look at configs/splits.json ({len(split['pretrain'])} volumes to pre-train on, "
        f"{len(split['test'])} to test on, draws of {', '.join(draws)} labelled), and write what docs/README.md, "
        "docs/data_license.txt and configs/metadata.json say is TO WRITE."
    )
    if known.num_labelled > 1:
        print(
            f"By default {known.num_labelled} are labelled, for which the proposal has no draw: "
            f"`python -m bundles draw {folder} NUM_TEST SIZES` draws so many."
        )


def propose_split(items: Iterable[dict[str, str]]) -> dict[str, Any]:
    """Propose which volumes serve for what, in the order of the list.

    Of L labelled volumes the last two fifths (rounded down, at least one) are for the test; of the others the first is
    the labelled one of the only draw, and the second its validation volume, if there is one. All but the test volumes
    are pre-trained on.

    Args:
        items: of a datalist.

    Returns:
        The content of a split file.

    Raises:
        FactsError: if fewer than two volumes have a label.
    """
    items = list(items)
    labelled = [item["id"] for item in items if "label" in item]
    if len(labelled) < 2:
        raise FactsError(
            f"At least two volumes must have a label, one to train on and one to test on, got {few(labelled) or 'none'}"
            f" of {len(items)} volumes: label more, or check the names of the label files."
        )
    num_test = max(1, math.floor(_TEST_SHARE * len(labelled)))
    test, rest = labelled[-num_test:], labelled[:-num_test]
    return {
        "source": "proposed by `python -m bundles new` in the order of the files; to be looked at",
        "pretrain": [item["id"] for item in items if item["id"] not in test],
        "test": test,
        "draws": {"1": {"c1": {"labelled": rest[:1], "validation": rest[1:2]}}},
    }


def _list_volumes(facts: Facts) -> list[dict[str, str]]:
    for fact in ("datalist", "further_frames", "end_systole"):
        name = getattr(facts, fact)
        if name is not None and not hasattr(datalists, name.rpartition(".")[2]):
            raise FactsError(f"{fact} must name a function of common.data.datalists, got {name!r}.")
    list_volumes = getattr(datalists, facts.datalist.rpartition(".")[2])
    try:
        return list(list_volumes(facts.dataset_dir))
    except DatasetError as error:
        raise DatasetError(f"dataset_dir {facts.dataset_dir!r} of the facts cannot be listed: {error}") from error


def _texts(facts: Facts, folder: str, title: str) -> dict[str, str]:
    """Return the bundle's own texts by path."""
    names = facts.class_names
    values = _values_of_classes(facts)
    context = {
        "facts": facts,
        "folder": folder,
        "title": title,
        "structures": _enumeration(names[1:]),
        "values": [", ".join(own) for own in values],
        "label_classes": ", ".join(f"{'/'.join(own)} {name}" for own, name in zip(values, names, strict=True)),
        "pred_classes": ", ".join(f"{index} {name}" for index, name in enumerate(names)),
    }
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    metadata = render_json(json_environment(_TEMPLATES), "metadata.json.jinja", **context)
    return {
        **{f"docs/{file}": environment.get_template(f"{file}.jinja").render(context) for file in _DOCUMENTS},
        "configs/metadata.json": json.dumps(metadata, indent=4, ensure_ascii=False) + "\n",
    }


_DOCUMENTS = ("README.md", "data_license.txt")


def _values_of_classes(facts: Facts) -> list[list[str]]:
    """Return the values in the label files of each class."""
    if facts.label_values is None:
        return [[str(index)] for index in range(len(facts.class_names))]
    return [
        [value for value, own in facts.label_values.items() if own == index] for index in range(len(facts.class_names))
    ]


def _enumeration(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
