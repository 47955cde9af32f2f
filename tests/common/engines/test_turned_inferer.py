from __future__ import annotations

import pytest
import torch
from monai.inferers import SliceInferer

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


def test_probabilities_are_averaged_over_turned_slices():
    inputs = volume()
    inferer = SliceInferer(roi_size=(8, 8), sw_batch_size=2, spatial_dim=2)
    found = TurnedInferer(inferer)(inputs, Corner()).exp()
    expected = torch.zeros(1, 2, 8, 8, 3)
    for turn in range(4):
        turned = inferer(torch.rot90(inputs, turn, (2, 3)), Corner()).softmax(1)
        expected += torch.rot90(turned, -turn, (2, 3)) / 4
    torch.testing.assert_close(found, expected)
    # Each place is in the lower half of two of the four.
    torch.testing.assert_close(found[0, 1], inputs[0, 0].sigmoid() / 2)


def test_what_is_certain_stays_finite():
    network = lambda images: torch.cat([images * 0, images * 0 - 1e9], dim=1)  # noqa: E731
    found = TurnedInferer(SliceInferer(roi_size=(8, 8), spatial_dim=2))(volume(), network)
    assert found.isfinite().all() and (found.argmax(1) == 0).all()


def test_slices_that_are_not_square_keep_their_size():
    network = Corner()
    slice_inferer((8, 4), "float32", "turned")(volume(8, 4), network)
    assert set(network.sizes) == {(8, 4)}


def test_the_name_is_checked():
    assert not isinstance(slice_inferer((8, 8)), TurnedInferer)
    with pytest.raises(ValueError, match="test_time_augmentation must be one of none, turned, got 'flips'"):
        slice_inferer((8, 8), test_time_augmentation="flips")


@pytest.mark.parametrize(("height", "turns"), [(8, range(4)), (4, range(0, 4, 2))])
def test_turns_can_be_kept(height, turns):
    inputs = volume(height, 8)
    plain, kept = (slice_inferer((height, 8), "float32", "turned", keep)(inputs, Corner()) for keep in (False, True))
    assert torch.equal(kept[:, :2], plain)  # the segmentation is the same to the bit
    inferer = slice_inferer((height, 8), "float32")
    for index, turn in enumerate(turns):
        turned = inferer(torch.rot90(inputs, turn, (2, 3)), Corner()).softmax(1)
        torch.testing.assert_close(kept[:, 2 + 2 * index : 4 + 2 * index], torch.rot90(turned, -turn, (2, 3)))
    assert kept.shape[1] == 2 + 2 * len(turns)


def test_without_turns_nothing_is_kept():
    assert slice_inferer((8, 8), "float32", "none", True)(volume(), Corner()).shape[1] == 2
