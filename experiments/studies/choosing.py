"""Whether choosing the volumes to label helps: several rules beside draws at random and those of the paper, on ACDC."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bundles.development import development
from bundles.places import RUNS
from bundles.run import commit, load_config
from common.data.splits import draws_of, read_split
from common.embeddings import embed_slices, volume_embeddings
from common.records import write_record
from common.selection import rank

from ..cells import bundle_of
from ..curve import measure
from .rows import read_rows

logger = logging.getLogger(__name__)


def choosing(
    dataset_dir: str,
    output: str,
    numbers: int | Sequence[int] = (1, 2, 8),
    random_draws: int = 10,
    runs_dir: str = "",
    **settings: Any,
) -> None:
    """Train on the volumes that each rule chooses, and evaluate on the patients that are in none of the lists.

    What the file has, and what is finished in its folder, is not run again; equal choices are trained once. After each
    training the file is written anew.

    Args:
        dataset_dir: the ACDC folder.
        output: the JSON file.
        numbers: of labelled volumes.
        random_draws: how many draws at random there are of each number.
        runs_dir: gets a folder for each training; `runs/choosing` if empty.
        **settings: values of further ids of `train.json`, such as `steps`.

    Raises:
        ValueError: if the file is of a run with other settings.
    """
    root = Path(runs_dir).resolve() if runs_dir else RUNS / "choosing"
    bundle = bundle_of("acdc")
    held_out = development(load_config(bundle, "evaluate", dataset_dir=dataset_dir))
    own = {"train": settings, "evaluate": {"dataset#data": held_out, "overlap": None, "pictures": False}}
    config = load_config(bundle, "select", dataset_dir=str(dataset_dir))
    choices = choices_of(config, numbers if isinstance(numbers, Sequence) else [numbers], random_draws)
    record = {"commit": commit(), "settings": settings, "volumes": len(held_out)}
    rows = read_rows(Path(output), settings, "number", "name")
    known = {tuple(sorted(row["labelled"])): row["dice"] for row in rows.values()}
    for (number, name), ids in choices.items():
        labelled = tuple(sorted(ids))
        folder = root / "_".join([str(number), *(id_.removeprefix("patient") for id_ in labelled)])
        logger.info(f"{number} labelled, {name}: {', '.join(ids)}.")
        if labelled not in known:
            known[labelled] = measure(bundle, folder, str(dataset_dir), 0, labelled, own).mean
        rows[number, name] = {"number": number, "name": name, "labelled": list(ids), "dice": known[labelled]}
        write_record(Path(output), {**record, "rows": list(rows.values())})
    print(f"Wrote {output}.")


def choices_of(config: Any, numbers: Sequence[int], random_draws: int) -> dict[tuple[int, str], tuple[str, ...]]:
    """Return the chosen ids by number of volumes and name: first all rules, then draws at random, then the paper's.

    Candidates are those of `select.json`: the volumes to pre-train on, without those for validation.

    Args:
        config: `select.json`.
        numbers: see `choosing`.
        random_draws: see there.
    """
    slices = config.get_parsed_content("collect")(config.get_parsed_content("dataset"))
    vectors = embed_slices(config.get_parsed_content("network"), slices)
    embeddings = volume_embeddings(vectors, slices.starts, config.get_parsed_content("num_partitions"))
    distances = torch.cdist(embeddings.double(), embeddings.double(), compute_mode="donot_use_mm_for_euclid_dist")
    splits = config.get_parsed_content("split_path")
    found: dict[tuple[int, str], tuple[str, ...]] = {}
    for number in numbers:
        for name, rule in RULES.items():
            found[number, name] = tuple(slices.ids[index] for index in rule(distances, number))
        for draw in range(1, random_draws + 1):
            found[number, f"random {draw}"] = tuple(random.Random(draw).sample(sorted(slices.ids), number))
        for name in draws_of(splits).get(number, ()):
            found[number, f"paper {name}"] = read_split(splits, number, name).labelled
    return found


def densest(distances: Tensor, number: int) -> list[int]:
    """Choose the typical ones of different neighbourhoods: the rule of `select.json`.

    Args:
        distances: (V, V) between all volumes, symmetric, 0 on the diagonal.
        number: of volumes to choose, at most V.
    """
    return rank(distances, (), number).order[:number]


def medoids(distances: Tensor, number: int) -> list[int]:
    """Choose greedily what brings all volumes nearest to a chosen one (k-medoids, or facility location).

    Args:
        distances: see `densest`.
        number: see there.
    """
    chosen = list[int]()
    nearest = torch.full((len(distances),), torch.inf, dtype=distances.dtype)
    while len(chosen) < number:
        means = torch.minimum(nearest, distances).mean(dim=1)
        means[chosen] = torch.inf
        chosen.append(int(means.argmin()))
        nearest = torch.minimum(nearest, distances[chosen[-1]])
    return chosen


def farthest(distances: Tensor, number: int) -> list[int]:
    """Choose the medoid, then always the volume that is farthest from the chosen ones (Gonzalez, 1985).

    Args:
        distances: see `densest`.
        number: see there.
    """
    chosen = [int(distances.mean(dim=1).argmin())]
    while len(chosen) < number:
        chosen.append(int(distances[chosen].amin(dim=0).argmax()))
    return chosen


RULES: Mapping[str, Callable[[Tensor, int], list[int]]] = {"densest": densest, "medoids": medoids, "farthest": farthest}
"""What volumes are chosen by: of their distances and a number to indices."""
