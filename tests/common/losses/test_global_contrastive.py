from __future__ import annotations

import math
from contextlib import nullcontext

import pytest
import torch
from monai.losses import ContrastiveLoss
from pytorch_metric_learning.losses import NTXentLoss

from common.losses import GlobalContrastiveLoss
from common.strategies import Layout, find_strategy, make_layout
from reference.global_loss import global_loss_by_loops

from .gradients import cuda_steps, loss_and_gradient, relative_error

VARIANTS = [("GR", "ring"), ("GD-", "ring"), ("GD", "ring"), ("GD", "all")]
variants = pytest.mark.parametrize(("strategy", "gd_pairs"), VARIANTS, ids=["GR", "GD-", "GD ring", "GD all"])


def layout_of(strategy: str, num_volumes: int, num_partitions: int, gd_pairs: str = "ring") -> Layout:
    """GR takes as many single slices."""
    num_images = find_strategy(strategy).num_views * num_volumes * num_partitions
    return make_layout(strategy, num_images, num_partitions, gd_pairs)


@pytest.mark.parametrize(
    ("num_volumes", "num_partitions", "dim"),
    [(3, 3, 5), (5, 4, 2), (6, 3, 16), (3, 6, 33), (2, 4, 7)],
    ids=lambda value: str(value),
)
@variants
def test_equals_loops(
    strategy: str, gd_pairs: str, num_volumes: int, num_partitions: int, dim: int, generator: torch.Generator
) -> None:
    layout = layout_of(strategy, num_volumes, num_partitions, gd_pairs)
    embeddings = 3 * torch.randn(layout.num_images, dim, generator=generator)
    value, gradient = loss_and_gradient(GlobalContrastiveLoss(layout), embeddings)
    expected, expected_gradient = loss_and_gradient(global_loss_by_loops, embeddings.double(), layout, 0.1, gd_pairs)
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
    rows = torch.arange(num_images)  # of the program, in our order
    if strategy == "GR":
        rows = rows.reshape(-1, 2).T.flatten()
    elif strategy == "GD":
        rows = rows.reshape(-1, 2, 4).transpose(0, 1).flatten()
    i, k = rows[:, None].double(), torch.arange(5).double()
    embeddings = torch.sin(0.7 * i + 1.3 * k + 0.1 * i * k)
    loss = GlobalContrastiveLoss(make_layout(strategy, num_images))
    assert loss(embeddings).item() == pytest.approx(expected, rel=1e-6)


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
    layout = layout_of(strategy, 5, 4, gd_pairs)
    embeddings = torch.full((layout.num_images, 8), value)
    loss, gradient = loss_and_gradient(GlobalContrastiveLoss(layout), embeddings)
    assert loss == pytest.approx(expected, rel=1e-6)
    assert gradient.isfinite().all()


def test_orthogonal_slices_closed_form() -> None:
    loss = GlobalContrastiveLoss(make_layout("GR", 40), temperature=0.5)(torch.eye(20).repeat(2, 1))
    assert loss.item() == pytest.approx(math.log(1 + 38 * math.exp(-2)), rel=1e-6)


@variants
def test_length_does_not_matter(strategy: str, gd_pairs: str, generator: torch.Generator) -> None:
    layout = layout_of(strategy, 5, 4, gd_pairs)
    embeddings = torch.randn(layout.num_images, 16, generator=generator)
    lengths = 0.1 + 10 * torch.rand(len(embeddings), 1, generator=generator)
    loss = GlobalContrastiveLoss(layout)
    torch.testing.assert_close(loss(lengths * embeddings), loss(embeddings))


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
    layout = layout_of(strategy, 5, 4, gd_pairs)
    embeddings = torch.randn(layout.strategy.num_views, 5, 4, 16, generator=generator)
    loss = GlobalContrastiveLoss(layout)
    torch.testing.assert_close(loss(embeddings[:, volumes].flatten(0, 2)), loss(embeddings.flatten(0, 2)))


def test_ring_and_all_agree_for_three_volumes_only(generator: torch.Generator) -> None:
    for num_volumes, agree in [(3, True), (4, False)]:
        layouts = [layout_of("GD", num_volumes, 4, gd_pairs) for gd_pairs in ("ring", "all")]
        embeddings = torch.randn(8 * num_volumes, 16, generator=generator)
        ring, all_pairs = (GlobalContrastiveLoss(layout)(embeddings) for layout in layouts)
        assert torch.isclose(ring, all_pairs).item() is agree


@variants
def test_small_temperature(strategy: str, gd_pairs: str, generator: torch.Generator) -> None:
    layout = layout_of(strategy, 3, 3, gd_pairs)
    embeddings = torch.randn(layout.num_images, 8, generator=generator)
    value, gradient = loss_and_gradient(GlobalContrastiveLoss(layout, temperature=0.005), embeddings)
    expected, expected_gradient = loss_and_gradient(global_loss_by_loops, embeddings, layout, 0.005, gd_pairs)
    assert value == pytest.approx(expected, rel=1e-5)
    assert relative_error(gradient, expected_gradient) < 1e-3  # Similarities of ±200 in float32


@pytest.mark.parametrize("temperature", [0.1, 0.005])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@variants
def test_half_precision_input(
    strategy: str, gd_pairs: str, dtype: torch.dtype, temperature: float, generator: torch.Generator
) -> None:
    layout = layout_of(strategy, 4, 4, gd_pairs)
    half = (50 * torch.randn(layout.num_images, 32, generator=generator)).to(dtype)
    loss = GlobalContrastiveLoss(layout, temperature)
    value, gradient = loss_and_gradient(loss, half)
    expected, expected_gradient = loss_and_gradient(loss, half.float())
    assert value == expected
    assert torch.equal(gradient, expected_gradient.to(dtype))
    assert gradient.isfinite().all() and gradient.any()


