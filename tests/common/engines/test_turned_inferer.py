from __future__ import annotations

import pytest
import torch

from common.engines import slice_inferer
from common.engines.turned_inferer import TurnedInferer


class Corner(torch.nn.Module):
    """Class 1 in proportion to the image, but in the upper half of a slice as it comes class 0 for certain."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, images):
        self.sizes.append(tuple(images.shape[2:]))
        half = images.shape[2] // 2
        logits = torch.cat([torch.zeros_like(images), images], dim=1)
        logits[:, 1, :half] = -1e9
        return logits


def volume(height=8, width=8):
    return torch.rand(1, 1, height, width, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("height", "turns"), [(8, (0, 2)), (4, (0, 2)), (8, (0, 1, 2, 3))])
def test_every_turn_is_beside_the_plain_prediction(height, turns):
    inputs, network = volume(height, 8), Corner()
    inferer = slice_inferer((height, 8), "float32")
    plain, turned = inferer(inputs, network), TurnedInferer(inferer, turns)(inputs, network)
    assert torch.equal(turned[:, :2], plain)  # the segmentation is the same to the bit
    assert set(network.sizes) == {(height, 8)}
    assert turned.shape[1] == 2 + 2 * len(turns)
    for index, turn in enumerate(turns):
        own = inferer(torch.rot90(inputs, turn, (2, 3)), Corner()).softmax(1)
        torch.testing.assert_close(turned[:, 2 + 2 * index : 4 + 2 * index], torch.rot90(own, -turn, (2, 3)))


def test_by_default_they_are_turned_by_180_degrees():
    network = Corner()
    assert slice_inferer((8, 8), "float32", turned=True)(volume(), network).shape[1] == 2 + 2 * 2
    assert len(network.sizes) == 2


def test_slices_are_turned_only_where_that_is_asked_for():
    assert not isinstance(slice_inferer((8, 8)), TurnedInferer)
    assert isinstance(slice_inferer((8, 8), turned=True), TurnedInferer)
