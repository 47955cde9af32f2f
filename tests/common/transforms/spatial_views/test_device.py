"""No view waits for the device."""

from __future__ import annotations

import torch

from common.transforms.spatial_views import (
    RandomCropResize,
    RandomElastic,
    RandomFineElastic,
    RandomSpatial,
)


def test_no_value_is_read_back_from_the_device(generator) -> None:
    # A meta tensor has no values: reading one, or mixing devices, is an error.
    images = torch.empty(6, 1, 24, 24, device="meta")
    labels = torch.empty(6, 24, 24, dtype=torch.uint8, device="meta")
    assert RandomCropResize(crop_size=12, start=(0, 9))(images, generator).shape == images.shape
    assert [mapped.shape for mapped in RandomSpatial()(images, labels, generator)] == [images.shape, labels.shape]
    one_hot = torch.empty(6, 4, 24, 24, device="meta")
    for elastic in (RandomElastic(), RandomFineElastic()):
        assert [warped.shape for warped in elastic(images, one_hot, generator)] == [images.shape, one_hot.shape]
