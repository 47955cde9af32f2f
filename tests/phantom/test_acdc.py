from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from common.data.datalists import acdc, acdc_further_frames
from common.data.splits import read_split
from phantom import write_acdc_phantom, write_phantom_splits, write_reoriented
from phantom.acdc import make_volume


def load(path):
    image = nib.load(path)
    return image, np.asanyarray(image.dataobj)


def test_writes_the_acdc_layout(tmp_path):
    assert write_acdc_phantom(tmp_path, 3, size=(40, 48)) == ["patient001", "patient002", "patient003"]
    items = acdc(tmp_path)
    assert [item["id"] for item in items] == ["patient001", "patient002", "patient003"]
    assert all("label" in item for item in items)
    assert "ED: 1\n" in (tmp_path / "training" / "patient002" / "Info.cfg").read_text()


def test_end_systole_is_the_same_heart_contracted(tmp_path):
    for name, end_systole in (("one", False), ("both", True)):
        write_acdc_phantom(tmp_path / name, 2, size=(64, 72), end_systole=end_systole)
    assert acdc_further_frames(tmp_path / "one") == {}
    for one, diastole in zip(acdc(tmp_path / "one"), acdc(tmp_path / "both"), strict=True):
        assert Path(one["image"]).read_bytes() == Path(diastole["image"]).read_bytes()
        (systole,) = acdc_further_frames(tmp_path / "both")[one["id"]]
        assert load(systole["image"])[0].shape == load(one["image"])[0].shape
        before = np.bincount(load(diastole["label"])[1].ravel())
        after = np.bincount(load(systole["image"].replace(".nii", "_gt.nii"))[1].ravel())
        assert after[1] < 0.8 * before[1] and after[3] < 0.8 * before[3] and after[2] > before[2]


def test_files_have_the_header_of_acdc(tmp_path):
    write_acdc_phantom(tmp_path, ["patient042"], size=(40, 48))
    (item,) = acdc(tmp_path)
    image, pixels = load(item["image"])
    label, mask = load(item["label"])
    assert (pixels.dtype, mask.dtype) == (np.int16, np.uint8)
    assert image.shape == label.shape
    for volume in (image, label):
        spacing_mm = float(volume.header.get_zooms()[0])
        assert 1.2 <= spacing_mm <= 1.8
        np.testing.assert_allclose(volume.affine, np.diag([-spacing_mm, -spacing_mm, 8.0, 1.0]), atol=1e-6)
        assert nib.aff2axcodes(volume.affine) == ("L", "P", "S")
        assert (volume.header["qform_code"], volume.header["sform_code"]) == (1, 1)
        assert volume.header.get_xyzt_units()[0] == "mm"


@pytest.mark.parametrize("seed", range(4))
def test_anatomy_is_that_of_a_heart(seed):
    image, label, spacing_mm = make_volume(np.random.default_rng(seed))
    assert 120 <= min(image.shape[:2]) and max(image.shape[:2]) <= 160
    assert 7 <= image.shape[2] <= 10
    assert image.min() >= 0 and image.max() > 500

    present = np.stack([(label == value).any((0, 1)) for value in range(4)])
    assert present[0].all()
    assert (present[1:].mean(1) > 0.7).all(), "every label is in most slices"
    assert not label[[0, -1]].any() and not label[:, [0, -1]].any(), "the heart is inside the field of view"

    area_mm2 = np.stack([(label == value).sum((0, 1)) for value in range(4)]) * spacing_mm**2
    heart = area_mm2[2] + area_mm2[3]
    middle, last = label.shape[2] // 2, np.flatnonzero(present[3])[-1]
    assert 20 < np.sqrt(heart[middle] / np.pi) < 45, "radius of the epicardium in mm"
    assert heart[last] < 0.7 * heart[middle], "tapers to the apex"
    assert area_mm2[1, last] < 0.7 * area_mm2[1, middle], "so does the right ventricle"

    # A ring: leaving the left ventricle, one comes to the myocardium and nowhere else.
    left = label == 3
    for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
        neighbours = np.roll(left, step, axis) & ~left
        assert set(np.unique(label[neighbours])) == {2}

    means = [image[label == value].mean() for value in range(4)]
    assert min(means[1], means[3]) > 1.5 * means[2], "blood is brighter than muscle"


