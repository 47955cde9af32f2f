"""Folders of images and labels."""

from __future__ import annotations

import pytest

from common.data.datalists import (
    further_image_ids,
    image_label_folders,
)
from common.data.volume_files import DatasetError

from .made_up import ids, labelled_ids, make_folders, touch


def test_images_and_labels_of_folders(tmp_path):
    make_folders(tmp_path)
    items = image_label_folders(str(tmp_path))
    assert ids(items) == ["a", "b", "c", "d", "e"] and labelled_ids(items) == ["a", "b"]
    assert items[0] == {
        "id": "a",
        "image": str(tmp_path / "imagesTr" / "a.nii.gz"),
        "label": str(tmp_path / "labelsTr" / "a.nii.gz"),
    }
    assert items[3] == {"id": "d", "image": str(tmp_path / "imagesTs" / "d.nii.gz")}


def test_folders_without_labels_or_further_images(tmp_path):
    touch(tmp_path / "imagesTr" / "a.nii")
    assert image_label_folders(tmp_path) == [{"id": "a", "image": str(tmp_path / "imagesTr" / "a.nii")}]


def test_hidden_and_other_files_are_passed_over(tmp_path):
    make_folders(tmp_path)
    junk = ("imagesTr/._a.nii.gz", "imagesTr/.DS_Store", "labelsTr/._a.nii.gz", "imagesTs/._d.nii.gz", "labelsTr/a.txt")
    touch(*(tmp_path / name for name in junk))
    assert ids(image_label_folders(tmp_path)) == ["a", "b", "c", "d", "e"]
    assert further_image_ids(tmp_path, 5) == ["d", "e"]


@pytest.mark.parametrize(
    ("extra", "message", "usable"),
    [
        (
            "imagesTr/a.nii",
            r"imagesTr/a\.nii, .*imagesTr/a\.nii\.gz have one id, a, .* one image. Keep",
            ["b", "c", "d"],
        ),
        (
            "labelsTr/a.nii",
            r"labelsTr/a\.nii, .*labelsTr/a\.nii\.gz have one id, a, .* one label. Keep",
            ["b", "c", "d"],
        ),
        ("imagesTs/c.nii.gz", r"imagesTr/c.nii.gz, .*imagesTs/c.nii.gz have one id, c", ["a", "b", "d"]),
        ("labelsTr/x.nii.gz", r"labelsTr/x.nii.gz is a label without an image of the id x. Add", ["a", "b", "c", "d"]),
    ],
    ids=["image twice", "label twice", "in two folders", "label without image"],
)
def test_files_that_do_not_fit_are_named_and_the_others_listed(tmp_path, extra, message, usable):
    make_folders(tmp_path, further=("d",))
    touch(tmp_path / extra)
    with pytest.raises(DatasetError, match=message) as error:
        image_label_folders(tmp_path)
    assert ids(error.value.usable) == usable


@pytest.mark.parametrize("exists", [True, False])
def test_folder_without_images(tmp_path, exists):
    if exists:
        touch(tmp_path / "imagesTr" / "._a.nii.gz", tmp_path / "labelsTr" / "a.nii.gz")
    folder = tmp_path if exists else tmp_path / "nowhere"
    with pytest.raises(DatasetError, match="dataset_dir must hold a folder imagesTr with NIfTI files") as error:
        image_label_folders(folder)
    assert str(folder) in str(error.value) and ("(no such folder)" in str(error.value)) != exists


def test_no_guess_between_two_datasets(tmp_path):
    for name in ("first", "second"):
        make_folders(tmp_path / name)
    with pytest.raises(DatasetError, match="must hold one dataset, got .*first, .*second. Set dataset_dir to one"):
        image_label_folders(tmp_path)


def test_first_further_images(tmp_path, caplog):
    make_folders(tmp_path, further=("e", "f", "d"))
    with caplog.at_level("INFO"):
        assert further_image_ids(tmp_path, 2) == ["d", "e"]
        assert further_image_ids(tmp_path, 5) == ["d", "e", "f"]
    assert "2 of 2 further volumes" in caplog.text and "3 of 5 further volumes" in caplog.text
    assert further_image_ids(tmp_path / "nowhere", 5) == []
    assert further_image_ids(tmp_path / "imagesTr", 5) == []