@variants
def test_autocast_changes_nothing(strategy: str, gd_pairs: str, generator: torch.Generator) -> None:
    layout = layout_of(strategy, 4, 4, gd_pairs)
    embeddings = torch.randn(layout.num_images, 32, generator=generator)
    loss = GlobalContrastiveLoss(layout)
    expected, expected_gradient = loss_and_gradient(loss, embeddings)
    leaf = embeddings.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(leaf)
    value.backward()
    assert value.item() == expected
    assert leaf.grad is not None
    assert torch.equal(leaf.grad, expected_gradient)


def test_gr_is_the_contrastive_loss_of_monai(generator: torch.Generator) -> None:
    embeddings = torch.randn(24, 16, generator=generator)
    found = loss_and_gradient(GlobalContrastiveLoss(make_layout("GR", 24), 0.2), embeddings)
    # MONAI takes the two views as two arguments.
    theirs = ContrastiveLoss(temperature=0.2)
    expected = loss_and_gradient(lambda rows: theirs(*rows.chunk(2)), embeddings)
    assert found[0] == pytest.approx(expected[0], rel=1e-6)
    assert relative_error(found[1], expected[1]) < 1e-5


@pytest.mark.parametrize(
    ("strategy", "num_volumes", "factor"),
    [("GR", 5, 1), ("GD-", 1, 2)],
    ids=["GR, slices as labels", "GD- of one volume, partitions as labels"],
)
def test_ntxent_with_labels(strategy: str, num_volumes: int, factor: int, generator: torch.Generator) -> None:
    # In one volume a partition is a slice, so that all images of equal label are positives, as NTXentLoss has it.
    layout = Layout(find_strategy(strategy), num_volumes, 4)
    embeddings = torch.randn(layout.num_images, 16, generator=generator)
    labels = layout.slices if strategy == "GR" else layout.partitions
    expected = factor * NTXentLoss(temperature=0.1)(embeddings, labels)
    torch.testing.assert_close(GlobalContrastiveLoss(layout)(embeddings), expected)


@variants
def test_ntxent_with_pairs(strategy: str, gd_pairs: str, generator: torch.Generator) -> None:
    # NTXentLoss takes lists of pairs too; repeating a pair weights it. It averages over them, hence the factor.
    layout = layout_of(strategy, 4, 3, gd_pairs)
    embeddings = torch.randn(layout.num_images, 16, generator=generator)
    rows = torch.arange(layout.num_images)
    fields = rows % 12, rows % 12 // 3, rows % 3, rows // 12
    slices, volumes, partitions, views = (field[:, None] == field for field in fields)
    if strategy == "GD":
        step = fields[1][:, None] - fields[1]
        near = (step % 4 == 1) | (step % 4 == 3) if gd_pairs == "ring" else ~volumes
        weights = 2 * (slices & ~views) + (partitions & views & near).long()
    else:
        weights = (slices & ~views).long()
    negatives = ~slices if strategy == "GR" else ~partitions
    positive_pairs = weights.nonzero().repeat_interleave(weights[weights > 0], dim=0)
    pairs = (*positive_pairs.unbind(1), *negatives.nonzero().unbind(1))
    mean = NTXentLoss(temperature=0.1)(embeddings, indices_tuple=pairs)
    expected = mean * len(positive_pairs) / len(embeddings)
    torch.testing.assert_close(GlobalContrastiveLoss(layout)(embeddings), expected)


def test_tables_are_made_once_and_not_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = GlobalContrastiveLoss(make_layout("GD", 24))
    expected = loss(torch.eye(24))
    assert not loss.state_dict()
    monkeypatch.setattr(torch, "arange", None)  # without it no table can be made
    assert torch.equal(loss(torch.eye(24)), expected)


def test_tables_follow_the_embeddings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which does not know the device
    loss = GlobalContrastiveLoss(make_layout("GD", 24))
    assert loss(torch.empty(24, 8, device="meta")).device.type == "meta"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@variants
def test_cuda_step_does_not_synchronise(strategy: str, gd_pairs: str, generator: torch.Generator) -> None:
    layout = layout_of(strategy, 5, 4, gd_pairs)
    embeddings = torch.randn(layout.num_images, 128, generator=generator)
    loss = GlobalContrastiveLoss(layout)
    expected = loss(embeddings)
    torch.testing.assert_close(cuda_steps(loss, embeddings), expected)


@pytest.mark.parametrize("temperature", [0.0, -1, math.nan])
def test_temperature_must_be_positive(temperature: float) -> None:
    with pytest.raises(ValueError, match=f"temperature must be > 0, got {temperature}; the paper uses 0.1"):
        GlobalContrastiveLoss(make_layout("GD"), temperature)


@pytest.mark.parametrize("strategy", ["LR", "LD"])
def test_strategy_must_be_a_global_one(strategy: str) -> None:
    with pytest.raises(ValueError, match=f"strategy must be one of GR, GD-, GD.*, got '{strategy}'; choose one"):
        GlobalContrastiveLoss(make_layout(strategy))


@pytest.mark.parametrize("shape", [(24, 8, 1), (23, 8), (12, 8)], ids=["dimensions", "images", "a share"])
def test_wrong_batches(shape: tuple[int, ...]) -> None:
    message = rf"embeddings must have the shape \(24, features\) for the images .* got \({str(shape)[1:-1]}\)"
    with pytest.raises(ValueError, match=message):
        GlobalContrastiveLoss(make_layout("GD", 24))(torch.ones(shape))
