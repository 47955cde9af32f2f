from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from common.data.datalists import mmwhs
from phantom import mmwhs as module
from phantom import write_mmwhs_phantom

SIZE = (40, 44)


def load(path):
    image = nib.load(path)
    return image, np.asanyarray(image.dataobj)


def places(label, image, value):
    """Return mm to the left, the back and the head of the voxels with a value."""
    return nib.affines.apply_affine(image.affine, np.argwhere(label == value)) * (-1, -1, 1)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    root = tmp_path_factory.mktemp("mmwhs")
    write_mmwhs_phantom(root, 6, SIZE)
    return [(load(item["image"]), load(item["label"])) for item in mmwhs(root)]


def test_layout_is_that_of_mmwhs(tmp_path):
    ids = write_mmwhs_phantom(tmp_path, ["mr_train_1003", "mr_train_1001"], (20, 24))
    assert ids == ["mr_train_1003", "mr_train_1001"]
    files = [f"mr_train_{number}_{kind}.nii.gz" for number in (1001, 1003) for kind in ("image", "label")]
    assert sorted(path.name for path in (tmp_path / "mr_train").iterdir()) == files
    items = mmwhs(tmp_path)
    assert [item["id"] for item in items] == ["mr_train_1001", "mr_train_1003"]
    assert all("label" in item for item in items)


def test_labels_have_the_values_of_the_challenge(phantom):
    for index, (_, (_, label)) in enumerate(phantom):
        values, counts = np.unique(label, return_counts=True)
        stray = {421} if index == 1 else set()
        assert set(values) == {0, 205, 420, 500, 550, 600, 820, 850} | stray
        assert not stray or counts[values == 421] == 5


def test_volumes_are_stored_in_many_ways(phantom):
    images = [image for (image, _), _ in phantom]
    codes = {"".join(nib.aff2axcodes(image.affine)) for image in images}
    assert len(codes) == 6
    assert {nib.io_orientation(image.affine)[2, 0] for image in images} == {0, 1, 2}, "any axis is the last"
    left_handed = [np.linalg.det(image.affine) < 0 for image in images]
    assert any(left_handed) and not all(left_handed)
    oblique = [nib.affines.obliquity(image.affine).max() > np.deg2rad(10) for image in images]
    assert sum(oblique) == 1
    for image in images:
        first, second, third = nib.affines.voxel_sizes(image.affine)
        assert first == pytest.approx(second) and 1.14 < third / first < 1.41


def test_image_and_label_have_one_grid(phantom):
    for (image, pixels), (label, mask) in phantom:
        assert (pixels.dtype, mask.dtype) == (np.int16, np.int16)
        assert image.shape == label.shape
        np.testing.assert_array_equal(image.affine, label.affine)
        assert (image.header["qform_code"], image.header["sform_code"]) == (1, 1)
        np.testing.assert_allclose(image.get_qform(), image.affine, atol=1e-3)


def test_anatomy_is_that_of_a_heart_however_it_is_stored(phantom):
    for (image, pixels), (_, label) in phantom:
        ml = {
            value: (label == value).sum() * nib.affines.voxel_sizes(image.affine).prod() / 1000
            for value in module.LABEL_VALUES
        }
        assert all(20 < volume < 180 for volume in ml.values()), ml
        centre = {value: places(label, image, value).mean(0) for value in module.LABEL_VALUES}
        left, back, up = 0, 1, 2
        assert centre[module.LEFT_VENTRICLE][left] > centre[module.RIGHT_VENTRICLE][left] + 10
        assert centre[module.LEFT_ATRIUM][left] > centre[module.RIGHT_ATRIUM][left] + 10
        assert centre[module.LEFT_ATRIUM][back] > centre[module.LEFT_VENTRICLE][back] + 10
        assert centre[module.RIGHT_VENTRICLE][back] < centre[module.LEFT_VENTRICLE][back] - 5
        for vessel in (module.ASCENDING_AORTA, module.PULMONARY_ARTERY):
            assert centre[vessel][up] > centre[module.LEFT_VENTRICLE][up] + 20
        np.testing.assert_allclose(centre[module.MYOCARDIUM], centre[module.LEFT_VENTRICLE], atol=15)

        means = {value: pixels[label == value].mean() for value in module.LABEL_VALUES}
        blood = [mean for value, mean in means.items() if value != module.MYOCARDIUM]
        assert min(blood) > 1.15 * means[module.MYOCARDIUM]
        corners = pixels[:: image.shape[0] - 1, :: image.shape[1] - 1, :: image.shape[2] - 1]
        assert np.median(corners) < 0.2 * means[module.MYOCARDIUM], "air around the chest"


def test_patients_differ_and_the_seed_decides(tmp_path):
    write_mmwhs_phantom(tmp_path / "three", 3, (20, 24), seed=5)
    write_mmwhs_phantom(tmp_path / "one", ["mr_train_1003"], (20, 24), seed=5)
    write_mmwhs_phantom(tmp_path / "other", ["mr_train_1003"], (20, 24), seed=6)
    three, one, other = (
        load(tmp_path / name / "mr_train" / "mr_train_1003_image.nii.gz")[1] for name in ("three", "one", "other")
    )
    np.testing.assert_array_equal(three, one)
    assert one.shape != other.shape or not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("num_patients", "size", "message"),
    [
        (0, SIZE, "num_patients must be a number from 1 to 99 .* got 0"),
        (100, SIZE, "num_patients must be a number from 1 to 99"),
        (["1001"], SIZE, r"ids of the form mr_train_10XX, got \['1001'\]"),
        (1, (44, 40), r"size must be the least and the greatest .* got \(44, 40\)"),
        (1, (8, 40), "both at least 16"),
    ],
)
def test_phantom_rejects(tmp_path, num_patients, size, message):
    with pytest.raises(ValueError, match=message):
        write_mmwhs_phantom(tmp_path, num_patients, size)
    assert not list(tmp_path.iterdir())
