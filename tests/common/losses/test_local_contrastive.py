from __future__ import annotations

import math

import pytest
import torch
from pytorch_metric_learning.losses import NTXentLoss
from torch import Tensor

from common.losses import BatchLayout, LocalContrastiveLoss
from common.losses.local_contrastive import NEGATIVE_POSITIONS
from tests.reference.local_loss import local_loss_by_loops, negatives_of

NUM_POSITIONS = {1: 13, 3: 17}
strategies = pytest.mark.parametrize("strategy", ["LR", "LD"])
region_sizes = pytest.mark.parametrize("region_size", [1, 3], ids=["1x1", "3x3"])


def batch_layout(num_volumes: int, num_partitions: int, num_views: int = 2) -> BatchLayout:
    """View by view, volume by volume."""
    axes = [torch.arange(size) for size in (num_views, num_volumes, num_partitions)]
    views, volumes, partitions = torch.cartesian_prod(*axes).unbind(1)
    return BatchLayout(volumes * num_partitions + partitions, volumes, partitions, views)


def reorder(layout: BatchLayout, order: Tensor) -> BatchLayout:
    return BatchLayout(*(field[order] for field in layout))


def random_regions(layout: BatchLayout, region_size: int, dim: int, generator: torch.Generator) -> Tensor:
    return torch.randn(len(layout.slices), NUM_POSITIONS[region_size], dim, generator=generator)


def loss_and_gradient(loss: object, regions: Tensor, *args: object) -> tuple[float, Tensor]:
    leaf = regions.detach().clone().requires_grad_()
    value = loss(leaf, *args)  # type: ignore[operator]
    value.backward()
    assert leaf.grad is not None
    return value.item(), leaf.grad


def relative_error(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max()).item()


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
def test_equals_loops_in_any_row_order(
    strategy: str, region_size: int, num_volumes: int, num_partitions: int, dim: int, generator: torch.Generator
) -> None:
    layout = batch_layout(num_volumes, num_partitions)
    layout = reorder(layout, torch.randperm(len(layout.slices), generator=generator))
    regions = 3 * random_regions(layout, region_size, dim, generator)
    value, gradient = loss_and_gradient(LocalContrastiveLoss(strategy, region_size), regions, layout)
    expected, expected_gradient = loss_and_gradient(
        local_loss_by_loops, regions.double(), layout, strategy, region_size
    )
    assert value == pytest.approx(expected, rel=1e-6)
    assert relative_error(gradient, expected_gradient) < 1e-5


# Made by enumerating the loops of the authors' program with cos(0.3 n + 0.5 p + 0.9 k + 0.05 n p) as feature k of
# position p of row n, in the program's order of rows: views alternating (LR), view by view (LD).
@pytest.mark.parametrize(
    ("strategy", "region_size", "expected"),
    [("LR", 3, 2.060432713), ("LR", 1, 1.884174975), ("LD", 3, 18.588288443), ("LD", 1, 18.411618426)],
)
def test_equals_the_sums_of_the_authors_program(strategy: str, region_size: int, expected: float) -> None:
    rows = torch.arange(20 if strategy == "LR" else 24)
    if strategy == "LR":
        layout = BatchLayout(rows // 2, rows // 2, torch.zeros_like(rows), rows % 2)
    else:
        layout = BatchLayout(rows % 12, rows % 12 // 4, rows % 4, rows // 12)
    n, p = rows[:, None, None].double(), torch.arange(NUM_POSITIONS[region_size])[:, None].double()
    regions = torch.cos(0.3 * n + 0.5 * p + 0.9 * torch.arange(4) + 0.05 * n * p)
    found = LocalContrastiveLoss(strategy, region_size)(regions, layout)
    assert found.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.0], ids=["zero", "equal"])
@pytest.mark.parametrize(("strategy", "expected"), [("LR", math.log(11)), ("LD", 1.5 * math.log(9))])
@region_sizes
def test_equal_vectors_give_the_log_of_the_denominator(
    strategy: str, region_size: int, expected: float, value: float
) -> None:
    layout = batch_layout(5, 4)
    regions = torch.full((40, NUM_POSITIONS[region_size], 8), value)
    loss, gradient = loss_and_gradient(LocalContrastiveLoss(strategy, region_size), regions, layout)
    assert loss == pytest.approx(expected, rel=1e-6)
    assert gradient.isfinite().all()


