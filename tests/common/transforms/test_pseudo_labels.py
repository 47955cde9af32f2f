from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SliceInferer
from torch import nn

from common.transforms import PredictLabeld

INFERER = SliceInferer(roi_size=(8, 8), sw_batch_size=2, spatial_dim=2)


class Threshold(nn.Module):
    """Class 1 where an image is above 0.5, class 2 above 1.5; the weight is there to have a device."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.modes = []

    def forward(self, images):
        self.modes.append(self.training)
        steps = torch.arange(3).view(1, 3, 1, 1)
        return self.scale * (steps * images - steps * steps / 2)


def volume():
    image = torch.zeros(1, 8, 8, 3)
    image[0, 1:4, 1:4] = 1.0
    image[0, 2, 2, 0] = 2.0
    return image


@pytest.mark.parametrize("kind", [torch.as_tensor, MetaTensor], ids=["tensor", "with metadata"])
def test_prediction_is_added_as_a_label(kind):
    network = Threshold().train()
    item = {"image": kind(volume()), "id": "a"}
    result = PredictLabeld("image", network, INFERER)(item)
    assert result["id"] == "a" and "label" not in item
    assert type(result["label"]) is torch.Tensor and result["label"].dtype == torch.uint8
    assert torch.equal(result["label"], volume().to(torch.uint8))
    assert not any(network.modes) and not result["label"].requires_grad


def test_only_the_largest_component_of_each_structure_is_kept():
    image = volume()
    image[0, 6, 6, 1] = 1.0  # apart from the larger piece of class 1
    image[0, 6:, 0, 2] = 2.0  # larger than the other piece of class 2
    label = PredictLabeld("image", Threshold(), INFERER, label_key="pseudo")({"image": image})["pseudo"]
    expected = volume().to(torch.uint8)
    expected[0, 2, 2, 0] = 0
    expected[0, 6:, 0, 2] = 2
    assert torch.equal(label, expected)


def test_a_structure_that_is_not_there_is_no_mistake():
    label = PredictLabeld("image", Threshold(), INFERER)({"image": torch.zeros(1, 8, 8, 2)})["label"]
    assert not label.any()
