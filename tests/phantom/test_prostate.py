from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from common.data.datalists import msd_prostate
from phantom import write_prostate_phantom, write_reoriented
from phantom.files import reoriented
from phantom.prostate import LABELLED_IDS, UNLABELLED_IDS, make_image

SIZE = (40, 48)


def load(path):
    image = nib.load(path)
    return image, np.asanyarray(image.dataobj)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    """Two volumes with a label, the second of which has the gland as one value, and one without."""
    root = tmp_path_factory.mktemp("prostate") / "Task05_Prostate"
    assert write_prostate_phantom(root, ["prostate_00", "prostate_18"], 1, SIZE) == ["prostate_00", "prostate_18"]
    return root


def test_ids_are_those_of_task05():
    assert (len(LABELLED_IDS), len(UNLABELLED_IDS)) == (32, 16)
    assert len({*LABELLED_IDS, *UNLABELLED_IDS}) == 48


def test_layout_is_that_of_task05(phantom):
    items = {item["id"]: set(item) for item in msd_prostate(phantom)}
    with_label = {"id", "image", "label"}
    assert items == {"prostate_00": with_label, "prostate_03": {"id", "image"}, "prostate_18": with_label}
    junk = {str(path.relative_to(phantom)) for path in phantom.rglob("._*")}
    assert {"._dataset.json", "imagesTr/._prostate_00.nii.gz", "labelsTr/._prostate_18.nii.gz"} < junk
    assert "imagesTs/._prostate_03.nii.gz" in junk


def test_header_is_that_of_task05(phantom):
    for item in msd_prostate(phantom):
        image, voxels = load(item["image"])
        assert image.shape[3] == 2 and voxels.dtype == np.float32
        assert "".join(nib.aff2axcodes(image.affine)) == "RAS"
        assert (image.header["qform_code"], image.header["sform_code"]) == (0, 2)
        if "label" in item:
            label, mask = load(item["label"])
            assert (label.shape, mask.dtype) == (image.shape[:3], np.uint8)
            np.testing.assert_array_equal(label.affine, image.affine)


def test_slices_are_tilted(phantom):
    image, _ = load(phantom / "imagesTr" / "prostate_00.nii.gz")
    assert nib.affines.obliquity(image.affine).max() > np.deg2rad(1)


@pytest.mark.parametrize(("name", "values"), [("prostate_00", {0, 1, 2}), ("prostate_18", {0, 1})])
def test_labels_of_some_volumes_have_the_gland_as_one(phantom, name, values):
    assert set(np.unique(load(phantom / "labelsTr" / f"{name}.nii.gz")[1])) == values


@pytest.mark.parametrize("seed", range(3))
def test_anatomy_is_that_of_a_prostate(tmp_path, seed):
    write_prostate_phantom(tmp_path, ["prostate_01"], 0, (96, 112), seed)
    image = reoriented(load(tmp_path / "imagesTr" / "prostate_01.nii.gz")[0], "LPS")
    label = np.asanyarray(reoriented(load(tmp_path / "labelsTr" / "prostate_01.nii.gz")[0], "LPS").dataobj)
    t2, adc = np.moveaxis(np.asanyarray(image.dataobj), -1, 0)
    spacing_mm = nib.affines.voxel_sizes(image.affine)

    gland_ml = (label > 0).sum() * spacing_mm.prod() / 1000
    assert 15 < gland_ml < 90
    assert not label[[0, -1]].any() and not label[:, [0, -1]].any()
    peripheral, transition = (np.argwhere(label == value) * spacing_mm for value in (1, 2))
    assert peripheral[:, 1].mean() > transition[:, 1].mean() + 3, "the peripheral zone lies behind"
    assert abs(peripheral[:, 0].mean() - transition[:, 0].mean()) < 3, "both are in the middle"

    bright, dark = (t2[label == value] for value in (1, 2))
    assert bright.mean() > 1.4 * dark.mean()
    assert dark.std() > 0.05 * dark.mean(), "texture"
    assert adc[label == 1].mean() > 1.1 * adc[label == 2].mean()
    assert np.median(t2[:, :3]) < 0.2 * np.median(t2), "air before the skin"