@region_sizes
def test_orthogonal_positions_closed_form(region_size: int) -> None:
    regions = torch.eye(NUM_POSITIONS[region_size]).expand(12, -1, -1)
    loss = LocalContrastiveLoss("LR", region_size, temperature=0.5)(regions, batch_layout(3, 2))
    assert loss.item() == pytest.approx(math.log(1 + 10 * math.exp(-2)), rel=1e-6)


@strategies
def test_row_order_and_length_do_not_matter(strategy: str, generator: torch.Generator) -> None:
    layout = batch_layout(5, 4)
    regions = random_regions(layout, 3, 16, generator)
    lengths = 0.1 + 10 * torch.rand(40, 17, 1, generator=generator)
    order = torch.randperm(40, generator=generator)
    loss = LocalContrastiveLoss(strategy)
    torch.testing.assert_close(loss((lengths * regions)[order], reorder(layout, order)), loss(regions, layout))


@pytest.mark.parametrize(
    ("strategy", "volumes"),
    [("LR", [2, 0, 4, 1, 3]), ("LD", [3, 4, 0, 1, 2]), ("LD", [2, 0, 1]), ("LD", [1, 0, 2])],
    ids=["LR", "LD shifted", "LD three volumes shifted", "LD three volumes swapped"],
)
def test_order_of_volumes_does_not_matter(strategy: str, volumes: list[int], generator: torch.Generator) -> None:
    layout = batch_layout(len(volumes), 4)
    moved = layout._replace(volumes=torch.tensor(volumes)[layout.volumes])
    regions = random_regions(layout, 3, 16, generator)
    loss = LocalContrastiveLoss(strategy)
    torch.testing.assert_close(loss(regions, moved), loss(regions, layout))


def test_lr_does_not_need_volumes_or_partitions(generator: torch.Generator) -> None:
    layout = batch_layout(3, 4)
    zeros = torch.zeros_like(layout.slices)
    regions = random_regions(layout, 3, 8, generator)
    loss = LocalContrastiveLoss("LR")
    assert torch.equal(loss(regions, layout._replace(volumes=zeros, partitions=zeros)), loss(regions, layout))


@strategies
def test_small_temperature(strategy: str, generator: torch.Generator) -> None:
    layout = batch_layout(3, 1)
    regions = random_regions(layout, 3, 8, generator)
    value, gradient = loss_and_gradient(LocalContrastiveLoss(strategy, 3, 0.005), regions, layout)
    expected, expected_gradient = loss_and_gradient(local_loss_by_loops, regions, layout, strategy, 3, 0.005)
    assert value == pytest.approx(expected, rel=1e-5)
    assert relative_error(gradient, expected_gradient) < 1e-3  # Similarities of ±200 in float32


@pytest.mark.parametrize("temperature", [0.1, 0.005])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@strategies
def test_half_precision_input(
    strategy: str, dtype: torch.dtype, temperature: float, generator: torch.Generator
) -> None:
    layout = batch_layout(4, 4)
    half = (50 * random_regions(layout, 3, 32, generator)).to(dtype)
    loss = LocalContrastiveLoss(strategy, temperature=temperature)
    value, gradient = loss_and_gradient(loss, half, layout)
    expected, expected_gradient = loss_and_gradient(loss, half.float(), layout)
    assert value == expected
    assert torch.equal(gradient, expected_gradient.to(dtype))
    assert gradient.isfinite().all() and gradient.any()


@strategies
def test_autocast_changes_nothing(strategy: str, generator: torch.Generator) -> None:
    layout = batch_layout(4, 4)
    regions = random_regions(layout, 3, 32, generator)
    loss = LocalContrastiveLoss(strategy)
    expected, expected_gradient = loss_and_gradient(loss, regions, layout)
    leaf = regions.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(leaf, layout)
    value.backward()
    assert value.item() == expected
    assert leaf.grad is not None
    assert torch.equal(leaf.grad, expected_gradient)


