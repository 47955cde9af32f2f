"""Strategies and layouts: what the entries say, what must hold for every entry, and what a new one takes."""

from __future__ import annotations

import ast
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest
import torch

from common import strategies
from common.data.loader import BatchLoader
from common.data.samplers import contrastive_sampler
from common.data.slices import Slices
from common.losses import DenseContrastiveLoss, GlobalContrastiveLoss, LocalContrastiveLoss
from common.strategies import (
    GD_PAIRS,
    STRATEGIES,
    DenseStrategy,
    GlobalStrategy,
    Layout,
    LocalStrategy,
    find_strategy,
    make_layout,
    pixels_per_slice,
)
from common.transforms.dense_views import DenseViews
from common.transforms.intensity_views import RandomIntensity
from common.transforms.views import ContrastiveViews

every_strategy = pytest.mark.parametrize("name", STRATEGIES)


def smallest(name: str) -> Layout:
    entry = find_strategy(name)
    partitions = entry.fewest_partitions
    return make_layout(name, entry.num_views * entry.fewest * (partitions if entry.whole_volumes else 1), partitions)


# ---- the layout


def test_images_stand_view_by_view_volume_by_volume_partition_by_partition():
    layout = make_layout("GD-", 3 * 2 * 4 + 5)
    assert (layout.num_volumes, layout.num_partitions, layout.num_slices, layout.num_images) == (2, 4, 8, 24)
    assert layout.slices.tolist() == list(range(8)) * 3
    assert layout.partitions.tolist() == [0, 1, 2, 3] * 6


def test_single_slices_are_volumes_of_one_partition():
    layout = make_layout("LR", 7, num_partitions=4)
    assert (layout.num_volumes, layout.num_partitions, layout.num_images) == (3, 1, 6)
    assert layout.slices.tolist() == [0, 1, 2, 0, 1, 2]
    assert not layout.partitions.any()


@pytest.mark.parametrize(
    ("name", "batch_size", "num_slices"),
    [("GR", 40, 20), ("LR", 40, 20), ("GD", 40, 20), ("GD-", 40, 12), ("LD", 40, 20), ("GD", 450, 56 * 4)],
)
def test_batch_size_counts_views(name, batch_size, num_slices):
    assert make_layout(name, batch_size).num_slices == num_slices


def test_layouts_are_frozen_and_compared_by_value():
    layout = make_layout("GD")
    assert layout == make_layout("GD", 40, 4, "ring") and hash(layout) == hash(make_layout("GD"))
    assert layout != make_layout("GD", gd_pairs="all") and layout != make_layout("GD", 32)
    with pytest.raises(FrozenInstanceError):
        layout.num_volumes = 3
    with pytest.raises(FrozenInstanceError):
        layout.strategy.fewest = 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("GD", 8), r"batch_size must be at least 16 for GD with 4 partitions \(2 volumes, 2 views\), got 8"),
        (("LD", 16), "batch_size must be at least 24 for LD"),
        (("GD-", 23), "batch_size must be at least 24 for GD-"),
        (("GR", 3), r"batch_size must be at least 4 for GR \(slices: 2, views: 2\), got 3"),
        (("LE", 3), r"batch_size must be at least 4 for LE \(slices: 2, views: 2\), got 3"),
        (("LX", 8), "batch_size must be at least 16 for LX with 4 partitions"),
        (("LX", 40, 1), "num_partitions must be at least 2, got 1"),
        (("LR", 1), r"batch_size must be at least 2 for LR \(slices: 1, views: 2\), got 1"),
        (("GD", 40, 1), "num_partitions must be at least 2, got 1"),
        (("GD-", 40, 1), "num_partitions must be at least 2, got 1"),
        (("LD", 40, 0), "num_partitions must be at least 1, got 0"),
        (("gd",), f"strategy must be one of {', '.join(STRATEGIES)}, got 'gd'; choose one"),
        (("GD", 40, 4, "none"), "gd_pairs must be one of ring, all, got 'none'; choose one"),
        (("GR", 40, 4, "none"), "gd_pairs must be one of ring, all, got 'none'; choose one"),
    ],
    ids=str,
)
def test_layouts_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_layout(*arguments)


