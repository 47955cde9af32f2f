from __future__ import annotations

import math

import pytest
import torch
from monai.losses import ContrastiveLoss
from pytorch_metric_learning.losses import NTXentLoss
from torch import Tensor

from common.losses import BatchLayout, GlobalContrastiveLoss
from tests.reference.global_loss import global_loss_by_loops

NUM_VIEWS = {"GR": 2, "GD-": 3, "GD": 2}
VARIANTS = [("GR", "ring"), ("GD-", "ring"), ("GD", "ring"), ("GD", "all")]
variants = pytest.mark.parametrize(("strategy", "gd_pairs"), VARIANTS, ids=["GR", "GD-", "GD ring", "GD all"])


def batch_layout(strategy: str, num_volumes: int, num_partitions: int) -> BatchLayout:
    """View by view, volume by volume."""
    axes = [torch.arange(size) for size in (NUM_VIEWS[strategy], num_volumes, num_partitions)]
    views, volumes, partitions = torch.cartesian_prod(*axes).unbind(1)
    return BatchLayout(volumes * num_partitions + partitions, volumes, partitions, views)


def interleaved_layout(num_images: int) -> BatchLayout:
    """Views alternate; no volumes or partitions."""
    rows = torch.arange(num_images)
    return BatchLayout(rows // 2, rows // 2, torch.zeros_like(rows), rows % 2)


def reorder(layout: BatchLayout, order: Tensor) -> BatchLayout:
    return BatchLayout(*(field[order] for field in layout))


def loss_and_gradient(loss: object, embeddings: Tensor, *args: object) -> tuple[float, Tensor]:
    leaf = embeddings.detach().clone().requires_grad_()
    value = loss(leaf, *args)  # type: ignore[operator]
    value.backward()
    assert leaf.grad is not None
    return value.item(), leaf.grad


def relative_error(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize(
    ("num_volumes", "num_partitions", "dim"),
    [(3, 3, 5), (5, 4, 2), (6, 3, 16), (3, 6, 33), (2, 4, 7)],
    ids=lambda value: str(value),
)
@variants
def test_equals_loops_in_any_row_order(
    strategy: str, gd_pairs: str, num_volumes: int, num_partitions: int, dim: int, generator: torch.Generator
) -> None:
    layout = batch_layout(strategy, num_volumes, num_partitions)
    layout = reorder(layout, torch.randperm(len(layout.slices), generator=generator))
    embeddings = 3 * torch.randn(len(layout.slices), dim, generator=generator)
    loss = GlobalContrastiveLoss(strategy, gd_pairs=gd_pairs)
    value, gradient = loss_and_gradient(loss, embeddings, layout)
    expected, expected_gradient = loss_and_gradient(
        global_loss_by_loops, embeddings.double(), layout, strategy, 0.1, gd_pairs
    )
    assert value == pytest.approx(expected, rel=1e-6)
    assert relative_error(gradient, expected_gradient) < 1e-5


# Made by enumerating the loops of the authors' program with sin(0.7 i + 1.3 k + 0.1 i k) as feature k of row i, in the
# program's order of rows: views alternating (GR), view by view (GD-), volume by volume with both views (GD).
@pytest.mark.parametrize(
    ("strategy", "num_images", "expected"),
    [
        ("GR", 8, 0.701971074),
        ("GR", 40, 4.194627428),
        ("GD-", 24, 13.884358829),
        ("GD-", 36, 18.916124852),
        ("GD", 32, 47.398701230),
        ("GD", 40, 48.201673495),
    ],
)
def test_equals_the_sums_of_the_authors_program(strategy: str, num_images: int, expected: float) -> None:
    rows = torch.arange(num_images)
    if strategy == "GR":
        layout = interleaved_layout(num_images)
    elif strategy == "GD-":
        slices = rows % (num_images // 3)
        layout = BatchLayout(slices, slices // 4, rows % 4, rows // (num_images // 3))
    else:
        layout = BatchLayout(rows // 8 * 4 + rows % 4, rows // 8, rows % 4, rows // 4 % 2)
    i, k = rows[:, None].double(), torch.arange(5).double()
    embeddings = torch.sin(0.7 * i + 1.3 * k + 0.1 * i * k)
    assert GlobalContrastiveLoss(strategy)(embeddings, layout).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.0], ids=["zero", "equal"])
@pytest.mark.parametrize(
    ("strategy", "gd_pairs", "expected"),
    [
        ("GR", "ring", math.log(1 + 38)),
        ("GD-", "ring", 2 * math.log(1 + 3 * 5 * 3)),
        ("GD", "ring", 4 * math.log(1 + 2 * 5 * 3)),
        ("GD", "all", (2 + 4) * math.log(1 + 2 * 5 * 3)),
    ],
    ids=["GR", "GD-", "GD ring", "GD all"],
)
def test_equal_embeddings_give_the_log_of_the_denominator(
    strategy: str, gd_pairs: str, expected: float, value: float
) -> None:
    layout = batch_layout(strategy, 5, 4)
    embeddings = torch.full((len(layout.slices), 8), value)
    loss, gradient = loss_and_gradient(GlobalContrastiveLoss(strategy, gd_pairs=gd_pairs), embeddings, layout)
    assert loss == pytest.approx(expected, rel=1e-6)
    assert gradient.isfinite().all()


def test_orthogonal_slices_closed_form() -> None:
    layout = batch_layout("GR", 5, 4)
    loss = GlobalContrastiveLoss("GR", temperature=0.5)(torch.eye(20).repeat(2, 1), layout)
    assert loss.item() == pytest.approx(math.log(1 + 38 * math.exp(-2)), rel=1e-6)


@variants
def test_row_order_and_length_do_not_matter(strategy: str, gd_pairs: str, generator: torch.Generator) -> None:
    layout = batch_layout(strategy, 5, 4)
    embeddings = torch.randn(len(layout.slices), 16, generator=generator)
    lengths = 0.1 + 10 * torch.rand(len(embeddings), 1, generator=generator)
    order = torch.randperm(len(embeddings), generator=generator)
    loss = GlobalContrastiveLoss(strategy, gd_pairs=gd_pairs)
    expected = loss(embeddings, layout)
    torch.testing.assert_close(loss((lengths * embeddings)[order], reorder(layout, order)), expected)


@pytest.mark.parametrize(
    ("strategy", "gd_pairs", "volumes"),
    [
        ("GR", "ring", [2, 0, 4, 1, 3]),
        ("GD-", "ring", [2, 0, 4, 1, 3]),
        ("GD", "all", [2, 0, 4, 1, 3]),
        ("GD", "ring", [3, 4, 0, 1, 2]),
        ("GD", "ring", [4, 3, 2, 1, 0]),
    ],
    ids=["GR", "GD-", "GD all", "GD ring shifted", "GD ring reversed"],
)
def test_order_of_volumes_does_not_matter(
    strategy: str, gd_pairs: str, volumes: list[int], generator: torch.Generator
) -> None:
    layout = batch_layout(strategy, 5, 4)
    moved = layout._replace(volumes=torch.tensor(volumes)[layout.volumes])
    embeddings = torch.randn(len(layout.slices), 16, generator=generator)
    loss = GlobalContrastiveLoss(strategy, gd_pairs=gd_pairs)
    torch.testing.assert_close(loss(embeddings, moved), loss(embeddings, layout))


def test_ring_and_all_agree_for_three_volumes_only(generator: torch.Generator) -> None:
    ring, all_pairs = (GlobalContrastiveLoss("GD", gd_pairs=pairs) for pairs in ("ring", "all"))
    for num_volumes, agree in [(3, True), (4, False)]:
        layout = batch_layout("GD", num_volumes, 4)
        embeddings = torch.randn(len(layout.slices), 16, generator=generator)
        assert torch.isclose(ring(embeddings, layout), all_pairs(embeddings, layout)).item() is agree


@variants
def test_small_temperature(strategy: str, gd_pairs: str, generator: torch.Generator) -> None:
    layout = batch_layout(strategy, 3, 3)
    embeddings = torch.randn(len(layout.slices), 8, generator=generator)
    loss = GlobalContrastiveLoss(strategy, temperature=0.005, gd_pairs=gd_pairs)
    value, gradient = loss_and_gradient(loss, embeddings, layout)
    expected, expected_gradient = loss_and_gradient(global_loss_by_loops, embeddings, layout, strategy, 0.005, gd_pairs)
    assert value == pytest.approx(expected, rel=1e-5)
    assert relative_error(gradient, expected_gradient) < 1e-3  # Similarities of ±200 in float32


@pytest.mark.parametrize("temperature", [0.1, 0.005])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@variants
def test_half_precision_input(
    strategy: str, gd_pairs: str, dtype: torch.dtype, temperature: float, generator: torch.Generator
) -> None:
    layout = batch_layout(strategy, 4, 4)
    half = (50 * torch.randn(len(layout.slices), 32, generator=generator)).to(dtype)
    loss = GlobalContrastiveLoss(strategy, temperature, gd_pairs)
    value, gradient = loss_and_gradient(loss, half, layout)
    expected, expected_gradient = loss_and_gradient(loss, half.float(), layout)
    assert value == expected
    assert torch.equal(gradient, expected_gradient.to(dtype))
    assert gradient.isfinite().all() and gradient.any()


@variants
def test_autocast_changes_nothing(strategy: str, gd_pairs: str, generator: torch.Generator) -> None:
    layout = batch_layout(strategy, 4, 4)
    embeddings = torch.randn(len(layout.slices), 32, generator=generator)
    loss = GlobalContrastiveLoss(strategy, gd_pairs=gd_pairs)
    expected, expected_gradient = loss_and_gradient(loss, embeddings, layout)
    leaf = embeddings.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(leaf, layout)
    value.backward()
    assert value.item() == expected
    assert leaf.grad is not None
    assert torch.equal(leaf.grad, expected_gradient)


def test_gr_is_the_contrastive_loss_of_monai(generator: torch.Generator) -> None:
    embeddings = torch.randn(24, 16, generator=generator)
    found = loss_and_gradient(GlobalContrastiveLoss("GR", 0.2), embeddings, interleaved_layout(24))
    # MONAI takes the two views as two arguments.
    theirs = ContrastiveLoss(temperature=0.2)
    expected = loss_and_gradient(lambda rows: theirs(rows[0::2], rows[1::2]), embeddings)
    assert found[0] == pytest.approx(expected[0], rel=1e-6)
    assert relative_error(found[1], expected[1]) < 1e-5


@pytest.mark.parametrize(
    ("strategy", "num_volumes", "factor"),
    [("GR", 5, 1), ("GD-", 1, 2)],
    ids=["GR, slices as labels", "GD- of one volume, partitions as labels"],
)
def test_ntxent_with_labels(strategy: str, num_volumes: int, factor: int, generator: torch.Generator) -> None:
    # In one volume a partition is a slice, so that all images of equal label are positives, as NTXentLoss has it.
    layout = batch_layout(strategy, num_volumes, 4)
    embeddings = torch.randn(len(layout.slices), 16, generator=generator)
    labels = layout.slices if strategy == "GR" else layout.partitions
    expected = factor * NTXentLoss(temperature=0.1)(embeddings, labels)
    torch.testing.assert_close(GlobalContrastiveLoss(strategy)(embeddings, layout), expected)


@variants
def test_ntxent_with_pairs(strategy: str, gd_pairs: str, generator: torch.Generator) -> None:
    # NTXentLoss takes lists of pairs too; repeating a pair weights it. It averages over them, hence the factor.
    layout = batch_layout(strategy, 4, 3)
    embeddings = torch.randn(len(layout.slices), 16, generator=generator)
    slices, volumes, partitions, views = (field[:, None] == field[None] for field in layout)
    if strategy == "GD":
        step = layout.volumes[:, None] - layout.volumes[None]
        near = (step % 4 == 1) | (step % 4 == 3) if gd_pairs == "ring" else ~volumes
        weights = 2 * (slices & ~views) + (partitions & views & near).long()
    else:
        weights = (slices & ~views).long()
    negatives = ~slices if strategy == "GR" else ~partitions
    positive_pairs = weights.nonzero().repeat_interleave(weights[weights > 0], dim=0)
    pairs = (*positive_pairs.unbind(1), *negatives.nonzero().unbind(1))
    mean = NTXentLoss(temperature=0.1)(embeddings, indices_tuple=pairs)
    expected = mean * len(positive_pairs) / len(embeddings)
    torch.testing.assert_close(GlobalContrastiveLoss(strategy, gd_pairs=gd_pairs)(embeddings, layout), expected)


def test_another_layout_is_not_mistaken_for_the_last(generator: torch.Generator) -> None:
    loss = GlobalContrastiveLoss("GD")
    embeddings = torch.randn(40, 16, generator=generator)
    first = batch_layout("GD", 5, 4)
    second = reorder(first, torch.randperm(40, generator=generator))
    values = [loss(embeddings, layout) for layout in (first, second, first)]
    assert torch.equal(values[1], GlobalContrastiveLoss("GD")(embeddings, second))
    assert not torch.isclose(values[0], values[1])
    assert torch.equal(values[0], values[2])


def test_tables_are_kept_and_not_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = GlobalContrastiveLoss("GD")
    layout = batch_layout("GD", 3, 4)
    expected = loss(torch.eye(24), layout)
    assert not loss.state_dict()
    monkeypatch.setattr(torch.Tensor, "unique", None)  # Without it no table can be made.
    assert torch.equal(loss(torch.eye(24), reorder(layout, torch.arange(24))), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@variants
def test_cuda_step_does_not_synchronise(strategy: str, gd_pairs: str, generator: torch.Generator) -> None:
    layout = batch_layout(strategy, 5, 4)
    embeddings = torch.randn(len(layout.slices), 128, generator=generator)
    loss = GlobalContrastiveLoss(strategy, gd_pairs=gd_pairs)
    expected = loss(embeddings, layout)
    leaf = embeddings.cuda().requires_grad_()
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
        ({"strategy": "GX"}, r"strategy must be one of GR, GD-, GD, got 'GX'"),
        ({"strategy": "GD", "temperature": 0.0}, r"temperature must be > 0, got 0\.0"),
        ({"strategy": "GD", "temperature": -1}, r"temperature must be > 0, got -1"),
        ({"strategy": "GD", "temperature": math.nan}, r"temperature must be > 0, got nan"),
        ({"strategy": "GD", "gd_pairs": "none"}, r"gd_pairs must be one of ring, all, got 'none'"),
    ],
)
def test_wrong_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GlobalContrastiveLoss(**arguments)


GD_LAYOUT = batch_layout("GD", 3, 4)


@pytest.mark.parametrize(
    ("strategy", "shape", "layout", "message"),
    [
        ("GD", (24, 8, 1), GD_LAYOUT, r"embeddings must have 2 dimensions .*, got shape \(24, 8, 1\)"),
        ("GD", (23, 8), GD_LAYOUT, r"layout\.slices must have one entry per image, shape \(23,\), got \(24,\)"),
        ("GD-", (24, 8), GD_LAYOUT, r"layout\.views must hold exactly 3 views, numbered from 0, got \[0, 1\]"),
        ("GR", (36, 8), batch_layout("GD-", 3, 4), r"layout\.views must hold exactly 2 views, .* got \[0, 1, 2\]"),
        ("GR", (24, 8), GD_LAYOUT._replace(slices=torch.arange(24)), r"layout\.slices must hold each slice exactly"),
        ("GD", (8, 8), batch_layout("GD", 1, 4), r"layout\.volumes must hold at least 2 volumes, got 1"),
        ("GD", (24, 8), GD_LAYOUT._replace(volumes=GD_LAYOUT.views), r"layout\.volumes and layout\.partitions must"),
        (
            "GD-",
            (36, 8),
            batch_layout("GD-", 3, 4)._replace(partitions=torch.arange(36) % 5),
            r"layout\.partitions must be the same for all views of a slice, got \[\[0, 1, 2, 3, 4, 0",
        ),
        ("GR", (2, 8), batch_layout("GR", 1, 1), r"at least one negative, got none for the rows \[0, 1\]"),
        ("GD-", (9, 8), batch_layout("GD-", 3, 1), r"at least one negative, got none for the rows \[0, 1, 2"),
        ("GD", (6, 8), batch_layout("GD", 3, 1), r"at least one negative, got none for the rows \[0, 1, 2"),
    ],
)
def test_wrong_batches(strategy: str, shape: tuple[int, ...], layout: BatchLayout, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GlobalContrastiveLoss(strategy)(torch.ones(shape), layout)
