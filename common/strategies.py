"""The contrastive strategies, and what the images of their batches are.

A strategy is one entry of `STRATEGIES`. It says how many views are made of a drawn slice, whether slices are drawn one
by one or with their whole volume, how few of them will do, and which images its loss compares. The class of the entry
is that of the loss. Samplers, views, heads and losses ask the entry and name no strategy.

So a new strategy is one entry, and one function for its pairs or its mask where none of those here fits. One with a
loss of its own also gets a class beside `GlobalStrategy`, `LocalStrategy` and `DenseStrategy`, for what that loss has
to be told. What differs from step to step, such as how a view was moved, is no part of a strategy: views hand it to the
loss as the targets of a batch.

A layout is a strategy with numbers: which view of which slice each image of a batch is. It is the same at every step.

GR, GD-, GD, LR and LD are those of Chaitanya, Erdil, Karani, Konukoglu, "Contrastive learning of global and local
features for medical image segmentation with limited annotations", NeurIPS 2020, arXiv 2006.10511, sections 3.1 and 3.2.
LE and LX are not the paper's. LE follows "Pix2Rep", MIDL 2024, arXiv 2407.20395; LX adds positives across patients and
negatives from other levels, as "MACL", arXiv 2309.11876, has them.

Letters: W views of a slice, V volumes, S partitions of a volume, B = V S drawn slices, N = W B images, A anchors,
Q partners of an anchor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor


class Pairs(NamedTuple):
    """Which images a loss compares.

    Attributes:
        rows: int64 (1 + Q, A), rows of the batch: those of the anchors, and below each anchor its partners.
        weights: float32 (Q,), what the terms of a partner count.
    """

    rows: Tensor
    weights: Tensor


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """What samplers and views have to know of a strategy, and which images its loss compares.

    Attributes:
        name: what options call it.
        num_originals: how many views of a slice are the slice as it is.
        num_augmented: how many are augmented; they come after the originals.
        whole_volumes: True draws volumes and one slice from each of their partitions, False single slices from all.
        fewest: how many volumes, or single slices, a batch needs at least.
        fewest_partitions: how many partitions a volume needs at least.
        pairs: maps the rows of a batch, int64 (W, V, S), to the pairs. Single slices are volumes of one partition.
    """

    name: str
    num_originals: int = 0
    num_augmented: int = 2
    whole_volumes: bool
    fewest: int
    fewest_partitions: int = 1
    pairs: Callable[[Tensor], Pairs]

    @property
    def num_views(self) -> int:
        """W, the number of views of a slice."""
        return self.num_originals + self.num_augmented


@dataclass(frozen=True, kw_only=True)
class GlobalStrategy(Strategy):
    """A strategy of `GlobalContrastiveLoss`: one embedding for each image, and every image is an anchor.

    Attributes:
        negatives: makes the mask, bool (N, N), of the images (columns) that are negatives of an anchor (rows).
    """

    negatives: Callable[[Layout], Tensor]


@dataclass(frozen=True, kw_only=True)
class LocalStrategy(Strategy):
    """A strategy of `LocalContrastiveLoss`: a vector for each region, and negatives within the compared images.

    Attributes:
        num_negatives: how many of the negative positions of a region are used, see `NEGATIVE_POSITIONS`.
    """

    num_negatives: int


@dataclass(frozen=True, kw_only=True)
class DenseStrategy(Strategy):
    """A strategy of `DenseContrastiveLoss`: a vector for each sampled pixel, and all images of the batch are compared.

    Its views are moved against each other. A pair of two images of one slice compares the same places of the slice; a
    pair of images of two slices compares every sampled pixel with the most similar one of the other image.

    Attributes:
        negatives: makes the mask, bool (N, N), of the images (columns) whose pixels are negatives of the pixels of an
            image (rows). The same place of the same slice never is one.
    """

    negatives: Callable[[Layout], Tensor]


_Kind = TypeVar("_Kind", bound=Strategy)


@dataclass(frozen=True)
class Layout:
    """What each image of a batch is; made by `make_layout`.

    The images stand view by view, within a view volume by volume, within a volume partition by partition.

    Attributes:
        strategy: of the run.
        num_volumes: V. Single slices count as volumes of one partition.
        num_partitions: S.
    """

    strategy: Strategy
    num_volumes: int
    num_partitions: int

    @property
    def num_slices(self) -> int:
        """B, the number of slices that are drawn."""
        return self.num_volumes * self.num_partitions

    @property
    def num_images(self) -> int:
        """N, the number of images, views included."""
        return self.strategy.num_views * self.num_slices

    @property
    def slices(self) -> Tensor:
        """The drawn slice that each image is a view of, int64 (N,); a slice that is drawn twice has two numbers."""
        return torch.arange(self.num_images) % self.num_slices

    @property
    def partitions(self) -> Tensor:
        """The partition that each image is from, int64 (N,)."""
        return torch.arange(self.num_images) % self.num_partitions

    @property
    def pairs(self) -> Pairs:
        """The pairs of images that the loss compares."""
        shape = (self.strategy.num_views, self.num_volumes, self.num_partitions)
        return self.strategy.pairs(torch.arange(self.num_images).reshape(shape))

    def strategy_as(self, kind: type[_Kind]) -> _Kind:
        """Return the strategy, which must be of a kind.

        Args:
            kind: the class of the strategies of one loss.

        Raises:
            ValueError: if it is of another.
        """
        if not isinstance(self.strategy, kind):
            known = ", ".join(name for name, strategy in STRATEGIES.items() if isinstance(strategy, kind))
            raise ValueError(f"strategy must be one of {known}, got {self.strategy.name!r}; choose one of them")
        return self.strategy


def make_layout(strategy: str, batch_size: int = 40, num_partitions: int = 4, gd_pairs: str = "ring") -> Layout:
    """Lay out the batches of a run, of at most `batch_size` images, views included.

    At 40 images and S = 4, GR and LR draw 20 slices, GD and LD 5 volumes, and GD-, with three views, 3.

    Args:
        strategy: a name in `STRATEGIES`.
        batch_size: images of a batch; rounded down to whole volumes.
        num_partitions: S; strategies with single slices do not use it.
        gd_pairs: which other volumes GD takes partners from: the "ring" neighbours (the next and the previous volume
            of the batch, cyclic), as in the authors' program, or "all". Both are the same for V = 3; for V = 2 the
            ring meets the other volume twice. The other strategies do not use it.

    Raises:
        ValueError: if the strategy or `gd_pairs` is unknown, or there are too few images or partitions for it.
    """
    entry = find_strategy(strategy)
    if gd_pairs not in GD_PAIRS:
        raise ValueError(f"gd_pairs must be one of {', '.join(GD_PAIRS)}, got {gd_pairs!r}; choose one of them")
    if entry.name == "GD":
        entry = replace(entry, pairs=GD_PAIRS[gd_pairs])
    views, fewest = entry.num_views, entry.fewest
    if not entry.whole_volumes:
        if batch_size < fewest * views:
            raise ValueError(
                f"batch_size must be at least {fewest * views} for {strategy} (slices: {fewest}, views: {views}), "
                f"got {batch_size!r}."
            )
        return Layout(entry, batch_size // views, num_partitions=1)
    if num_partitions < entry.fewest_partitions:
        raise ValueError(f"num_partitions must be at least {entry.fewest_partitions}, got {num_partitions!r}.")
    if batch_size < fewest * views * num_partitions:
        raise ValueError(
            f"batch_size must be at least {fewest * views * num_partitions} for {strategy} with {num_partitions} "
            f"partitions ({fewest} volumes, {views} views), got {batch_size!r}."
        )
    return Layout(entry, batch_size // (views * num_partitions), num_partitions)


def pixels_per_slice(layout: Layout, num_pixels: int) -> int:
    """Divide the pixels that a dense strategy samples evenly among the drawn slices.

    Args:
        layout: of the batches.
        num_pixels: of a batch, those of one view.

    Returns:
        Pixels of a slice, rounded down.

    Raises:
        ValueError: if that is none.
    """
    if num_pixels < layout.num_slices:
        raise ValueError(
            f"num_pixels must be at least {layout.num_slices}, one for each slice of a batch, got {num_pixels!r}; "
            "take more, or a smaller batch_size"
        )
    return num_pixels // layout.num_slices


def find_strategy(name: str) -> Strategy:
    """Return the strategy of a name.

    Raises:
        ValueError: if there is none.
    """
    if name not in STRATEGIES:
        raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}, got {name!r}; choose one of them")
    return STRATEGIES[name]


# ------------------------------------------------------------------------------------------------------------- pairs


def _other_views(rows: Tensor) -> Pairs:
    """Every image and the other views of its slice."""
    return _join(rows, [rows.roll(shift, dims=0) for shift in range(1, len(rows))])


def _view_and_neighbours(rows: Tensor) -> Pairs:
    """Every image, the other view of its slice (counted twice), and its partition in the two neighbouring volumes."""
    return _join(rows, [rows.flip(0), rows.roll(1, dims=1), rows.roll(-1, dims=1)], [2.0, 1.0, 1.0])


def _view_and_all_volumes(rows: Tensor) -> Pairs:
    """Every image, the other view of its slice (counted twice), and its partition in all other volumes."""
    others = [rows.roll(shift, dims=1) for shift in range(1, rows.shape[1])]
    return _join(rows, [rows.flip(0), *others], [2.0] + [1.0] * len(others))


def _first_view_and_next_volumes(rows: Tensor) -> Pairs:
    """Every image of the first view, the second view of its slice, and its partition in the next two volumes."""
    first, second = rows
    return _join(first, [second, first.roll(-1, dims=0), first.roll(-2, dims=0)])


def _join(anchors: Tensor, partners: Sequence[Tensor], weights: Sequence[float] | None = None) -> Pairs:
    """Join rows of one shape; every partner counts once unless there are weights."""
    return Pairs(torch.stack([anchors, *partners]).flatten(1), torch.tensor(weights or [1.0] * len(partners)))


# ------------------------------------------------------------------------------------------------------------- masks


def _other_slices(layout: Layout) -> Tensor:
    """Every image that is of another drawn slice."""
    return layout.slices[:, None] != layout.slices


def _other_partitions(layout: Layout) -> Tensor:
    """Every image that is of another partition, of whatever volume."""
    return layout.partitions[:, None] != layout.partitions


def _all_images(layout: Layout) -> Tensor:
    """Every image."""
    return torch.ones(layout.num_images, layout.num_images, dtype=torch.bool)


def _own_slice_and_other_partitions(layout: Layout) -> Tensor:
    """Every image of the same drawn slice, and of another partition of whatever volume."""
    return ~_other_slices(layout) | _other_partitions(layout)


# ----------------------------------------------------------------------------------------------------------- entries

GD_PAIRS = {"ring": _view_and_neighbours, "all": _view_and_all_volumes}

_ENTRIES: tuple[Strategy, ...] = (
    GlobalStrategy(name="GR", whole_volumes=False, fewest=2, pairs=_other_views, negatives=_other_slices),
    GlobalStrategy(
        name="GD-",
        num_originals=1,
        whole_volumes=True,
        fewest=2,
        fewest_partitions=2,
        pairs=_other_views,
        negatives=_other_partitions,
    ),
    GlobalStrategy(
        name="GD",
        num_originals=1,
        num_augmented=1,
        whole_volumes=True,
        fewest=2,
        fewest_partitions=2,
        pairs=_view_and_neighbours,
        negatives=_other_partitions,
    ),
    LocalStrategy(name="LR", whole_volumes=False, fewest=1, pairs=_other_views, num_negatives=5),
    # Four negatives as in the authors' program, which saves memory with them.
    LocalStrategy(name="LD", whole_volumes=True, fewest=3, pairs=_first_view_and_next_volumes, num_negatives=4),
    DenseStrategy(name="LE", whole_volumes=False, fewest=2, pairs=_other_views, negatives=_all_images),
    DenseStrategy(
        name="LX",
        whole_volumes=True,
        fewest=2,
        fewest_partitions=2,
        pairs=_view_and_neighbours,
        negatives=_own_slice_and_other_partitions,
    ),
)

STRATEGIES = {strategy.name: strategy for strategy in _ENTRIES}
