"""Labels beside their image: the grid they are put on, the values they may have."""

from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from common.transforms import AssumeOrientationd, MatchLabeld, VolumeError

from .grids import (
    ALIGNED,
    load,
    make_affine,
    make_label_preprocessing,
    make_preprocessing,
    noise,
    save,
    save_with_codes,
)


@pytest.mark.parametrize("degrees", [(0.0, 0.0, 0.0), (20.0, 30.0, -10.0)], ids=["aligned", "oblique"])
def test_labels_land_on_their_image(tmp_path, degrees):
    for case, (permutation, signs) in enumerate(ALIGNED[::5]):
        affine = make_affine((0.9, 1.0, 6.0), permutation, signs, degrees)
        x, y = np.meshgrid(np.linspace(-1, 1, 45), np.linspace(-1, 1, 40), indexing="ij")
        image = np.stack([10 + 100 * ((x - 0.3) ** 2 + (y + 0.2 * z) ** 2 < 0.3) for z in (-1, 0, 1)], -1)
        image_path = save(tmp_path / "image.nii", image.astype(np.float32), affine)
        # The header of the label is wrong in every respect but the size.
        label_path = save(tmp_path / "label.nii", (image > 50).astype(np.uint8), np.diag([2.0, -3.0, 1.0, 1.0]))
        data = make_preprocessing(1.25, 32)({"image": image_path, "label": label_path})
        data = make_label_preprocessing(1.25, 32, values=(0, 1))(data)
        assert data["label"].dtype == torch.float32
        assert torch.equal(data["label"].affine, data["image"].affine), case
        expected = (data["image"] > 0.5).as_tensor()
        assert expected.sum() > 300
        # Thresholding a smoothed image moves the border by less than a pixel here and there.
        assert (data["label"].as_tensor().bool() == expected).float().mean() > 0.985


def test_label_is_put_on_the_grid_of_the_stored_image(tmp_path):
    affine = make_affine((1.2, 1.4, 6.0), (2, 0, 1), (-1, 1, 1))
    image_path = save(tmp_path / "image.nii.gz", noise((9, 8, 3)), affine)
    label = np.random.default_rng(0).integers(0, 4, (9, 8, 3)).astype(np.float64)
    label_path = save(tmp_path / "label.nii.gz", label)
    data = make_preprocessing()({"image": image_path, "label": label_path})
    loaded = load("label")(data)
    matched = MatchLabeld(keys="label", reference="image", values=[0, 1, 2, 3])(loaded)["label"]
    assert np.array_equal(matched[0].numpy(), label)
    assert np.array_equal(matched.affine.numpy(), nib.load(image_path).affine)
    assert np.array_equal(matched.meta["original_affine"], nib.load(image_path).affine)
    assert np.array_equal(loaded["label"].affine.numpy(), nib.load(label_path).affine)
    assert matched.meta["filename_or_obj"] == label_path


def float_label() -> np.ndarray:
    label = np.zeros((9, 8, 3), np.float32)
    label[2:4, 3] = 1
    label[5, 5, :] = 0.5
    return label


BAD_LABELS = {
    "smaller": (np.zeros((9, 7, 3), np.uint8), "has 1 x 9 x 7 x 3 voxels .*image.nii.gz has 1 x 9 x 8 x 3"),
    "transposed": (np.zeros((8, 9, 3), np.uint8), "has 1 x 8 x 9 x 3 voxels"),
    "one channel for each class": (np.zeros((9, 8, 3, 4), np.uint8), "has 4 x 9 x 8 x 3 voxels"),
    "grey values": (
        np.where(float_label() > 0, 255, 0).astype(np.uint8),
        "has 1 values .* 255. Allowed are 0, 1, 2, 3",
    ),
    "fraction": (float_label(), "has 1 values that are no class index: 0.5"),
    "negative": (-np.ceil(float_label()).astype(np.int16), "has 1 values that are no class index: -1"),
    "nan": (np.where(float_label() > 0, np.nan, 0).astype(np.float32), "no class index: nan"),
    "image": (noise((9, 8, 3)), r"has 216 values that are no class index: [\d.]+, .*, \.\.\.\. Allowed"),
}


