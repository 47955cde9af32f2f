"""Label maps from probabilities, beside what torch and MONAI make of the same."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import AsDiscreted, KeepLargestConnectedComponent

from common.transforms import LargestComponentsd, MostProbabled
from common.transforms.label_maps import LargestComponents, most_probable


def numbers(*shape, below, seed=0):
    return torch.randint(below, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_classes_are_those_of_argmax(dim):
    values = numbers(3, 5, 6, 4, below=4) / 4  # with equal ones
    assert torch.equal(most_probable(values, dim).long(), values.argmax(dim=dim, keepdim=True))


def test_the_map_is_that_of_monai_with_its_metadata():
    affine = torch.diag(torch.tensor([1.5, 1.5, 8.0, 1.0], dtype=torch.float64))
    data = {"pred": MetaTensor(torch.rand(4, 6, 7, 3), affine=affine)}
    ours, theirs = MostProbabled("pred")(data)["pred"], AsDiscreted("pred", argmax=True)(data)["pred"]
    assert torch.equal(ours, theirs) and (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    assert torch.equal(ours.affine, affine)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_the_largest_parts_are_those_of_monai(dtype):
    labels = torch.zeros(1, 20, 24, 8, dtype=dtype)
    labels[:, 5:15, 6:20, 1:7] = numbers(1, 10, 14, 6, below=4).to(dtype)  # each class in many parts
    before = labels.clone()
    expected = KeepLargestConnectedComponent([1, 2, 3], is_onehot=False, independent=True)(labels.clone())
    kept = LargestComponents(4)(labels)
    assert torch.equal(kept, expected.as_tensor()) and kept.dtype == dtype
    assert torch.equal(labels, before) and not torch.equal(kept, before)


def test_parts_at_the_border_and_a_map_without_any():
    labels = torch.zeros(1, 4, 4, 2)
    assert torch.equal(LargestComponents(3)(labels), labels)
    labels[:, 0], labels[:, 3, 3, 1] = 1, 1
    kept = LargestComponentsd("pred", 3)({"pred": MetaTensor(labels)})["pred"]
    assert isinstance(kept, MetaTensor) and kept.sum() == 8 and kept[0, 3, 3, 1] == 0