# ---- the pairs, by hand


@pytest.mark.parametrize(
    ("name", "rows", "weights"),
    [
        ("GR", [[0, 1, 2, 3], [2, 3, 0, 1]], [1]),
        ("LR", [[0, 1, 2, 3], [2, 3, 0, 1]], [1]),
        ("LE", [[0, 1, 2, 3], [2, 3, 0, 1]], [1]),
        ("GD-", [[*range(12)], [*range(8, 12), *range(8)], [*range(4, 12), *range(4)]], [1, 1]),
    ],
)
def test_other_views(name, rows, weights):
    pairs = make_layout(name, len(rows[0]), num_partitions=2).pairs
    assert (pairs.rows.tolist(), pairs.weights.tolist()) == (rows, weights)


@pytest.mark.parametrize(
    ("gd_pairs", "others"),
    [
        ("ring", [[6, 7, 0, 1, 2, 3, 4, 5], [2, 3, 4, 5, 6, 7, 0, 1]]),
        ("all", [[6, 7, 0, 1, 2, 3, 4, 5], [4, 5, 6, 7, 0, 1, 2, 3], [2, 3, 4, 5, 6, 7, 0, 1]]),
    ],
)
def test_view_and_volumes_of_gd(gd_pairs, others):
    """Four volumes of two partitions: rows 0 to 7 are the originals, 8 to 15 their augmented views."""
    rows, weights = make_layout("GD", 16, 2, gd_pairs).pairs
    assert rows[0].tolist() == list(range(16)) and rows[1].tolist() == [*range(8, 16), *range(8)]
    assert rows[2:].tolist() == [[*row, *(other + 8 for other in row)] for row in others]
    assert weights.tolist() == [2.0] + [1.0] * len(others)


def test_view_and_next_volumes_of_ld():
    """Four volumes of two partitions, as above; only the first views are anchors."""
    rows, weights = make_layout("LD", 16, 2).pairs
    assert rows.tolist() == [[*range(8)], [*range(8, 16)], [2, 3, 4, 5, 6, 7, 0, 1], [4, 5, 6, 7, 0, 1, 2, 3]]
    assert weights.tolist() == [1, 1, 1]


# ---- what must hold for every entry, a new one too


@every_strategy
@pytest.mark.parametrize("make", [smallest, make_layout], ids=["smallest", "default"])
def test_pairs_and_negatives_are_sound(name, make):
    layout = make(name)
    rows, weights = layout.pairs
    assert rows.dtype == torch.int64 and 0 <= rows.min() and rows.max() < layout.num_images
    assert rows[0].unique().numel() == rows.shape[1]  # no anchor twice
    assert (rows[1:] != rows[0]).all() and layout.partitions[rows].eq(layout.partitions[rows[0]]).all()
    for partners in rows[1:]:  # with a row twice in a gather its gradient would differ from run to run on a GPU
        assert partners.unique().numel() == len(partners)
    assert weights.shape == (len(rows) - 1,) and weights.dtype == torch.float32 and (weights > 0).all()
    if isinstance(layout.strategy, DenseStrategy):
        negatives = layout.strategy.negatives(layout)
        other_slice = layout.slices[rows] != layout.slices[rows[0]]
        assert torch.equal(negatives, negatives.T) and not negatives[rows[0].expand_as(rows), rows][other_slice].any()
        own_slice = layout.slices[:, None] == layout.slices
        assert negatives[own_slice].all() and (negatives & ~own_slice).any(1).all()
    if isinstance(layout.strategy, GlobalStrategy):
        negatives = layout.strategy.negatives(layout)
        assert torch.equal(rows[0], torch.arange(layout.num_images))
        assert negatives.any(1).all() and torch.equal(negatives, negatives.T)
        assert not negatives.gather(1, rows.T).any()


