from __future__ import annotations

import pytest
import torch

from common.data.samplers import PartitionSampler, UniformSampler, contrastive_sampler
from common.data.slices import Slices
from common.strategies import make_layout


def make_slices(*depths, ids=None):
    return Slices(torch.zeros(sum(depths), 1, 2, 2), None, torch.tensor([0, *depths]).cumsum(0), ids)


def test_uniform_draws_every_slice_with_replacement(generator):
    indices = UniformSampler(make_slices(3, 4), 700)(generator)
    counts = torch.bincount(indices, minlength=7)
    assert len(counts) == 7 and counts.min() > 60 and counts.max() < 150


@pytest.mark.parametrize("num_partitions", [3, 4, 6])
def test_one_slice_of_each_partition_of_distinct_volumes(generator, num_partitions):
    depths = (6, 7, 9, 12, 18, 11)
    slices = make_slices(*depths)
    sampler = PartitionSampler(slices, 4, num_partitions)
    seen: set[int] = set()
    for _ in range(300):
        indices = sampler(generator)
        volumes = torch.searchsorted(slices.starts, indices, right=True) - 1
        rows = volumes.reshape(4, num_partitions)
        assert (rows == rows[:, :1]).all() and len(set(rows[:, 0].tolist())) == 4
        width = torch.tensor(depths)[volumes] // num_partitions
        assert torch.equal((indices - slices.starts[volumes]) // width, torch.arange(num_partitions).repeat(4))
        seen.update(indices.tolist())
    starts = slices.starts.tolist()
    expected = {
        start + k
        for start, depth in zip(starts, depths, strict=False)
        for k in range(depth // num_partitions * num_partitions)
    }
    assert seen == expected  # all but the slices beyond the last whole partition


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [("GR", UniformSampler), ("LR", UniformSampler), ("GD-", PartitionSampler), ("LD", PartitionSampler)],
)
def test_sampler_of_a_layout(generator, strategy, expected):
    layout = make_layout(strategy, 60, 3)
    sampler = contrastive_sampler(layout, make_slices(*[8] * 60))
    assert type(sampler) is expected and sampler(generator).shape == (layout.num_slices,)


def test_same_generator_same_draw():
    sampler = PartitionSampler(make_slices(8, 9, 10), 2, 4)
    first, second = (sampler(torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda s: UniformSampler(s, 0), "batch_size must be at least 1"),
        (lambda s: PartitionSampler(s, 4, 4), "num_volumes must be 1 to 3"),
        (lambda s: PartitionSampler(s, 2, 6), "got 6, but volume 1 has 5. Leave"),
        (lambda s: PartitionSampler(s, 2, 0), "num_partitions must be at least 1"),
        (
            lambda s: contrastive_sampler(make_layout("GD", 64), s),
            "num_volumes must be 1 to 3, the volumes at hand, got 8: give",
        ),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make(make_slices(8, 5, 9))


def test_volumes_of_too_few_slices_are_named():
    slices = make_slices(3, 8, 2, ids=["patient004", "patient007", "patient011"])
    with pytest.raises(ValueError, match="patient004 has 3, patient011 has 2. Leave such volumes out"):
        PartitionSampler(slices, 2, 4)
