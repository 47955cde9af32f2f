"""The volumes of a dataset that choices are made on: in no list of the split, so that the test stays out of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common.data.splits import draws_of, pretraining_ids, read_split, test_ids


def development(values: Any) -> list[dict[str, str]]:
    """List the labelled volumes that are in no list of the split but that of the benchmark with all labels.

    Args:
        values: the config.
    """
    path = values.get_parsed_content("split_path")
    known = {*pretraining_ids(path), *test_ids(path)}
    for number, names in draws_of(path).items():
        if number != "all":
            for name in names:
                split = read_split(path, number, name)
                known.update(split.labelled, split.validation)
    items: Sequence[dict[str, str]] = values.get_parsed_content("datalist")(values.get_parsed_content("dataset_dir"))
    return [dict(item) for item in items if item["id"] not in known and "label" in item]
