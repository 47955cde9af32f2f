"""Which volumes to label: the most typical ones, in the eyes of the pre-trained encoder, of different neighbourhoods.

With few labels typical images teach more than those at the margins (Hacohen, Dekel and Weinshall, "Active Learning on a
Budget", 2022). `experiments/studies/choosing.py` compares this rule with others.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .data.selections import read_selection
from .data.slices import Slices
from .data.split_volumes import SplitVolumes
from .data.splits import SplitError
from .display import Display
from .embeddings import embed_slices, volume_embeddings
from .files import atomic_file
from .networks import UNet2d
from .pictures import VOLUMES
from .report import FILE, write_selection_page
from .selection_picture import draw_selection
from .tables import write_table

logger = logging.getLogger(__name__)

Item = dict[str, str]
_FEWEST = 2
_NEIGHBOURS = 5


class Ranking(NamedTuple):
    """Volumes in the order in which they should be labelled.

    Attributes:
        order: indices of all that were not labelled.
        distances: of every volume, the mean distance to its nearest neighbours.
    """

    order: list[int]
    distances: list[float]


def rank(distances: Tensor, labelled: Sequence[int], number: int) -> Ranking:
    """Rank volumes: always the most typical of those that no labelled or chosen volume stands for.

    The most typical one has the smallest mean distance to its five nearest neighbours (Hacohen, Dekel and Weinshall,
    2022). In place of their clusters, a labelled or chosen volume stands for itself and its nearest neighbours, V /
    (labelled + number) together. Once all are stood for, the volume that is farthest from the chosen ones follows.

    Args:
        distances: (V, V) between all volumes, symmetric, 0 on the diagonal.
        labelled: indices of volumes that are chosen already.
        number: how many are to be chosen, from 1 to the number of the others.
    """
    count = len(distances)
    share = count // (len(labelled) + number)
    neighbours = distances.sort(dim=1).values[:, 1 : 1 + _NEIGHBOURS].mean(dim=1)
    nearest = torch.full((count,), torch.inf, dtype=distances.dtype)
    left, alone = torch.ones(2, count, dtype=torch.bool)  # not chosen, and not stood for

    def take(index: int) -> None:
        torch.minimum(nearest, distances[index], out=nearest)
        left[index] = alone[index] = False
        alone[distances[index].argsort(stable=True)[:share]] = False

    for index in labelled:
        take(index)
    order: list[int] = []
    while left.any():
        best = neighbours.where(alone, torch.inf).argmin() if alone.any() else nearest.where(left, -torch.inf).argmax()
        order.append(int(best))
        take(order[-1])
    return Ranking(order, neighbours.tolist())


class Selection:
    """Chooses among the volumes to pre-train on, of which no label is read.

    Args:
        split: the volumes; those for validation in its draw are not chosen.
        labelled: ids of volumes that are labelled already, or the JSON file of such a list.
        number: how many are to be chosen.
        display: of the images.
        settings: what the page should say of the run.

    The methods raise SplitError where the ids are no candidates or there are too few of them.
    """

    def __init__(
        self,
        split: SplitVolumes,
        labelled: Sequence[str] | str | os.PathLike[str],
        number: int,
        display: Display = VOLUMES,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.split = split
        self.given = labelled
        self.number = number
        self.display = display
        self.settings = settings or {}

    def items(self) -> list[Item]:
        """List the labelled volumes and then those that may be chosen, all without their labels."""
        labelled = read_selection(self.given)
        items = [*self.split.unlabelled(labelled), *self.split.candidates(labelled)]
        self._check(len(items) - len(labelled), "")
        return items

    def write(
        self,
        slices: Slices,
        items: Sequence[Item],
        network: UNet2d,
        num_partitions: int,
        output_dir: str | os.PathLike[str],
        precision: str = "auto",
        pictures: bool = True,
    ) -> list[str]:
        """Rank the volumes and write `selection.json`, `.csv` and `.png`, and `report.html`: all of them or none.

        Args:
            slices: those of the volumes that could be read.
            items: see `items`.
            network: with the pre-trained encoder.
            num_partitions: see `volume_embeddings`.
            output_dir: where to.
            precision: see `resolve_precision`.
            pictures: draw the picture and write the page.

        Returns:
            The ids of the list: those that were labelled, and behind them the chosen ones.
        """
        if type(num_partitions) is not int or num_partitions < 1:
            raise ValueError(f"num_partitions must be a whole number from 1, got {num_partitions!r}.")
        labelled = list(read_selection(self.given))
        if unread := [id_ for id_ in labelled if id_ not in slices.ids]:
            raise SplitError(
                f"labelled volumes must be readable, got {', '.join(unread)}, which the log says more about: copy the "
                "files again, or take these ids out."
            )
        self._check(len(slices.ids) - len(labelled), " that can be read")
        embeddings = volume_embeddings(embed_slices(network, slices, precision), slices.starts, num_partitions)
        distances = torch.cdist(embeddings.double(), embeddings.double(), compute_mode="donot_use_mm_for_euclid_dist")
        known = [slices.ids.index(id_) for id_ in labelled]
        ranking = rank(distances, known, self.number)
        chosen = ranking.order[: self.number]
        ids = [*labelled, *(slices.ids[index] for index in chosen)]
        rows = _rows(slices.ids, {item["id"]: item["image"] for item in items}, distances, ranking, known, self.number)
        folder = Path(output_dir)
        with ExitStack() as files:
            temporary = files.enter_context(atomic_file(folder / "selection.json"))
            temporary.write_text(json.dumps(ids, indent=2) + "\n", encoding="utf-8")
            write_table(files.enter_context(atomic_file(folder / "selection.csv")), rows, list(rows[0]))
            if pictures:
                picture = files.enter_context(atomic_file(folder / "selection.png"))
                draw_selection(embeddings, slices, known, chosen, picture)
                page = files.enter_context(atomic_file(folder / FILE))
                write_selection_page(page, rows, slices, self.display, self.settings, picture)
        if not pictures:
            for name in ("selection.png", FILE):
                (folder / name).unlink(missing_ok=True)
        logger.info(f"Label next: {', '.join(ids[len(labelled) :])}. The list for training is {folder}/selection.json.")
        return ids

    def _check(self, candidates: int, which: str) -> None:
        """Raise unless there are enough candidates."""
        if type(self.number) is not int or self.number < 1:
            raise SplitError(f"number must be a whole number from 1, got {self.number!r}: say how many to choose.")
        if candidates < _FEWEST:
            raise SplitError(
                f"There must be at least {_FEWEST} unlabelled volumes{which} to choose among, got {candidates}: add "
                "volumes to pretrain in the split file, or to extra_unlabelled_ids."
            )
        if self.number > candidates:
            raise SplitError(
                f"number must be at most {candidates}, the unlabelled volumes{which}, got {self.number}: ask for "
                "fewer, or add volumes to pretrain in the split file."
            )


def _rows(
    ids: Sequence[str],
    images: dict[str, str],
    distances: Tensor,
    ranking: Ranking,
    labelled: Sequence[int],
    number: int,
) -> list[dict[str, Any]]:
    """Return the rows of the table: labelled volumes, then all others by their rank."""
    states = ["labelled"] * len(labelled) + ["chosen"] * number + ["left"] * (len(ids) - len(labelled) - number)
    ranks = [None] * len(labelled) + list(range(1, len(ranking.order) + 1))
    taken = [*labelled, *ranking.order[:number]]
    rows = []
    for index, state, place in zip([*labelled, *ranking.order], states, ranks, strict=True):
        nearest = min(taken, key=lambda other: float(distances[index, other]))
        rows.append(
            {
                "rank": place,
                "id": ids[index],
                "state": state,
                "distance_to_neighbours": ranking.distances[index],
                "nearest": ids[nearest],
                "distance_to_nearest": float(distances[index, nearest]),
                "image": images[ids[index]],
            }
        )
    return rows
