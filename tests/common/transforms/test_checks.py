"""What images are refused, and what the message says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.transforms import (
    CheckVolumed,
    OrientSlices,
    VolumeError,
)

from .grids import (
    load,
    noise,
    save,
)


def with_value(value: float) -> np.ndarray:
    volume = noise((8, 7, 3))
    volume[1, 2, :2] = value
    return volume


def almost_constant() -> np.ndarray:
    volume = np.full((20, 20, 5), 7, np.float32)
    volume[0, 0, 0] = 50
    return volume


BAD_IMAGES = {
    "2d": (lambda p: save(p, noise((8, 7))), "is a 2-D image of 8 x 7 pixels.*one slice"),
    "4d": (lambda p: save(p, noise((8, 7, 3, 4))), "got 4 channels or frames of 8 x 7 x 3 voxels.*slicer"),
    "5d": (lambda p: save(p, noise((8, 7, 3, 1, 2))), "must hold one 3-D volume, got 2 channels or frames"),
    "nan": (lambda p: save(p, with_value(np.nan)), "has 2 of 168 voxels that are NaN or infinite"),
    "inf": (lambda p: save(p, with_value(-np.inf)), "has 2 of 168 voxels that are NaN or infinite"),
    "zeros": (lambda p: save(p, np.zeros((8, 7, 3), np.float32)), "contains only zeros"),
    "constant": (lambda p: save(p, np.full((8, 7, 3), 5, np.int16)), "constant intensity.*both 5"),
    "almost constant": (lambda p: save(p, almost_constant()), "constant intensity.*both 7"),
}


@pytest.mark.parametrize("case", BAD_IMAGES, ids=str)
def test_unusable_images_are_refused_by_name(tmp_path, case):
    make, message = BAD_IMAGES[case]
    path = make(tmp_path / "bad image.nii")
    data = load()({"image": path})
    with pytest.raises(VolumeError, match=message) as caught:
        CheckVolumed(keys="image")(data)
    assert str(caught.value).startswith(path)


@pytest.mark.parametrize("spacing", [0.0, np.nan, np.inf], ids=str)
def test_unusable_affine_is_refused(spacing):
    image = MetaTensor(torch.rand(1, 8, 7, 3), affine=torch.diag(torch.tensor([1.0, spacing, 8.0, 1.0])))
    image.meta["filename_or_obj"] = "a.nii.gz"
    with pytest.raises(VolumeError, match=r"^a.nii.gz must have a finite and positive voxel size, got 1 x "):
        CheckVolumed(keys="image")({"image": image})


def test_array_without_voxel_sizes_is_refused():
    image = MetaTensor(torch.rand(1, 8, 7, 3), meta={"original_channel_dim": "no_channel"})
    with pytest.raises(VolumeError, match=r"^volume must say how large its voxels are .* Image with the metadata"):
        CheckVolumed(keys="image")({"image": image})
    image.affine = torch.diag(torch.tensor([1.0, 1.0, 8.0, 1.0]))
    assert CheckVolumed(keys="image")({"image": image})["image"] is image


@pytest.mark.parametrize("shape", [(8, 7, 3), (8, 7, 1), (8, 7, 3, 1)], ids=str)
def test_usable_images_pass_unchanged(tmp_path, shape):
    data = load()({"image": save(tmp_path / "a.nii.gz", noise(shape))})
    assert CheckVolumed(keys="image")(data)["image"] is data["image"]


def test_tensor_without_metadata_is_refused():
    with pytest.raises(TypeError, match="volume must be a MetaTensor, got Tensor"):
        OrientSlices("LPS")(torch.rand(1, 8, 7, 3))
