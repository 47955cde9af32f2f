"""Random crops in the image's proportions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from common.transforms.spatial_views import RandomLabelledZoom, RandomZoom
from common.transforms.spatial_views.zoom import Crops


class Fixed(RandomLabelledZoom):
    """Boxes that are given."""

    def __init__(self, crops):
        super().__init__()
        self.crops = crops

    def draw(self, num_images, generator):
        return self.crops


def crops(share, row, column, flip=False):
    return Crops(torch.tensor([share]), torch.tensor([[row, column]]), torch.tensor([flip]))


def test_the_whole_image_is_the_image(generator):
    images = torch.rand(3, 3, 16, 32, generator=generator)
    torch.testing.assert_close(RandomZoom((1.0, 1.0), flip=0.0)(images, generator), images, atol=1e-5, rtol=0)
    torch.testing.assert_close(RandomZoom((1.0, 1.0), flip=1.0)(images, generator), images.flip(-1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("flip", [False, True])
def test_a_box_agrees_with_interpolating_it_alone(flip, generator):
    images = torch.rand(1, 3, 16, 32, generator=generator)
    labels = torch.randint(5, (1, 16, 32), generator=generator, dtype=torch.uint8)
    zoomed, maps = Fixed(crops(0.5, 0.25, 0.5, flip))(images, labels, generator)
    box = F.interpolate(images[:, :, 4:12, 16:32], (16, 32), mode="bilinear", align_corners=False)
    expected = box.flip(-1) if flip else box
    inner = (..., slice(1, -1), slice(1, -1))  # at the edge of the box its surroundings count
    torch.testing.assert_close(zoomed[inner], expected[inner], atol=1e-5, rtol=0)
    own = labels[:, 4:12, 16:32].repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert maps.dtype == torch.uint8 and torch.equal(maps, own.flip(-1) if flip else own)


def test_images_and_labels_move_alike(generator):
    labels = torch.zeros(8, 32, 64, dtype=torch.uint8)
    labels[:, :16, :32] = 1
    images = labels[:, None].float().repeat(1, 3, 1, 1)
    zoomed, maps = RandomLabelledZoom()(images, labels, generator)
    sure = (zoomed[:, 0] < 0.01) | (zoomed[:, 0] > 0.99)
    assert sure.float().mean() > 0.9
    assert torch.equal(maps[sure], zoomed[:, 0][sure].round().to(torch.uint8))


def test_boxes_stay_inside_and_are_uniform(generator):
    drawn = RandomZoom((0.5, 1.0), flip=0.25).draw(8000, generator)
    assert 0.5 <= drawn.shares.min() < 0.505 and 0.995 < drawn.shares.max() <= 1
    assert (drawn.corners >= 0).all() and (drawn.corners + drawn.shares[:, None] <= 1 + 1e-6).all()
    places = drawn.corners / (1 - drawn.shares[:, None]).clamp_min(1e-6)
    assert places.mean(0).tolist() == pytest.approx([0.5, 0.5], abs=0.02)
    assert abs(np.corrcoef(places.T.numpy())[0, 1]) < 0.05
    assert drawn.flips.float().mean().item() == pytest.approx(0.25, abs=0.02)


def test_batches_are_repeated(generator):
    images = torch.rand(4, 3, 8, 16, generator=generator)
    views = [RandomZoom()(images, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)]
    assert torch.equal(views[0], views[1]) and not torch.equal(views[0], views[2])


@pytest.mark.parametrize("share", [(0.0, 1.0), (0.8, 0.5), (0.5, 1.1), (0.5,)])
def test_shares_that_cannot_be(share):
    with pytest.raises(ValueError, match=r"crop_share must be \(smallest, largest\) with 0 < smallest"):
        RandomZoom(share)


def test_more_than_all_cannot_be_reversed():
    with pytest.raises(ValueError, match="flip must be from 0 to 1, got 2"):
        RandomZoom(flip=2)
