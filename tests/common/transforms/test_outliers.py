"""Voxels far outside the range of all others."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.transforms import CheckVolumed
from common.transforms.outliers import replace_outliers


def make_volume(hot: dict[int, float]) -> MetaTensor:
    voxels = np.random.default_rng(0).uniform(10, 110, (1, 40, 50, 5)).astype(np.float32)
    for position, value in hot.items():
        voxels.flat[position] = value
    image = MetaTensor(torch.as_tensor(voxels))
    image.meta["filename_or_obj"] = "a.nii.gz"
    return image


def check(image: MetaTensor) -> MetaTensor:
    return CheckVolumed("image")({"image": image})["image"]


def test_hot_voxels_are_brought_to_the_percentiles_and_said(caplog):
    image = make_volume({7: 32767, 999: -32768, 5000: 800})
    before = image.clone()
    low, high = np.percentile(image.numpy(), [1, 99])
    found = check(image)
    changed = (found != before).flatten().nonzero().flatten().tolist()
    assert changed == [7, 999, 5000]
    assert found.flatten()[changed].tolist() == pytest.approx([high, low, high])
    assert torch.equal(image, before) and isinstance(found, MetaTensor) and found.dtype == torch.float32
    assert found.meta["filename_or_obj"] == "a.nii.gz"
    assert "a.nii.gz has 3 of 10000 voxels that are far outside the range of the others: -32768 to 32767" in caplog.text
    assert "They are set to these percentiles" in caplog.text


@pytest.mark.parametrize("value", [500, -400], ids=["bright", "dark"])
def test_bright_voxels_are_normal(caplog, value):
    image = make_volume({7: value})
    assert check(image) is image and not caplog.text


def test_many_are_left_alone_and_said(caplog):
    image = make_volume({position: 32767 for position in range(11)})
    assert check(image) is image
    assert "has 11 of 10000 voxels" in caplog.text and "left as they are, being more than 0.1%" in caplog.text


def test_real_volumes_have_none(acdc_dir, caplog):
    for path in sorted(acdc_dir.glob("training/patient0[0-9]1/*_frame01.nii.gz")):
        voxels = torch.as_tensor(np.asarray(nib.load(path).dataobj, np.float32))
        low, high = np.percentile(voxels.numpy(), [1, 99])
        assert replace_outliers(voxels, float(low), float(high), str(path)) is voxels
    assert not caplog.text