@pytest.mark.parametrize("case", BAD_LABELS, ids=str)
def test_unusable_labels_are_refused_by_name(tmp_path, case):
    label, message = BAD_LABELS[case]
    image_path = save(tmp_path / "image.nii.gz", noise((9, 8, 3)))
    label_path = save(tmp_path / "label.nii.gz", label)
    data = load("label")(make_preprocessing()({"image": image_path, "label": label_path}))
    with pytest.raises(VolumeError, match=message) as caught:
        MatchLabeld(keys="label", reference="image", values=[0, 1, 2, 3])(data)
    assert str(caught.value).startswith(label_path)


MAPPING = {"0": 0, "205": 1, "420": 2, "421": 2, "500": 3}


@pytest.mark.parametrize("slips", [0, 5])
def test_values_are_mapped_to_classes_and_slips_counted(tmp_path, caplog, slips):
    image_path = save(tmp_path / "image.nii.gz", noise((9, 8, 3)))
    classes = np.random.default_rng(0).integers(0, 4, (9, 8, 3))
    stored = np.array([0, 205, 420, 500])[classes].astype(np.int16)
    stored.flat[np.flatnonzero(classes == 2)[:slips]] = 421
    label_path = save(tmp_path / "label.nii.gz", stored)
    data = load("label")(make_preprocessing()({"image": image_path, "label": label_path}))
    with caplog.at_level("WARNING"):
        label = MatchLabeld("label", "image", MAPPING)(data)["label"]
    assert np.array_equal(label[0].numpy(), classes) and label.dtype == torch.float32
    expected = [f"{label_path} has 5 voxels of 421, which are taken for 420."] if slips else []
    assert [record.getMessage() for record in caplog.records] == expected


@pytest.mark.parametrize("value", [1, 2, 421.5, 600], ids=str)
def test_values_without_a_class_are_refused(tmp_path, value):
    """Also those that are the index of a class."""
    image_path = save(tmp_path / "image.nii.gz", noise((9, 8, 3)))
    label_path = save(tmp_path / "label.nii.gz", np.where(float_label() > 0, value, 0).astype(np.float32))
    data = load("label")(make_preprocessing()({"image": image_path, "label": label_path}))
    with pytest.raises(VolumeError, match=f"no class index: {value:g}. Allowed are 0, 205, 420, 421, 500") as caught:
        MatchLabeld("label", "image", MAPPING)(data)
    assert str(caught.value).startswith(label_path)


# ---- other orientations


CODES = ["".join(codes) for order in itertools.permutations(("LR", "PA", "IS")) for codes in itertools.product(*order)]
CLASSES = np.random.default_rng(0).integers(0, 4, (9, 8, 3)).astype(np.uint8)


def turned(image: nib.Nifti1Image, codes: str) -> nib.Nifti1Image:
    return image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(codes)))


def match(tmp_path, label: nib.Nifti1Image, affine: np.ndarray):
    """Return the label on the grid of an image with the affine, 9 x 8 x 3 voxels."""
    nib.save(label, tmp_path / "label.nii.gz")
    data = {"image": save(tmp_path / "image.nii.gz", noise((9, 8, 3)), affine), "label": tmp_path / "label.nii.gz"}
    return MatchLabeld("label", "image", range(4))(load("label")(load()(data)))["label"]


@pytest.mark.parametrize("degrees", [(0.0, 0.0, 0.0), (20.0, 30.0, -10.0), (45.0, 0.0, 0.0)], ids=str)
def test_labels_stored_in_another_orientation_are_turned(tmp_path, caplog, degrees):
    affine = make_affine((1.2, 1.4, 6.0), (2, 0, 1), (-1, 1, 1), degrees)
    for codes in CODES if degrees[1] else CODES[::7]:
        matched = match(tmp_path, turned(nib.Nifti1Image(CLASSES, affine), codes), affine)
        assert np.array_equal(matched[0].numpy(), CLASSES), codes
        assert np.array_equal(matched.affine.numpy(), nib.load(tmp_path / "image.nii.gz").affine)
    assert not caplog.text