@every_strategy
def test_too_few_slices_are_refused_at_the_bound(name):
    layout = smallest(name)
    with pytest.raises(ValueError, match=f"batch_size must be at least {layout.num_images} for {name}"):
        make_layout(name, layout.num_images - 1, layout.num_partitions)


@every_strategy
def test_the_smallest_batches_suffice_for_the_loss(name, generator):
    assert step(smallest(name), generator).isfinite()


@every_strategy
def test_a_strategy_has_the_name_it_is_found_by(name):
    assert find_strategy(name).name == name


def step(layout, generator):
    """Draw a batch, make its views and compute the loss of embeddings or regions that know nothing of them."""
    slices = Slices(torch.rand(5 * 8, 1, 32, 32, generator=generator), None, torch.arange(6) * 8)
    if isinstance(layout.strategy, DenseStrategy):
        num_pixels = 3 * layout.num_slices
        inputs, targets = BatchLoader(
            slices, contrastive_sampler(layout, slices), DenseViews(layout, num_pixels), 1
        ).batch(0)
        assert inputs.shape == (layout.num_images, 1, 32, 32) and targets.shape == (layout.num_images, 3, 2)
        return DenseContrastiveLoss(layout, num_pixels)(torch.randn(len(inputs), 8, 4, 4, generator=generator), targets)
    views = ContrastiveViews(layout.strategy.name, RandomIntensity())
    inputs, targets = BatchLoader(slices, contrastive_sampler(layout, slices), views, 1).batch(0)
    assert inputs.shape == (layout.num_images, 1, 32, 32) and targets is None
    if isinstance(layout.strategy, LocalStrategy):
        return LocalContrastiveLoss(layout)(torch.randn(len(inputs), 17, 8, generator=generator), targets)
    return GlobalContrastiveLoss(layout)(torch.randn(len(inputs), 8, generator=generator), targets)


def test_a_new_strategy_is_an_entry_and_a_mask(monkeypatch, generator):
    """Negatives of the other volumes only: of a batch with equal embeddings the loss counts them."""

    def other_volumes(layout):
        volumes = layout.slices // layout.num_partitions
        return volumes[:, None] != volumes

    entry = replace(STRATEGIES["GD-"], name="GX", num_augmented=1, fewest_partitions=1, negatives=other_volumes)
    monkeypatch.setitem(STRATEGIES, "GX", entry)
    layout = make_layout("GX", 2 * 3 * 4)
    assert step(layout, generator).isfinite()
    loss = GlobalContrastiveLoss(layout)(torch.ones(24, 8))
    torch.testing.assert_close(loss, torch.tensor(1.0 + 2 * 2 * 4).log())
    with pytest.raises(ValueError, match="strategy must be one of LR, LD.*, got 'GX'"):
        LocalContrastiveLoss(layout)


def test_pixels_are_divided_evenly_among_the_slices():
    layout = make_layout("LE", 12)
    assert [pixels_per_slice(layout, number) for number in (6, 11, 12, 1000)] == [1, 1, 2, 166]
    with pytest.raises(ValueError, match="num_pixels must be at least 6, one for each slice of a batch, got 5; take"):
        pixels_per_slice(layout, 5)


def test_negatives_of_lx():
    """Two volumes of two partitions: rows 0 to 3 are the first views, 4 to 7 the second ones."""
    layout = make_layout("LX", 8, 2)
    negatives = layout.strategy.negatives(layout)
    assert [row.nonzero().flatten().tolist() for row in negatives[:2]] == [[0, 1, 3, 4, 5, 7], [0, 1, 2, 4, 5, 6]]


def test_both_ways_to_pair_volumes_are_told_apart():
    assert set(GD_PAIRS) == {"ring", "all"} and STRATEGIES["GD"].pairs is GD_PAIRS["ring"]


# ---- the ground floor


def test_strategies_import_nothing_of_ours():
    tree = ast.parse(Path(strategies.__file__).read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert imports and not any(getattr(node, "level", 0) or "common" in ast.unparse(node) for node in imports)
