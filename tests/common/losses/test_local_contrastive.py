from __future__ import annotations

import math
from contextlib import nullcontext

import pytest
import torch
from pytorch_metric_learning.losses import NTXentLoss
from torch import Tensor

from common.losses import LocalContrastiveLoss
from common.losses.local_contrastive import NEGATIVE_POSITIONS
from common.strategies import Layout, make_layout
from reference.local_loss import local_loss_by_loops, negatives_of

from .gradients import cuda_steps, loss_and_gradient, relative_error

NUM_POSITIONS = {1: 13, 3: 17}
strategies = pytest.mark.parametrize("strategy", ["LR", "LD"])
region_sizes = pytest.mark.parametrize("region_size", [1, 3], ids=["1x1", "3x3"])


def layout_of(strategy: str, num_volumes: int, num_partitions: int) -> Layout:
    """LR takes as many single slices."""
    return make_layout(strategy, 2 * num_volumes * num_partitions, num_partitions)


def random_regions(layout: Layout, region_size: int, dim: int, generator: torch.Generator) -> Tensor:
    return torch.randn(layout.num_images, NUM_POSITIONS[region_size], dim, generator=generator)


@region_sizes
def test_table_of_negatives(region_size: int) -> None:
    table = NEGATIVE_POSITIONS[region_size]
    assert table == tuple(tuple(negatives_of(region, region_size)) for region in range(13))
    assert all(len(set(row)) == 5 and region not in row for region, row in enumerate(table))


@pytest.mark.parametrize(
    ("num_volumes", "num_partitions", "dim"),
    [(3, 3, 5), (4, 2, 16), (5, 1, 3), (3, 4, 8)],
    ids=lambda value: str(value),
)
@region_sizes
@strategies
def test_equals_loops(
    strategy: str, region_size: int, num_volumes: int, num_partitions: int, dim: int, generator: torch.Generator
) -> None:
    layout = layout_of(strategy, num_volumes, num_partitions)
    regions = 3 * random_regions(layout, region_size, dim, generator)
    value, gradient = loss_and_gradient(LocalContrastiveLoss(layout, region_size), regions)
    expected, expected_gradient = loss_and_gradient(local_loss_by_loops, regions.double(), layout, region_size)
    assert value == pytest.approx(expected, rel=1e-6)
    assert relative_error(gradient, expected_gradient) < 1e-5


# Made by enumerating the loops of the authors' program with cos(0.3 n + 0.5 p + 0.9 k + 0.05 n p) as feature k of
# position p of row n, in the program's order of rows: views alternating (LR), view by view (LD).
@pytest.mark.parametrize(
    ("strategy", "region_size", "expected"),
    [("LR", 3, 2.060432713), ("LR", 1, 1.884174975), ("LD", 3, 18.588288443), ("LD", 1, 18.411618426)],
)
def test_equals_the_sums_of_the_authors_program(strategy: str, region_size: int, expected: float) -> None:
    num_images = 20 if strategy == "LR" else 24
    rows = torch.arange(num_images)  # of the program, in our order
    if strategy == "LR":
        rows = rows.reshape(-1, 2).T.flatten()
    n, p = rows[:, None, None].double(), torch.arange(NUM_POSITIONS[region_size])[:, None].double()
    regions = torch.cos(0.3 * n + 0.5 * p + 0.9 * torch.arange(4) + 0.05 * n * p)
    found = LocalContrastiveLoss(make_layout(strategy, num_images), region_size)(regions)
    assert found.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.0], ids=["zero", "equal"])
@pytest.mark.parametrize(("strategy", "expected"), [("LR", math.log(11)), ("LD", 1.5 * math.log(9))])
@region_sizes
def test_equal_vectors_give_the_log_of_the_denominator(
    strategy: str, region_size: int, expected: float, value: float
) -> None:
    regions = torch.full((40, NUM_POSITIONS[region_size], 8), value)
    loss, gradient = loss_and_gradient(LocalContrastiveLoss(make_layout(strategy), region_size), regions)
    assert loss == pytest.approx(expected, rel=1e-6)
    assert gradient.isfinite().all()


@region_sizes
def test_orthogonal_positions_closed_form(region_size: int) -> None:
    regions = torch.eye(NUM_POSITIONS[region_size]).expand(12, -1, -1)
    loss = LocalContrastiveLoss(make_layout("LR", 12), region_size, temperature=0.5)(regions)
    assert loss.item() == pytest.approx(math.log(1 + 10 * math.exp(-2)), rel=1e-6)


@strategies
def test_length_does_not_matter(strategy: str, generator: torch.Generator) -> None:
    layout = make_layout(strategy)
    regions = random_regions(layout, 3, 16, generator)
    lengths = 0.1 + 10 * torch.rand(40, 17, 1, generator=generator)
    loss = LocalContrastiveLoss(layout)
    torch.testing.assert_close(loss(lengths * regions), loss(regions))


@pytest.mark.parametrize(
    ("strategy", "volumes"),
    [("LR", [2, 0, 4, 1, 3]), ("LD", [3, 4, 0, 1, 2]), ("LD", [2, 0, 1]), ("LD", [1, 0, 2])],
    ids=["LR", "LD shifted", "LD three volumes shifted", "LD three volumes swapped"],
)
def test_order_of_volumes_does_not_matter(strategy: str, volumes: list[int], generator: torch.Generator) -> None:
    layout = layout_of(strategy, len(volumes), 4)
    regions = random_regions(layout, 3, 16, generator)
    moved = regions.unflatten(0, (2, len(volumes), 4))[:, volumes].flatten(0, 2)
    loss = LocalContrastiveLoss(layout)
    torch.testing.assert_close(loss(moved), loss(regions))