@pytest.mark.parametrize("offset", [0.4, 0.6], ids=["less", "more"])
def test_one_grid_means_half_a_voxel(tmp_path, caplog, offset):
    affine = make_affine((1.2, 1.4, 6.0))
    label = turned(nib.Nifti1Image(CLASSES, affine), "LAS")
    moved = nib.Nifti1Image(label.dataobj, label.affine @ nib.affines.from_matvec(np.eye(3), (offset, 0, 0)))
    matched = match(tmp_path, moved, affine)
    assert np.array_equal(matched[0].numpy(), CLASSES if offset < 0.5 else CLASSES[::-1])
    assert ("points to" in caplog.text or "axes that point to LAS, those of its image" in caplog.text) == (offset > 0.5)


def test_another_orientation_without_one_grid_is_said(tmp_path, caplog):
    matched = match(tmp_path, nib.Nifti1Image(CLASSES, np.diag([-1.5, -1.5, 8.0, 1.0])), make_affine((1.2, 1.4, 6.0)))
    assert np.array_equal(matched[0].numpy(), CLASSES)
    assert f"{tmp_path / 'label.nii.gz'} has axes that point to LPS, those of its image" in caplog.text
    assert "to RAS, and their headers do not describe one grid" in caplog.text


@pytest.mark.parametrize("origin", [(0, 0, 0), (500, -20, 3)], ids=str)
def test_another_origin_alone_is_accepted(tmp_path, caplog, origin):
    affine = make_affine((1.2, 1.4, 6.0), (2, 0, 1), (-1, 1, 1), (20.0, 30.0, -10.0))
    other = affine.copy()
    other[:3, 3] = origin
    assert np.array_equal(match(tmp_path, nib.Nifti1Image(CLASSES, other), affine)[0].numpy(), CLASSES)
    assert not caplog.text


def test_a_label_without_orientation_is_taken_as_it_lies(tmp_path, caplog):
    save_with_codes(tmp_path / "label.nii.gz", CLASSES, 0, 0)
    matched = match(tmp_path, nib.load(tmp_path / "label.nii.gz"), make_affine((1.2, 1.4, 6.0)))
    assert np.array_equal(matched[0].numpy(), CLASSES) and not caplog.text


def test_a_permuted_label_on_another_grid_is_refused(tmp_path):
    label = turned(nib.Nifti1Image(CLASSES, make_affine((1.2, 1.4, 6.0))), "PLS")
    label = nib.Nifti1Image(label.dataobj, label.affine @ nib.affines.from_matvec(np.eye(3), (3, 0, 0)))
    with pytest.raises(VolumeError, match="has 1 x 8 x 9 x 3 voxels"):
        match(tmp_path, label, make_affine((1.2, 1.4, 6.0)))


def test_an_image_without_orientation_is_compared_as_assumed(tmp_path, caplog):
    data = {"image": save_with_codes(tmp_path / "a.nii.gz", noise((9, 8, 3)), 0, 0)}
    data["label"] = save(tmp_path / "a_gt.nii.gz", CLASSES, np.diag([1.5, 1.5, 8.0, 1.0]))
    data = load("label")(AssumeOrientationd("image", "LPS")(load()(data)))
    label = MatchLabeld("label", "image", range(4))(data)["label"]
    assert np.array_equal(label[0].numpy(), CLASSES)
    assert "axes that point to RAS, those of its image" in caplog.text


@pytest.mark.parametrize("codes", ["RAS", "LAS", "SPL"])
def test_turned_labels_of_real_volumes(acdc_dir, tmp_path, codes):
    stem = acdc_dir / "training" / "patient042" / "patient042_frame01"
    truth = nib.load(f"{stem}_gt.nii.gz")
    nib.save(turned(truth, codes), tmp_path / "label.nii.gz")
    data = load("label")(load()({"image": f"{stem}.nii.gz", "label": tmp_path / "label.nii.gz"}))
    label = MatchLabeld("label", "image", range(4))(data)["label"]
    assert np.array_equal(label[0].numpy(), np.asanyarray(truth.dataobj))
