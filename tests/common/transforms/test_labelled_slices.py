"""Labels with slices that nobody has labelled: which are found, and what is refused."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.data.slices import Slices
from common.preprocessing import VolumePipeline
from common.transforms import CheckWholeSlicesd, FindLabelledSlicesd, VolumeError
from common.transforms.labelled_slices import LABELLED_SLICES

NAMES = ["background", "first", "second"]
SHAPE = (40, 36, 6)
LEFT_OUT = (0, 3, 4)


def make_label(left_out=LEFT_OUT):
    label = np.zeros(SHAPE, np.uint8)
    label[10:30, 8:20] = 1
    label[12:20, 10:16] = 2
    label[..., list(left_out)] = 255
    return label


def as_data(label):
    return {"label": MetaTensor(torch.as_tensor(label)[None].float(), meta={"filename_or_obj": "a_gt.nii.gz"})}


def save(folder, label, axcodes="LPS", affine=(-1.5, -1.5, 8.0, 1.0)):
    """Write an image and its label, both in the order that the axes' codes say; return their paths."""
    paths = {}
    image = np.random.default_rng(0).normal(100, 20, SHAPE).astype(np.float32)
    image += np.arange(SHAPE[2]) * 10  # so that slices can be told apart
    for key, array in (("image", image), ("label", label)):
        wanted = nibabel.orientations.axcodes2ornt(axcodes)
        file = nibabel.Nifti1Image(array, np.diag(affine))
        file = file.as_reoriented(nibabel.orientations.ornt_transform(nibabel.io_orientation(file.affine), wanted))
        paths[key] = str(folder / f"{key}.nii.gz")
        nibabel.save(file, paths[key])
    return paths


def pipeline(**options):
    return VolumePipeline([32, 32], 1.8, NAMES, n4_shrink=None, **options)


def test_labelled_slices_are_found_and_the_others_made_background():
    found = FindLabelledSlicesd("label")(CheckWholeSlicesd("label")(as_data(make_label())))
    assert found[LABELLED_SLICES].tolist() == [False, True, True, False, False, True]
    assert set(found["label"].unique().tolist()) == {0, 1, 2}
    wanted = np.where(make_label() == 255, 0, make_label())
    assert np.array_equal(found["label"][0], wanted) and found["label"].meta["filename_or_obj"] == "a_gt.nii.gz"


def test_where_all_are_labelled_nothing_is_said():
    given = as_data(make_label(()))
    found = FindLabelledSlicesd("label")(CheckWholeSlicesd("label")(given))
    assert LABELLED_SLICES not in found and found["label"] is given["label"]


@pytest.mark.parametrize("places", [np.s_[:1, :1], np.s_[:, 1:], np.s_[1:, :]])
def test_a_part_of_a_slice_is_refused(places):
    label = make_label()
    label[(*places, 5)] = 255
    with pytest.raises(VolumeError, match=r"a_gt.* all of a slice or nowhere in it, got a part of 1 of 6 slices \(5\)"):
        CheckWholeSlicesd("label")(as_data(label))


def test_a_label_without_a_labelled_slice_is_refused():
    with pytest.raises(VolumeError, match=r"must have at least one labelled slice, got 255.*in all 6: label one"):
        CheckWholeSlicesd("label")(as_data(np.full(SHAPE, 255)))


@pytest.mark.parametrize("axcodes", ["LPS", "RAS", "SPL", "LIP"])
@pytest.mark.parametrize("margin", [None, 3.0])
def test_in_every_orientation_the_same_slices_are_labelled(tmp_path, axcodes, margin):
    paths = save(tmp_path, make_label(), axcodes)
    plain = pipeline(trim_margin_mm=margin)
    volume = plain.image_and_label(plain.image())(paths)
    kept = volume[LABELLED_SLICES].nonzero().flatten().tolist()
    levels = [float(volume["image"][0, :, :, index].mean()) for index in range(SHAPE[2])]
    order = np.argsort(levels)  # the slices in the order in which they were made
    assert sorted(int(np.flatnonzero(order == index)[0]) for index in kept) == [1, 2, 5]
    assert set(volume["label"].unique().tolist()) <= {0, 1, 2}
    slices = Slices.from_volumes([volume])
    assert len(slices) == 3 and slices.labels.unique().tolist() == [0, 1, 2] and (slices.labels > 0).any(2).any(1).all()


def test_trimming_does_not_count_them_as_lost(tmp_path, caplog):
    paths = save(tmp_path, make_label())
    file = nibabel.load(paths["image"])
    voxels = np.asanyarray(file.dataobj).copy()
    voxels[:8], voxels[32:] = 0, 0  # air
    nibabel.save(nibabel.Nifti1Image(voxels, file.affine), paths["image"])
    plain = pipeline(trim_margin_mm=0.0)
    assert plain.image_and_label(plain.image())(paths)[LABELLED_SLICES].sum() == 3
    assert "loses" not in caplog.text


def test_a_value_that_is_a_class_says_nothing_else(tmp_path):
    paths = save(tmp_path, np.where(make_label(()) > 0, 255, 0).astype(np.uint8))
    plain = pipeline(label_values={"0": 0, "255": 1})
    volume = plain.image_and_label(plain.image())(paths)
    assert LABELLED_SLICES not in volume and set(volume["label"].unique().tolist()) == {0, 1}


def test_labels_to_compare_with_must_be_whole(tmp_path):
    plain = pipeline()
    with pytest.raises(RuntimeError) as caught:
        plain.image_and_stored_label(plain.image())(save(tmp_path, make_label()))
    cause = caught.value.__cause__
    assert isinstance(cause, VolumeError)
    assert "255 says that a slice is not labelled, which only volumes to train on may have" in str(cause)
