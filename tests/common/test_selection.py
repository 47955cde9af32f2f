"""The ranking of volumes, and what an encoder makes of them."""

from __future__ import annotations

import itertools

import pytest
import torch

from common.data.slices import Slices
from common.embeddings import embed_slices, volume_embeddings
from common.networks import UNet2d
from common.selection import rank


def distances_of(points):
    points = torch.as_tensor(points, dtype=torch.float64).reshape(len(points), -1)
    return torch.cdist(points, points)


def cost(distances, chosen):
    return float(distances[list(chosen)].min(dim=0).values.mean())


def test_typical_first_then_what_covers_the_rest():
    """Two groups on a line: the first choice is the middle one of all, the second in the other group."""
    ranking = rank(distances_of([0.0, 1.0, 2.0, 3.0, 20.0, 21.0, 22.0]))
    assert ranking.order[:2] == [3, 5]
    assert ranking.distances[0] == pytest.approx((3 + 2 + 1 + 17 + 18 + 19) / 7)
    assert ranking.distances[-1] == 0 and sorted(ranking.order) == list(range(7))


def test_what_is_labelled_counts():
    distances = distances_of([0.0, 1.0, 2.0, 3.0, 20.0, 21.0, 22.0])
    assert rank(distances, [5]).order[0] in (1, 2)  # the group of the labelled one is covered
    assert 5 not in rank(distances, [5]).order
    assert rank(distances, range(7)) == ([], [])


@pytest.mark.parametrize("seed", range(3))
def test_each_choice_is_the_best_that_can_be_added(seed):
    distances = distances_of(torch.rand(9, 3, generator=torch.Generator().manual_seed(seed)))
    ranking = rank(distances, [4])
    chosen = [4]
    for index, mean in zip(ranking.order, ranking.distances, strict=True):
        assert mean == pytest.approx(
            min(cost(distances, [*chosen, other]) for other in range(9) if other not in chosen)
        )
        chosen.append(index)
        assert cost(distances, chosen) == pytest.approx(mean)
    # Greedy choices are near the best set of their size (Nemhauser: 1 - 1/e of what can be gained).
    best = min(cost(distances, [4, *others]) for others in itertools.combinations([0, 1, 2, 3, 5, 6, 7, 8], 3))
    gain = cost(distances, [4]) - ranking.distances[2]
    assert gain >= 0.63 * (cost(distances, [4]) - best)


def test_equal_volumes_are_taken_in_their_order():
    assert rank(torch.zeros(3, 3)).order == [0, 1, 2]


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