@strategies
def test_small_temperature(strategy: str, generator: torch.Generator) -> None:
    layout = layout_of(strategy, 3, 1)
    regions = random_regions(layout, 3, 8, generator)
    value, gradient = loss_and_gradient(LocalContrastiveLoss(layout, 3, 0.005), regions)
    expected, expected_gradient = loss_and_gradient(local_loss_by_loops, regions, layout, 3, 0.005)
    assert value == pytest.approx(expected, rel=1e-5)
    assert relative_error(gradient, expected_gradient) < 1e-3  # Similarities of ±200 in float32


@pytest.mark.parametrize("temperature", [0.1, 0.005])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@strategies
def test_half_precision_input(
    strategy: str, dtype: torch.dtype, temperature: float, generator: torch.Generator
) -> None:
    layout = layout_of(strategy, 4, 4)
    half = (50 * random_regions(layout, 3, 32, generator)).to(dtype)
    loss = LocalContrastiveLoss(layout, temperature=temperature)
    value, gradient = loss_and_gradient(loss, half)
    expected, expected_gradient = loss_and_gradient(loss, half.float())
    assert value == expected
    assert torch.equal(gradient, expected_gradient.to(dtype))
    assert gradient.isfinite().all() and gradient.any()


@strategies
def test_autocast_changes_nothing(strategy: str, generator: torch.Generator) -> None:
    layout = layout_of(strategy, 4, 4)
    regions = random_regions(layout, 3, 32, generator)
    loss = LocalContrastiveLoss(layout)
    expected, expected_gradient = loss_and_gradient(loss, regions)
    leaf = regions.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(leaf)
    value.backward()
    assert value.item() == expected
    assert leaf.grad is not None
    assert torch.equal(leaf.grad, expected_gradient)


@region_sizes
def test_lr_is_ntxent_with_pairs(region_size: int, generator: torch.Generator) -> None:
    # All vectors of the batch in one list: vector (n, p) is entry n * P + p.
    num_positions = NUM_POSITIONS[region_size]
    layout = make_layout("LR", 12)
    regions = random_regions(layout, region_size, 8, generator)
    partners = torch.arange(12).roll(6)
    anchors, positives, negative_anchors, negatives = [], [], [], []
    for n in range(12):
        for r in range(13):
            anchors.append(n * num_positions + r)
            positives.append(int(partners[n]) * num_positions + r)
            for p in NEGATIVE_POSITIONS[region_size][r]:
                negative_anchors += 2 * [n * num_positions + r]
                negatives += [n * num_positions + p, int(partners[n]) * num_positions + p]
    pairs = tuple(torch.tensor(entries) for entries in (anchors, positives, negative_anchors, negatives))
    expected = NTXentLoss(temperature=0.1)(regions.flatten(0, 1), indices_tuple=pairs)
    torch.testing.assert_close(LocalContrastiveLoss(layout, region_size)(regions), expected)


def test_tables_are_made_once_and_not_saved(monkeypatch: pytest.MonkeyPatch, generator: torch.Generator) -> None:
    layout = make_layout("LD", 24)
    loss = LocalContrastiveLoss(layout)
    regions = random_regions(layout, 3, 8, generator)
    expected = loss(regions)
    assert not loss.state_dict()
    monkeypatch.setattr(torch, "arange", None)  # without it no table can be made
    assert torch.equal(loss(regions), expected)


def test_tables_follow_the_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which does not know the device
    loss = LocalContrastiveLoss(make_layout("LD", 24))
    assert loss(torch.empty(24, 17, 8, device="meta")).device.type == "meta"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@strategies
def test_cuda_step_does_not_synchronise(strategy: str, generator: torch.Generator) -> None:
    layout = make_layout(strategy)
    regions = random_regions(layout, 3, 128, generator)
    loss = LocalContrastiveLoss(layout)
    expected = loss(regions)
    torch.testing.assert_close(cuda_steps(loss, regions), expected)


@pytest.mark.parametrize(
    ("strategy", "options", "message"),
    [
        ("GD", {}, r"strategy must be one of LR, LD, got 'GD'; choose one"),
        ("LD", {"region_size": 2}, r"region_size must be 1 or 3, got 2"),
        ("LD", {"temperature": 0}, r"temperature must be > 0, got 0"),
        ("LD", {"temperature": -0.1}, r"temperature must be > 0, got -0\.1"),
    ],
)
def test_wrong_arguments(strategy: str, options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LocalContrastiveLoss(make_layout(strategy), **options)


@pytest.mark.parametrize(
    ("region_size", "shape"),
    [(3, (24, 17)), (3, (24, 13, 8)), (3, (22, 17, 8)), (3, (12, 17, 8)), (1, (24, 17, 8))],
    ids=["dimensions", "positions", "images", "a share", "positions of single pixels"],
)
def test_wrong_batches(region_size: int, shape: tuple[int, ...]) -> None:
    num_positions = NUM_POSITIONS[region_size]
    message = rf"\(24, {num_positions}, features\) for .* region_size {region_size}, got \({str(shape)[1:-1]}\)"
    with pytest.raises(ValueError, match=message):
        LocalContrastiveLoss(make_layout("LR", 24), region_size)(torch.ones(shape))
