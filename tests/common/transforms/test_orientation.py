"""Axes and slices: order, direction, and the way back."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    Invertd,
    Orientation,
)

from common.data.cache import CachedTransformd
from common.transforms import (
    AssumeOrientationd,
    MatchLabeld,
    OrientSlices,
    OrientSlicesd,
)

from .grids import (
    ALIGNED,
    LABELS,
    LPS_AFFINE,
    ROTATIONS,
    load,
    make_affine,
    make_preprocessing,
    noise,
    save,
    save_with_codes,
    world,
)


@pytest.mark.parametrize("axcodes", ["LPS", "RAS"])
def test_orientation_without_thick_slices_is_that_of_monai(axcodes):
    for permutation, signs in ALIGNED:
        affine = torch.as_tensor(make_affine((1.0, 1.1, 1.2), permutation, signs))
        volume = MetaTensor(torch.rand(2, 4, 5, 6), affine=affine)
        expected = Orientation(axcodes, labels=LABELS)(volume)
        oriented = OrientSlices(axcodes)(volume)
        assert torch.equal(oriented.as_tensor(), expected.as_tensor())
        assert torch.equal(oriented.affine, expected.affine)


@pytest.mark.parametrize(
    ("slice_world_axis", "expected"), [(0, "PIL"), (1, "LIP"), (2, "LPS")], ids=["sagittal", "coronal", "axial"]
)
@pytest.mark.parametrize("degrees", [(0.0, 0.0, 0.0), (20.0, -15.0, 25.0)], ids=["aligned", "oblique"])
def test_thick_slices_come_last(slice_world_axis, expected, degrees):
    for permutation, signs in ALIGNED:
        spacing = np.where(np.asarray(permutation) == slice_world_axis, 8.0, 1.5)
        slice_axis = permutation.index(slice_world_axis)
        affine = torch.as_tensor(make_affine(spacing, permutation, signs, degrees))
        oriented = OrientSlices("LPS")(MetaTensor(torch.rand(1, 4, 5, 6), affine=affine))
        assert oriented.shape[-1] == (4, 5, 6)[slice_axis]
        assert np.allclose(np.linalg.norm(oriented.affine[:3, :3], axis=0), (1.5, 1.5, 8.0))
        assert "".join(nib.aff2axcodes(oriented.affine.numpy())) == expected


@pytest.mark.parametrize("degrees", [(0.0, 0.0, 0.0), (20.0, -15.0, 25.0)], ids=["aligned", "oblique"])
@pytest.mark.parametrize("spacing", [(1.5, 1.5, 8.0), (8.0, 1.5, 1.5), (1.0, 1.1, 1.2)], ids=str)
def test_fixed_slice_axis_is_the_same_for_all(spacing, degrees):
    orient = OrientSlices("LPS", slice_axis="fixed")
    for permutation, signs in ALIGNED:
        affine = torch.as_tensor(make_affine(spacing, permutation, signs, degrees))
        volume = MetaTensor(torch.rand(1, 4, 5, 6), affine=affine)
        oriented = orient(volume)
        assert "".join(nib.aff2axcodes(oriented.affine.numpy())) == "LPS"
        restored = orient.inverse(oriented)
        assert torch.equal(restored.as_tensor(), volume.as_tensor()) and torch.equal(restored.affine, affine)


def test_slice_axis_is_checked():
    with pytest.raises(ValueError, match="slice_axis must be one of thickest, fixed, got 'thick'"):
        OrientSlicesd("image", "LPS", slice_axis="thick")


def test_orientation_moves_every_voxel_with_its_world_position():
    for degrees in ROTATIONS:
        affine = make_affine((1.2, 8.0, 1.3), (2, 0, 1), (1, -1, -1), degrees)
        positions = world(affine, (4, 5, 6))
        volume = MetaTensor(torch.as_tensor(positions).permute(3, 0, 1, 2), affine=torch.as_tensor(affine))
        oriented = OrientSlices("LPS")(volume)
        expected = world(oriented.affine.numpy(), oriented.shape[1:])
        assert np.allclose(oriented.permute(1, 2, 3, 0).numpy(), expected)


@pytest.mark.parametrize("spacing", [(1.2, 1.3, 8.0), (1.2, 1.3, 1.4)], ids=["thick", "thin"])
def test_orientation_is_undone_exactly(spacing):
    orient = OrientSlices("LPS")
    for degrees in [(0.0, 0.0, 0.0), *ROTATIONS]:
        for permutation, signs in ALIGNED:
            affine = torch.as_tensor(make_affine(spacing, permutation, signs, degrees))
            volume = MetaTensor(torch.rand(1, 2, 3, 4), affine=affine)
            restored = orient.inverse(orient(volume))
            assert torch.equal(restored.as_tensor(), volume.as_tensor())
            assert torch.equal(restored.affine, affine)
            assert restored.applied_operations == []


@pytest.mark.parametrize("slice_axis", ["thickest", "fixed"])
@pytest.mark.parametrize("thickness", [0.5, 1.2, 10.0], ids=["thin", "cubic", "thick"])
def test_one_slice_lies_along_its_axis_of_length_one(slice_axis, thickness):
    orient = OrientSlices("LPS", slice_axis)
    for permutation, signs in ALIGNED:
        for axis in range(3):
            spacing, size = [1.2, 1.2, 1.2], [4, 5, 6]
            spacing[axis], size[axis] = thickness, 1
            affine = torch.as_tensor(make_affine(spacing, permutation, signs, (10.0, -15.0, 20.0)))
            volume = MetaTensor(torch.rand(1, *size), affine=affine)
            oriented = orient(volume)
            assert oriented.shape[-1] == 1
            assert np.allclose(np.linalg.norm(oriented.affine[:3, 2]), thickness)
            restored = orient.inverse(oriented)
            assert torch.equal(restored.as_tensor(), volume.as_tensor()) and torch.equal(restored.affine, affine)


def test_one_slice_is_preprocessed_and_returned(tmp_path):
    """Also from the cache's plain form of the trace."""
    path = save(tmp_path / "a.nii.gz", noise((30, 1, 40)), make_affine((1.2, 1.2, 1.2)))
    cached = CachedTransformd("image", make_preprocessing(1.0, 48), tmp_path / "cache")
    for _ in range(2):
        image = cached({"image": path})["image"]
        assert image.shape == (1, 48, 48, 1)
        inverter = Invertd("pred", cached, orig_keys="image", nearest_interp=False)
        restored = inverter({"image": image, "pred": MetaTensor(image.as_tensor())})["pred"]
        assert restored.shape == (1, 30, 1, 40)


