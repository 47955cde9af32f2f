from __future__ import annotations

import math
from contextlib import nullcontext

import pytest
import torch
from pytorch_metric_learning.losses import NTXentLoss
from torch import Tensor

from common.losses import DenseContrastiveLoss, LocalContrastiveLoss, local_loss
from common.losses.dense_contrastive import sample_maps
from common.strategies import Layout, make_layout
from reference.dense_loss import dense_loss_by_loops, read_map

from .gradients import cuda_steps, loss_and_gradient, relative_error

strategies = pytest.mark.parametrize("strategy", ["LE", "LX"])
NUM_POINTS = 3


def layout_of(strategy: str, num_volumes: int = 3, num_partitions: int = 2) -> Layout:
    """LE takes as many single slices."""
    return make_layout(strategy, 2 * num_volumes * num_partitions, num_partitions)


def loss_of(layout: Layout, temperature: float = 0.1, num_points: int = NUM_POINTS) -> DenseContrastiveLoss:
    return DenseContrastiveLoss(layout, num_points * layout.num_slices, temperature)


def random_batch(
    layout: Layout, generator: torch.Generator, dim: int = 5, num_points: int = NUM_POINTS
) -> tuple[Tensor, Tensor]:
    maps = torch.randn(layout.num_images, dim, 4, 6, generator=generator)
    return maps, 2 * torch.rand(layout.num_images, num_points, 2, generator=generator) - 1


def places(layout: Layout, num_points: int) -> Tensor:
    """Points at the centres of the first pixels of a map with one row."""
    columns = (2 * torch.arange(num_points) + 1.0) / num_points - 1
    return torch.stack([columns, torch.zeros(num_points)], dim=-1).expand(layout.num_images, -1, -1)


def as_maps(vectors: Tensor) -> Tensor:
    """Return maps (N, D, 1, K) that have vectors (N, K, D) at `places`."""
    return vectors.mT[:, :, None]