@region_sizes
def test_lr_is_ntxent_with_pairs(region_size: int, generator: torch.Generator) -> None:
    # All vectors of the batch in one list: vector (n, p) is entry n * P + p.
    num_positions = NUM_POSITIONS[region_size]
    layout = batch_layout(3, 2)
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
    torch.testing.assert_close(LocalContrastiveLoss("LR", region_size)(regions, layout), expected)


def test_another_layout_is_not_mistaken_for_the_last(generator: torch.Generator) -> None:
    loss = LocalContrastiveLoss("LD")
    first = batch_layout(3, 4)
    second = reorder(first, torch.randperm(24, generator=generator))
    regions = random_regions(first, 3, 8, generator)
    values = [loss(regions, layout) for layout in (first, second, first)]
    assert torch.equal(values[1], LocalContrastiveLoss("LD")(regions, second))
    assert not torch.isclose(values[0], values[1])
    assert torch.equal(values[0], values[2])


def test_tables_are_kept_and_not_saved(monkeypatch: pytest.MonkeyPatch, generator: torch.Generator) -> None:
    loss = LocalContrastiveLoss("LD")
    layout = batch_layout(3, 4)
    regions = random_regions(layout, 3, 8, generator)
    expected = loss(regions, layout)
    assert not loss.state_dict()
    monkeypatch.setattr(torch.Tensor, "unique", None)  # Without it no table can be made.
    assert torch.equal(loss(regions, reorder(layout, torch.arange(24))), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@strategies
def test_cuda_step_does_not_synchronise(strategy: str, generator: torch.Generator) -> None:
    layout = batch_layout(5, 4)
    regions = random_regions(layout, 3, 128, generator)
    loss = LocalContrastiveLoss(strategy)
    expected = loss(regions, layout)
    leaf = regions.cuda().requires_grad_()
    loss(leaf, layout).backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        value = loss(leaf, layout)
        value.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(value.cpu(), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strategy": "LX"}, r"strategy must be one of LR, LD, got 'LX'"),
        ({"strategy": "LD", "region_size": 2}, r"region_size must be 1 or 3, got 2"),
        ({"strategy": "LD", "temperature": 0}, r"temperature must be > 0, got 0"),
        ({"strategy": "LD", "temperature": -0.1}, r"temperature must be > 0, got -0\.1"),
    ],
)
def test_wrong_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LocalContrastiveLoss(**arguments)


LAYOUT = batch_layout(3, 4)


@pytest.mark.parametrize(
    ("strategy", "shape", "layout", "message"),
    [
        ("LR", (24, 17), LAYOUT, r"regions must have the shape \(images, 17, features\) .*, got \(24, 17\)"),
        ("LR", (24, 13, 8), LAYOUT, r"regions must have the shape \(images, 17, features\) .*, got \(24, 13, 8\)"),
        ("LR", (22, 17, 8), LAYOUT, r"layout\.slices must have one entry per image, shape \(22,\), got \(24,\)"),
        ("LR", (36, 17, 8), batch_layout(3, 4, 3), r"layout\.views must hold exactly 2 views, .* got \[0, 1, 2\]"),
        ("LD", (12, 17, 8), batch_layout(3, 4, 1), r"layout\.views must hold exactly 2 views, .* got \[0\]"),
        ("LR", (24, 17, 8), LAYOUT._replace(slices=LAYOUT.views), r"layout\.slices must hold each slice exactly once"),
        ("LD", (16, 17, 8), batch_layout(2, 4), r"layout\.volumes must hold at least 3 volumes, got 2"),
        ("LD", (24, 17, 8), LAYOUT._replace(partitions=LAYOUT.views), r"layout\.volumes and layout\.partitions must"),
    ],
)
def test_wrong_batches(strategy: str, shape: tuple[int, ...], layout: BatchLayout, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LocalContrastiveLoss(strategy)(torch.ones(shape), layout)


def test_wrong_number_of_positions_of_single_pixels() -> None:
    with pytest.raises(ValueError, match=r"\(images, 13, features\) for region_size 1, got \(24, 17, 8\)"):
        LocalContrastiveLoss("LR", region_size=1)(torch.ones(24, 17, 8), LAYOUT)