def test_patients_differ_and_the_seed_decides(tmp_path):
    write_acdc_phantom(tmp_path / "three", 3, size=(32, 40), seed=5)
    write_acdc_phantom(tmp_path / "one", ["patient002"], size=(32, 40), seed=5)
    write_acdc_phantom(tmp_path / "other", ["patient002"], size=(32, 40), seed=6)
    three, (one,), (other,) = (acdc(tmp_path / name) for name in ("three", "one", "other"))
    for key in ("image", "label"):
        np.testing.assert_array_equal(load(one[key])[1], load(three[1][key])[1])
    patients = [*three, other]
    spacings = {load(item["image"])[0].header.get_zooms()[0] for item in patients}
    assert len(spacings) == len(patients)


@pytest.mark.parametrize(
    ("num_patients", "size", "message"),
    [
        (0, (120, 160), "num_patients must be a number from 1 to 999 .* got 0"),
        ([], (120, 160), "num_patients must be a number from 1 to 999"),
        (["patient001", "case7"], (120, 160), "ids of the form patientXXX, got .*case7"),
        (1, (64, 32), r"size must be the least and the greatest .* got \(64, 32\)"),
        (1, (8, 32), "both at least 16"),
    ],
)
def test_phantom_rejects(tmp_path, num_patients, size, message):
    with pytest.raises(ValueError, match=message):
        write_acdc_phantom(tmp_path, num_patients, size)
    assert not list(tmp_path.iterdir())


def test_split_file_is_readable_and_complete(tmp_path):
    ids = [f"patient{number:03d}" for number in range(1, 8)]
    write_phantom_splits(tmp_path / "splits.json", ids, num_pretrain=4)
    one, two = (read_split(tmp_path / "splits.json", number) for number in (1, 2))
    assert one.pretrain == tuple(ids[:4])
    assert (one.labelled, two.labelled) == (("patient001",), ("patient001", "patient002"))
    assert one.validation == two.validation == ("patient005",)
    assert one.test == ("patient006", "patient007")


@pytest.mark.parametrize(
    ("num_pretrain", "num_labelled", "message"),
    [
        (4, (1,), "num_pretrain must leave one patient each .* out of 5, got 4"),
        (0, (1,), "num_pretrain must leave"),
        (3, (1, 4), "num_labelled must be numbers from 1 to num_pretrain=3"),
        (3, (0,), "num_labelled must be numbers"),
        (3, (), "num_labelled must be numbers"),
    ],
)
def test_split_file_needs_enough_patients(tmp_path, num_pretrain, num_labelled, message):
    ids = [f"patient{number:03d}" for number in range(1, 6)]
    with pytest.raises(ValueError, match=message):
        write_phantom_splits(tmp_path / "splits.json", ids, num_pretrain, num_labelled)


@pytest.mark.parametrize("axcodes", ["LPS", "RAS", "SPL", "AIR"])
def test_reoriented_copy_has_every_voxel_in_its_place(tmp_path, axcodes):
    write_acdc_phantom(tmp_path, 1, size=(24, 30))
    (item,) = acdc(tmp_path)
    target = tmp_path / "reoriented.nii.gz"
    write_reoriented(item["image"], target, axcodes)
    source, before = load(item["image"])
    copy, after = load(target)
    assert "".join(nib.aff2axcodes(copy.affine)) == axcodes
    assert after.dtype == before.dtype
    assert (copy.header["qform_code"], copy.header["sform_code"]) == (1, 1)
    voxels = np.stack(np.meshgrid(*map(np.arange, before.shape), indexing="ij"), -1).reshape(-1, 3)
    places = nib.affines.apply_affine(source.affine, voxels)
    found = np.rint(nib.affines.apply_affine(np.linalg.inv(copy.affine), places)).astype(int)
    assert found.min() >= 0
    np.testing.assert_array_equal(after[tuple(found.T)], before[tuple(voxels.T)])


@pytest.mark.parametrize("axcodes", ["LRS", "LP", "XYZ", ""])
def test_reorienting_rejects_what_are_no_axes(tmp_path, axcodes):
    with pytest.raises(ValueError, match=f"axcodes must have one of L and R.* got '{axcodes}'"):
        write_reoriented(tmp_path / "in.nii", tmp_path / "out.nii", axcodes)
