"""The ranking of volumes, and what an encoder makes of them."""

from __future__ import annotations

import math

import pytest
import torch

from common.data.slices import Slices
from common.embeddings import embed_slices, volume_embeddings
from common.networks import UNet2d
from common.selection import rank


def distances_of(points):
    points = torch.as_tensor(points, dtype=torch.float64).reshape(len(points), -1)
    return torch.cdist(points, points)


def star(column, radius):
    """Return a point and five around it."""
    around = [(column + radius * math.sin(0.4 * math.pi * k), radius * math.cos(0.4 * math.pi * k)) for k in range(5)]
    return [(column, 0.0), *around]


PLACES = [*star(0.0, 1.0), *star(20.0, 1.5), (60.0, 0.0)]  # two groups with a middle each, and one far away


def test_the_most_typical_first_then_that_of_another_neighbourhood():
    ranking = rank(distances_of(PLACES), [], 2)
    assert ranking.order[:2] == [0, 6]
    assert ranking.distances[0] == pytest.approx(1.0) and ranking.distances[6] == pytest.approx(1.5)
    assert sorted(ranking.order) == list(range(len(PLACES)))


def test_once_all_are_stood_for_the_farthest_follows():
    assert rank(distances_of(PLACES), [], 1).order[:2] == [0, 12]


def test_what_is_labelled_counts():
    distances = distances_of(PLACES)
    assert rank(distances, [10], 1).order[0] == 0  # the group of the labelled one is stood for
    assert rank(distances, [3], 1).order[0] == 6
    assert 10 not in rank(distances, [10], 1).order
    assert rank(distances, range(len(PLACES)), 1).order == []


@pytest.mark.parametrize("number", [1, 3, 8])
def test_each_choice_is_the_most_typical_that_is_not_stood_for(number):
    distances = distances_of(torch.rand(23, 3, generator=torch.Generator().manual_seed(number)))
    ranking = rank(distances, [4], number)
    share = 23 // (1 + number)
    alone = set(range(23)) - set(distances[4].argsort()[:share].tolist())
    for index in ranking.order[:number]:
        assert index == min(alone, key=lambda other: distances[other].sort().values[1:6].sum())
        alone -= set(distances[index].argsort()[:share].tolist())


def test_equal_volumes_are_taken_in_their_order():
    assert rank(torch.zeros(3, 3), [], 1).order == [0, 1, 2]


def test_partitions_of_a_volume_stay_apart():
    vectors = torch.arange(9.0)[:, None] * torch.tensor([1.0, 10.0])
    found = volume_embeddings(vectors, torch.tensor([0, 6, 9]), 2)
    assert torch.equal(found, torch.tensor([[1.0, 10, 4, 40], [6, 60, 7.5, 75]]))


@pytest.mark.parametrize(("depth", "expected"), [(1, [0, 0, 0, 0]), (2, [0, 0, 1, 1]), (3, [0, 0, 1, 2])])
def test_fewer_slices_than_partitions(depth, expected):
    found = volume_embeddings(torch.arange(float(depth))[:, None], torch.tensor([0, depth]), 4)
    assert found.tolist() == [expected]


def test_slices_are_embedded_by_the_encoder_with_statistics_of_their_own():
    torch.manual_seed(0)
    network = UNet2d(2)
    images = torch.rand(5, 1, 32, 32) * 3 + 2
    slices = Slices(images, None, torch.tensor([0, 2, 5]))
    vectors = embed_slices(network, slices, "float32")
    assert vectors.shape == (5, 128) and torch.allclose(vectors.norm(dim=1), torch.ones(5))
    assert network.encoder.levels[0][0][1].running_mean.abs().max() > 0
    again = embed_slices(network, Slices(images.flip(0), None, torch.tensor([0, 3, 5])), "float32")
    assert torch.allclose(again.flip(0), vectors, atol=1e-3)