def test_real_labels_make_the_anatomy(tmp_path):
    """A label in another orientation, twice as fine as the phantom: the same places have the same zones."""
    zones = np.zeros((64, 64, 9), np.uint8)
    zones[20:44, 20:44, 2:7], zones[24:40, 24:34, 3:6] = 1, 2
    affine = np.diag([-1.5, -1.5, 4.0, 1.0])
    affine[:3, 3] = 40, -25, 7
    (tmp_path / "labels").mkdir()
    nib.save(nib.Nifti1Image(zones, affine), tmp_path / "labels" / "lps.nii.gz")
    write_reoriented(tmp_path / "labels" / "lps.nii.gz", tmp_path / "labels" / "prostate_00.nii.gz", "PIR")
    write_prostate_phantom(tmp_path, ["prostate_00", "prostate_01"], 0, (32, 32), labels_dir=tmp_path / "labels")
    label, mask = load(tmp_path / "labelsTr" / "prostate_00.nii.gz")
    assert label.shape == (32, 32, 9)
    voxels = np.argwhere(np.ones(label.shape))
    places = nib.affines.apply_affine(np.linalg.inv(affine) @ label.affine, voxels)
    np.testing.assert_array_equal(mask[tuple(voxels.T)], zones[tuple(np.rint(places + 1e-3).astype(int).T)])
    assert load(tmp_path / "imagesTr" / "prostate_01.nii.gz")[0].shape[2] >= 15, "made up without a label"


def test_real_label_volumes_of_task05(prostate_dir, tmp_path):
    """Two of them; the second has no zones, but its picture has."""
    write_prostate_phantom(
        tmp_path, ["prostate_07", "prostate_32"], 0, (80, 80), labels_dir=prostate_dir / "msd_labelsTr"
    )
    for name, values in (("prostate_07", {0, 1, 2}), ("prostate_32", {0, 1})):
        label, mask = load(tmp_path / "labelsTr" / f"{name}.nii.gz")
        real, truth = load(prostate_dir / "msd_labelsTr" / f"{name}.nii.gz")
        assert set(np.unique(mask)) == values
        ml = [
            (voxels > 0).sum() * nib.affines.voxel_sizes(of.affine).prod() / 1000
            for of, voxels in ((label, mask), (real, truth))
        ]
        assert ml[0] == pytest.approx(ml[1], rel=0.05)
        t2 = load(tmp_path / "imagesTr" / f"{name}.nii.gz")[1][..., 0]
        assert t2[mask == 1].std() > 0.1 * t2[mask == 1].mean()


def test_volumes_differ_and_the_seed_decides(tmp_path):
    write_prostate_phantom(tmp_path / "two", 2, 1, SIZE, seed=5)
    write_prostate_phantom(tmp_path / "one", ["prostate_01"], 0, SIZE, seed=5)
    write_prostate_phantom(tmp_path / "other", ["prostate_01"], 0, SIZE, seed=6)
    two, one, other = (load(tmp_path / name / "imagesTr" / "prostate_01.nii.gz")[1] for name in ("two", "one", "other"))
    np.testing.assert_array_equal(two, one)
    assert one.shape != other.shape or not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_patients": 0}, "num_patients must be a number from 1 to 32 .* got 0"),
        ({"num_patients": 33}, "num_patients must be a number from 1 to 32 .* got 33"),
        ({"num_patients": -1}, "got -1"),
        ({"num_patients": ["prostate_03"]}, r"ids of Task05 that have a label .* got \['prostate_03'\]"),
        ({"num_unlabelled": 17}, "num_unlabelled must be a number from 0 to 16, got 17"),
        ({"size": (48, 40)}, r"size must be the least and the greatest .* got \(48, 40\)"),
        ({"size": (8, 40)}, "both at least 16"),
    ],
    ids=["none", "too many", "negative", "no label", "unlabelled", "decreasing", "small"],
)
def test_phantom_rejects(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        write_prostate_phantom(tmp_path, **arguments)
    assert not list(tmp_path.iterdir())


def test_image_needs_a_prostate():
    with pytest.raises(ValueError, match="zones must have some prostate"):
        make_image(np.random.default_rng(0), np.zeros((16, 16, 4), np.uint8), (2.0, 2.0, 4.0))