def test_maps_are_read_between_their_pixels(generator: torch.Generator) -> None:
    maps = torch.randn(3, 4, 5, 7, generator=generator)
    points = 2.2 * torch.rand(3, 9, 2, generator=generator) - 1.1  # the edge is repeated outside
    sampled = sample_maps(maps, points)
    expected = [[read_map(features, point) for point in own] for features, own in zip(maps, points, strict=True)]
    torch.testing.assert_close(sampled, torch.stack([torch.stack(row) for row in expected]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(sample_maps(maps, points), sampled)


@pytest.mark.parametrize(("num_volumes", "num_partitions"), [(2, 2), (3, 2), (2, 3)])
@pytest.mark.parametrize("temperature", [0.1, 0.53])
@strategies
def test_equals_loops(
    strategy: str, temperature: float, num_volumes: int, num_partitions: int, generator: torch.Generator
) -> None:
    layout = layout_of(strategy, num_volumes, num_partitions)
    maps, points = random_batch(layout, generator)
    value, gradient = loss_and_gradient(loss_of(layout, temperature), 3 * maps, points)
    expected, expected_gradient = loss_and_gradient(dense_loss_by_loops, 3 * maps.double(), points, layout, temperature)
    assert value == pytest.approx(expected, rel=1e-6)
    assert relative_error(gradient, expected_gradient) < 1e-5


@strategies
def test_gradient_is_that_of_finite_differences(strategy: str, generator: torch.Generator) -> None:
    """The loops are differentiable too, and could be wrong in the same way."""
    layout = layout_of(strategy, 2, 2)
    maps, points = random_batch(layout, generator)
    loss = loss_of(layout, 0.5)
    _, gradient = loss_and_gradient(loss, maps, points)
    direction = torch.randn(maps.shape, generator=generator)
    step = 1e-2 * direction
    slope = (loss(maps + step, points).double() - loss(maps - step, points).double()).item() / 2e-2
    assert slope == pytest.approx((gradient * direction).sum().item(), rel=1e-2)


@pytest.mark.parametrize("value", [0.0, 1.0], ids=["zero", "equal"])
@pytest.mark.parametrize(
    ("strategy", "negatives"),
    # Six slices with two views and three places each; LX has those of the own slice and of the other partition.
    [("LE", 2 * 6 * 3 - 2), ("LX", 2 * 3 - 2 + 2 * 3 * 3)],
)
def test_equal_vectors_give_the_log_of_the_denominator(strategy: str, negatives: int, value: float) -> None:
    layout = layout_of(strategy)
    maps = torch.full((layout.num_images, 8, 1, NUM_POINTS), value)
    loss, gradient = loss_and_gradient(loss_of(layout), maps, places(layout, NUM_POINTS))
    assert loss == pytest.approx(math.log(1 + negatives), rel=1e-6)
    assert gradient.isfinite().all()


@strategies
def test_orthogonal_places_closed_form(strategy: str) -> None:
    """Two slices of two views: every place has a vector of its own, in all slices the same."""
    layout = make_layout(strategy, 4) if strategy == "LE" else make_layout(strategy, 8, 2)
    loss = loss_of(layout, 0.5)
    maps = as_maps(torch.eye(NUM_POINTS).expand(layout.num_images, -1, -1))
    value = loss(maps, places(layout, NUM_POINTS)).item()
    # Of other places: 2 in each of 4 compared images (LX: of own slice and other partition, 6); of the same place in
    # another slice (LX: other partition): as similar as the positive.
    images, equal = (4, 2) if strategy == "LE" else (6, 4)
    expected = math.log(1 + equal + images * 2 * math.exp(-2))
    assert value == pytest.approx(expected, rel=1e-6)


def test_le_is_ntxent_over_all_pixels(generator: torch.Generator) -> None:
    layout = make_layout("LE", 8)
    maps, points = random_batch(layout, generator)
    slices = layout.slices[:, None] * NUM_POINTS + torch.arange(NUM_POINTS)
    expected = NTXentLoss(temperature=0.1)(sample_maps(maps, points).flatten(0, 1), slices.flatten())
    torch.testing.assert_close(loss_of(layout)(maps, points), expected)


def test_lx_finds_the_match_in_the_neighbouring_volume(generator: torch.Generator) -> None:
    """The order of the places of another slice does not matter, only what is there."""
    layout = layout_of("LX")
    vectors = torch.randn(layout.num_images, NUM_POINTS, 8, generator=generator)
    shuffled = vectors.clone()
    shuffled[layout.slices == 0] = vectors[layout.slices == 0][:, [2, 0, 1]]
    loss, points = loss_of(layout), places(layout, NUM_POINTS)
    torch.testing.assert_close(loss(as_maps(shuffled), points), loss(as_maps(vectors), points))


@strategies
def test_agreement_of_the_views_lowers_the_loss(strategy: str, generator: torch.Generator) -> None:
    layout = layout_of(strategy)
    vectors = torch.randn(layout.num_slices, NUM_POINTS, 32, generator=generator)
    loss, points = loss_of(layout), places(layout, NUM_POINTS)
    agreeing = loss(as_maps(torch.cat([vectors, vectors])), points)
    mixed_up = loss(as_maps(torch.cat([vectors, vectors.roll(1, dims=1)])), points)
    assert agreeing < 0.5 * mixed_up


@strategies
def test_small_temperature_and_half_precision(strategy: str, generator: torch.Generator) -> None:
    layout = layout_of(strategy)
    maps, points = random_batch(layout, generator, dim=16)
    loss = loss_of(layout, 0.005)
    half = (50 * maps).to(torch.bfloat16)
    value, gradient = loss_and_gradient(loss, half, points)
    expected, expected_gradient = loss_and_gradient(loss, half.float(), points)
    assert value == expected and math.isfinite(value)
    assert relative_error(gradient, expected_gradient) < 1e-2  # the share of a pixel read twice is added in half
    assert gradient.isfinite().all() and gradient.any()


@strategies
def test_autocast_changes_nothing(strategy: str, generator: torch.Generator) -> None:
    layout = layout_of(strategy)
    maps, points = random_batch(layout, generator)
    loss = loss_of(layout)
    expected, expected_gradient = loss_and_gradient(loss, maps, points)
    leaf = maps.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(leaf, points)
    value.backward()
    assert value.item() == expected
    assert leaf.grad is not None and torch.equal(leaf.grad, expected_gradient)


def test_tables_are_made_once_and_not_saved(monkeypatch: pytest.MonkeyPatch, generator: torch.Generator) -> None:
    layout = layout_of("LX")
    maps, points = random_batch(layout, generator)
    loss = loss_of(layout)
    expected = loss(maps, points)
    assert not loss.state_dict()
    monkeypatch.setattr(Layout, "slices", None)  # without them no table can be made
    assert torch.equal(loss(maps, points), expected)


def test_tables_follow_the_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which does not know the device
    layout = layout_of("LX")
    maps = torch.empty(layout.num_images, 5, 4, 4, device="meta")
    points = torch.empty(layout.num_images, NUM_POINTS, 2, device="meta")
    assert loss_of(layout)(maps, points).device.type == "meta"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@strategies
def test_cuda_step_does_not_synchronise(strategy: str, generator: torch.Generator) -> None:
    layout = layout_of(strategy)
    maps, points = random_batch(layout, generator)
    loss = loss_of(layout)
    expected = loss(maps, points)
    torch.testing.assert_close(cuda_steps(loss, maps, points), expected)


@pytest.mark.parametrize(
    ("strategy", "options", "message"),
    [
        ("LR", {}, r"strategy must be one of LE, LX, got 'LR'; choose one"),
        ("LE", {"num_pixels": 19}, r"num_pixels must be at least 20, one for each slice of a batch, got 19; take more"),
        ("LX", {"num_pixels": 0}, r"num_pixels must be at least 20, .* got 0"),
        ("LE", {"temperature": 0}, r"temperature must be > 0, got 0"),
        ("LX", {"temperature": -0.1}, r"temperature must be > 0, got -0\.1"),
    ],
)
def test_wrong_arguments(strategy: str, options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DenseContrastiveLoss(make_layout(strategy), **options)


@pytest.mark.parametrize(
    ("maps", "points", "message"),
    [
        ((24, 5, 4), (24, 3, 2), r"maps must have the shape \(24, features, height, width\) .* got \(24, 5, 4\); give"),
        ((12, 5, 4, 4), (12, 3, 2), r"maps must have .* got \(12, 5, 4, 4\)"),
        (
            (24, 5, 4, 4),
            (24, 4, 2),
            r"points must have the shape \(24, 3, 2\) .* got \(24, 4, 2\); give views and loss",
        ),
        ((24, 5, 4, 4), (12, 3, 2), r"points must have .* got \(12, 3, 2\)"),
    ],
    ids=["dimensions", "a share", "other pixels", "points of a share"],
)
def test_wrong_batches(maps: tuple[int, ...], points: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DenseContrastiveLoss(make_layout("LE", 24), 12 * NUM_POINTS)(torch.ones(maps), torch.zeros(points))


def test_local_loss_is_that_of_the_kind_of_the_strategy() -> None:
    regions = local_loss(make_layout("LD"), 1, 1000, 0.2)
    assert isinstance(regions, LocalContrastiveLoss) and (regions.region_size, regions.temperature) == (1, 0.2)
    pixels = local_loss(make_layout("LX"), 1, 400, 0.2)
    assert isinstance(pixels, DenseContrastiveLoss) and (pixels.shape, pixels.temperature) == ((40, 20), 0.2)