@pytest.mark.parametrize("axcodes", ["LPX", "LP", "LRS", "LPSA"])
def test_axcodes_are_checked(axcodes):
    with pytest.raises(ValueError, match=f"axcodes must have one letter of each pair .* got '{axcodes}'"):
        OrientSlices(axcodes)


def test_files_without_a_coordinate_system_are_taken_as_they_come(tmp_path):
    image = nib.Nifti1Image(noise((8, 7, 3)), None)
    image.header.set_zooms((1.5, 1.5, 8.0))
    nib.save(image, tmp_path / "a.nii.gz")
    loaded = load()({"image": tmp_path / "a.nii.gz"})["image"]
    oriented = OrientSlices("LPS")(loaded)
    assert nib.aff2axcodes(loaded.affine.numpy()) == ("L", "A", "S")
    assert torch.equal(oriented.as_tensor(), loaded.as_tensor().flip(2))


@pytest.mark.parametrize(("qform", "sform"), [(1, 1), (0, 1), (1, 0), (0, 0), (2, 1)], ids=str)
def test_images_and_labels_lie_alike_whatever_their_codes(tmp_path, qform, sform):
    """One array, stored with other codes in image and label, gives the same slices."""
    array = noise((9, 7, 4))
    transform = Compose(
        [
            load(),
            AssumeOrientationd("image", "LPS"),
            OrientSlicesd("image", "LPS"),
            load("label"),
            MatchLabeld("label", "image", range(2)),
            OrientSlicesd("label", "LPS"),
        ]
    )
    mask = (array > 50).astype(np.uint8)
    label = save_with_codes(tmp_path / "a_gt.nii.gz", mask, 0, 0)
    data = transform({"image": save_with_codes(tmp_path / "a.nii.gz", array, qform, sform), "label": label})
    assert np.array_equal(data["image"][0].numpy(), array)
    assert np.array_equal(data["label"][0].numpy(), mask)
    assert np.allclose(data["image"].affine.numpy()[:3, :3], LPS_AFFINE[:3, :3])
    assert np.allclose(data["label"].affine, data["image"].affine)


def test_assumed_orientation_is_said(tmp_path, caplog):
    path = save_with_codes(tmp_path / "a.nii.gz", noise((9, 7, 4)), 0, 0)
    with caplog.at_level("WARNING"):
        image = AssumeOrientationd("image", "RAS")(load()({"image": path}))["image"]
    assert f"{path} does not say how it lies; taken to be RAS" in caplog.text
    assert np.allclose(image.affine.numpy(), np.diag([1.5, 1.5, 8.0, 1.0]))
    assert np.allclose(image.meta["original_affine"], image.affine)


def test_axcodes_of_the_assumption_are_checked():
    with pytest.raises(ValueError, match="axcodes must have one letter of each pair"):
        AssumeOrientationd("image", "LPX")
