"""Volumes of structures in ml."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.volumetry import structure_volumes

CLASSES = ["background", "RV", "Myo", "LV"]


@pytest.mark.parametrize("kind", [np.uint8, torch.float32, MetaTensor], ids=str)
def test_volume_counted_by_hand(kind):
    labels = np.zeros((1, 5, 4, 3))
    labels[0, :2, :2, :] = 1  # 12 voxels of 1.5 x 2 x 10 mm, .03 ml each
    labels[0, 4, 0, 0] = 3
    affine = np.diag([-1.5, 2.0, 10.0, 1.0])
    if kind is MetaTensor:
        volumes = structure_volumes(MetaTensor(torch.as_tensor(labels), affine=affine), CLASSES)
    elif kind is np.uint8:
        volumes = structure_volumes(labels.astype(kind)[0], CLASSES, affine)
    else:
        volumes = structure_volumes(torch.as_tensor(labels, dtype=kind), CLASSES, torch.as_tensor(affine))
    assert volumes == {"RV": pytest.approx(0.36), "Myo": 0.0, "LV": pytest.approx(0.03)}


def test_a_sheared_grid_has_the_volume_of_its_cells():
    affine = np.array([[2.0, 1.0, 0, 5], [0, 3.0, 0, 6], [0, 0, 4.0, 7], [0, 0, 0, 1]])
    assert structure_volumes(np.ones((2, 2, 2)), ["background", "a"], affine) == {"a": pytest.approx(8 * 24 / 1000)}


def test_real_labels(acdc_dir):
    path = acdc_dir / "training" / "patient001" / "patient001_frame01_gt.nii.gz"
    image = nibabel.load(path)
    labels = np.asanyarray(image.dataobj)
    volumes = structure_volumes(labels, CLASSES, image.affine)
    voxel = float(np.prod(image.header.get_zooms())) / 1000
    assert volumes["LV"] == pytest.approx((labels == 3).sum() * voxel)
    assert 150 < volumes["LV"] < 400  # a dilated left ventricle
