from __future__ import annotations

import pytest
import torch

from common.data.loader import BatchLoader
from common.data.samplers import PartitionSampler, UniformSampler, contrastive_sampler
from common.data.slices import Slices
from common.losses import GlobalContrastiveLoss, LocalContrastiveLoss
from common.transforms.intensity_views import RandomIntensity
from common.transforms.views import ContrastiveViews


def make_slices(*depths, ids=None):
    return Slices(torch.zeros(sum(depths), 1, 2, 2), None, torch.tensor([0, *depths]).cumsum(0), ids)


def test_uniform_draws_every_slice_with_replacement(generator):
    indices, layout = UniformSampler(make_slices(3, 4), 700)(generator)
    counts = torch.bincount(indices, minlength=7)
    assert len(counts) == 7 and counts.min() > 60 and counts.max() < 150
    assert layout.slices.tolist() == list(range(700)) and not layout.views.any()


@pytest.mark.parametrize("num_partitions", [3, 4, 6])
def test_one_slice_of_each_partition_of_distinct_volumes(generator, num_partitions):
    depths = (6, 7, 9, 12, 18, 11)
    slices = make_slices(*depths)
    sampler = PartitionSampler(slices, 4, num_partitions)
    seen: set[int] = set()
    for _ in range(300):
        indices, layout = sampler(generator)
        volumes = torch.searchsorted(slices.starts, indices, right=True) - 1
        rows = volumes.reshape(4, num_partitions)
        assert (rows == rows[:, :1]).all() and len(set(rows[:, 0].tolist())) == 4
        width = torch.tensor(depths)[volumes] // num_partitions
        assert torch.equal((indices - slices.starts[volumes]) // width, layout.partitions)
        assert torch.equal(layout.volumes, torch.arange(4).repeat_interleave(num_partitions))
        seen.update(indices.tolist())
    starts = slices.starts.tolist()
    expected = {
        start + k
        for start, depth in zip(starts, depths, strict=False)
        for k in range(depth // num_partitions * num_partitions)
    }
    assert seen == expected  # all but the slices beyond the last whole partition


@pytest.mark.parametrize(
    ("strategy", "batch_size", "num_images"),
    [("GR", 40, 20), ("LR", 40, 20), ("GD", 40, 20), ("GD-", 40, 12), ("LD", 40, 20), ("GD", 450, 56 * 4)],
)
def test_batch_size_counts_views(generator, strategy, batch_size, num_images):
    indices, _ = contrastive_sampler(strategy, make_slices(*[8] * 60), batch_size)(generator)
    assert len(indices) == num_images


def test_same_generator_same_draw():
    sampler = PartitionSampler(make_slices(8, 9, 10), 2, 4)
    first, second = (sampler(torch.Generator().manual_seed(5))[0] for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda s: UniformSampler(s, 0), "batch_size must be at least 1"),
        (lambda s: PartitionSampler(s, 4, 4), "num_volumes must be 1 to 3"),
        (lambda s: PartitionSampler(s, 2, 6), "got 6, but volume 1 has 5. Leave"),
        (lambda s: PartitionSampler(s, 2, 0), "num_partitions must be at least 1"),
        (lambda s: contrastive_sampler("GD", s, 8), "batch_size must be at least 16 for GD"),
        (lambda s: contrastive_sampler("LD", s, 16), "batch_size must be at least 24 for LD"),
        (lambda s: contrastive_sampler("GD-", s, 23), "batch_size must be at least 24 for GD-"),
        (lambda s: contrastive_sampler("GR", s, 3), r"batch_size must be at least 4 for GR \(slices: 2.*got 3"),
        (lambda s: contrastive_sampler("LR", s, 1), r"batch_size must be at least 2 for LR \(slices: 1.*got 1"),
        (lambda s: contrastive_sampler("GD", s, 40, 1), "num_partitions must be at least 2, got 1"),
        (lambda s: contrastive_sampler("GD-", s, 40, 1), "num_partitions must be at least 2, got 1"),
        (lambda s: contrastive_sampler("LD", s, 40, 0), "num_partitions must be at least 1, got 0"),
        (lambda s: contrastive_sampler("GD", s, 64), "num_volumes must be 1 to 3, the volumes at hand, got 8: give"),
        (lambda s: contrastive_sampler("XY", s), "strategy must be"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make(make_slices(8, 5, 9))


@pytest.mark.parametrize(
    ("strategy", "batch_size", "num_partitions"),
    [("GR", 4, 4), ("LR", 2, 4), ("GD-", 12, 2), ("GD", 8, 2), ("LD", 6, 1)],
)
def test_the_smallest_batches_suffice_for_the_loss(generator, strategy, batch_size, num_partitions):
    slices = make_slices(8, 5, 9)
    sampler = contrastive_sampler(strategy, slices, batch_size, num_partitions)
    views = ContrastiveViews(strategy, RandomIntensity())
    images, layout = BatchLoader(slices, sampler, views, 1).batch(0)
    assert len(images) == batch_size
    if strategy.startswith("G"):
        loss = GlobalContrastiveLoss(strategy)(torch.randn(batch_size, 8, generator=generator), layout)
    else:
        loss = LocalContrastiveLoss(strategy)(torch.randn(batch_size, 17, 8, generator=generator), layout)
    assert loss.isfinite() and loss > 0


def test_volumes_of_too_few_slices_are_named():
    slices = make_slices(3, 8, 2, ids=["patient004", "patient007", "patient011"])
    with pytest.raises(ValueError, match="patient004 has 3, patient011 has 2. Leave such volumes out"):
        PartitionSampler(slices, 2, 4)
