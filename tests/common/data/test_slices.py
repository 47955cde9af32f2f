from __future__ import annotations

import pytest
import torch

from common.data.slices import Slices


def volume(depth, value, label=None):
    image = torch.full((1, 4, 6, depth), float(value)) + torch.arange(depth) / 100
    return {"image": image} if label is None else {"image": image, "label": torch.full((1, 4, 6, depth), float(label))}


def test_slices_keep_the_order_of_volumes_and_levels():
    slices = Slices.from_volumes([volume(3, 1, label=2), volume(2, 5, label=3)])
    assert slices.images.shape == (5, 1, 4, 6) and slices.labels.shape == (5, 4, 6)
    assert slices.images[:, 0, 0, 0].tolist() == pytest.approx([1.0, 1.01, 1.02, 5.0, 5.01])
    assert slices.labels[:, 0, 0].tolist() == [2, 2, 2, 3, 3] and slices.labels.dtype == torch.uint8
    assert slices.starts.tolist() == [0, 3, 5] and slices.num_volumes == 2 and len(slices) == 5


def test_in_plane_axes_are_not_transposed():
    image = torch.rand(1, 4, 6, 2)
    assert torch.equal(Slices.from_volumes([{"image": image}]).images[1, 0], image[0, :, :, 1])


def test_ids():
    assert Slices.from_volumes([{"id": "patient007", **volume(3, 1)}, volume(2, 1)]).ids == ["patient007", "volume 1"]
    assert Slices(torch.zeros(5, 1, 4, 6), None, torch.tensor([0, 3, 5])).ids == ["volume 0", "volume 1"]


def test_unlabelled():
    assert Slices.from_volumes([volume(3, 1)]).labels is None


def test_no_volume():
    with pytest.raises(ValueError, match="at least one volume"):
        Slices.from_volumes([])
