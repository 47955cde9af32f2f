"""Which files are segmented, and which are read beside labelled ones."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from common.data.inputs import images, images_beside
from common.data.volume_files import DatasetError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def names_of(items) -> list[str]:
    return [Path(item["image"]).name for item in items]


def test_a_folder_and_a_single_file(tmp_path):
    touch(tmp_path, "b.nii", "a.x.nii.gz", "._a.nii.gz", "notes.txt")
    assert images(tmp_path) == [
        {"id": "a.x", "image": str(tmp_path / "a.x.nii.gz")},
        {"id": "b", "image": str(tmp_path / "b.nii")},
    ]
    assert images(str(tmp_path / "notes.txt")) == [{"id": "notes.txt", "image": str(tmp_path / "notes.txt")}]


def test_a_list_of_files_and_folders(tmp_path):
    touch(tmp_path, "one/b.nii", "one/a.nii", "c.nii.gz")
    given = [str(tmp_path / "c.nii.gz"), str(tmp_path / "one"), str(tmp_path / "one" / "a.nii")]
    assert names_of(images(given)) == ["c.nii.gz", "a.nii", "b.nii"]


@pytest.mark.parametrize(
    ("make", "given", "message"),
    [
        ((), "missing", "got '.*missing', which does not exist"),
        ((), "", r"got the folder '.*' without any\. It is empty"),
        (("sub/a.nii", "x.txt"), "", r"without any\. It has sub/, x\.txt\. Give a file, or the folder"),
        (("a.nii", "a.nii.gz"), "", r"must have each name once, .* got .*a\.nii, .*a\.nii\.gz\. Segment them"),
        (("a.nii", "a.NII"), "", "must have each name once"),
        (("a.img",), "a.img", r"a\.img must have its header a\.hdr beside it"),
        (("a.hdr",), "a.hdr", r"a\.hdr must have its voxels a\.img beside it"),
    ],
    ids=["missing", "empty", "others", "two suffixes", "two cases", "no header", "no voxels"],
)
def test_errors(tmp_path, make, given, message):
    touch(tmp_path, *make)
    with pytest.raises(DatasetError, match=message):
        images(tmp_path / given)


def test_two_files_of_one_name_are_refused(tmp_path):
    touch(tmp_path, "one/image.nii.gz", "two/image.nii.gz")
    with pytest.raises(DatasetError, match=r"each name once.*one/image\.nii\.gz, .*two/image\.nii\.gz.* output_dir"):
        images([str(tmp_path / "one"), str(tmp_path / "two")])


def test_an_empty_list_is_refused():
    with pytest.raises(DatasetError, match="got an empty list"):
        images([])


@pytest.mark.parametrize(
    "name",
    [
        "a_seg.nii.gz",
        "a_gt.nii.gz",
        "a_label.nii",
        "a_GT.nii",
        "label.nii.gz",
        "a-mask.nii",
        "a.segmentation.nii",
        "a_uncertainty.nii.gz",
    ],
)
def test_labels_and_own_outputs_are_no_images(tmp_path, caplog, name):
    touch(tmp_path, "a.nii.gz", "segment.nii", "target.nii", name)
    assert names_of(images(tmp_path)) == ["a.nii.gz", "segment.nii", "target.nii"]
    assert f"1 files of {tmp_path} are left out, which are labels by their names or a datalist: {name}." in caplog.text
    assert names_of(images(tmp_path / name)) == [name]  # given by its name


def test_labels_of_a_datalist_are_no_images(tmp_path):
    touch(tmp_path, "x1.nii", "x2.nii")
    (tmp_path / "datalist.json").write_text(json.dumps({"training": [{"image": "x1.nii", "label": "./x2.nii"}]}))
    assert names_of(images(os.path.join(tmp_path, "..", tmp_path.name))) == ["x1.nii"]
    (tmp_path / "datalist.json").write_text("that of another program")
    assert names_of(images(tmp_path)) == ["x1.nii", "x2.nii"]


def test_a_folder_of_labels_has_no_images(tmp_path, caplog):
    touch(tmp_path, "labelsTr/a.nii")
    with pytest.raises(DatasetError, match="without any"):
        images(tmp_path / "labelsTr")
    assert "are left out" in caplog.text


@pytest.mark.parametrize("suffix", [".NII.GZ", ".NII", ".Nii.gz"])
def test_suffixes_in_capitals(tmp_path, suffix):
    touch(tmp_path, f"X{suffix}")
    assert images(tmp_path) == [{"id": "X", "image": str(tmp_path / f"X{suffix}")}]


def test_folders_called_like_files(tmp_path):
    touch(tmp_path, "a.nii/a.nii", "b.nii.gz/c.nii.gz", "b.nii.gz/.d.nii", "b.nii.gz/e.txt")
    assert names_of(images(tmp_path)) == ["a.nii", "c.nii.gz"]


@pytest.mark.parametrize(("header", "voxels"), [("a.hdr", "a.img"), ("A.HDR", "A.IMG")])
def test_two_files_are_one_volume(tmp_path, header, voxels):
    touch(tmp_path, header, voxels, "b.hdr")
    expected = [{"id": header[0], "image": str(tmp_path / header)}]
    assert images(tmp_path) == images(tmp_path / voxels) == images(tmp_path / header) == expected


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha", "a.DCM", "b.img", "b.hdr", "IM0001"])
def test_other_formats_are_named_with_a_remedy(tmp_path, caplog, name):
    touch(tmp_path, "x.nii", "README", "notes.txt")
    (tmp_path / name).write_bytes(bytes(128) + b"DICM")
    assert names_of(images(tmp_path)) == ["x.nii"]
    assert f"are not NIfTI (.nii.gz, .nii, or .hdr with .img) and are left out: {name}. Convert them" in caplog.text


def test_links_and_pipes(tmp_path):
    """A link that leads nowhere is listed, so that reading it names it; a pipe would be waited for."""
    (tmp_path / "loop.nii").symlink_to(tmp_path / "loop.nii")
    (tmp_path / "nowhere.nii").symlink_to(tmp_path / "missing.nii")
    (tmp_path / "here").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.nii")
    touch(tmp_path, "a.nii")
    assert names_of(images(tmp_path)) == ["a.nii", "loop.nii", "nowhere.nii"]


def test_a_folder_that_may_not_be_read(tmp_path, monkeypatch):
    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)  # root may read everything
    with pytest.raises(DatasetError, match="must be a folder that can be read, but: Permission denied. Get the right"):
        images(tmp_path)


def test_the_options_two_names(tmp_path):
    touch(tmp_path, "a.nii")
    one = str(tmp_path)
    assert images(one) == images(one, None) == images(one, one)
    with pytest.raises(ValueError, match="dataset_dir and input are two names .* got '.*' and 'other'. Give one"):
        images(one, "other")


def test_images_beside(tmp_path, caplog):
    touch(tmp_path, "b.nii.gz", "a.nii", "d.nii.gz", ".c.nii.gz", "notes.txt", "labels/final/b.nii.gz")
    touch(tmp_path, "mixed/e_gt.nii", "mixed/e.nii")
    items = [
        {"image": str(tmp_path / "b.nii.gz"), "label": str(tmp_path / "labels" / "final" / "b.nii.gz")},
        {"image": str(tmp_path / "mixed" / "e.nii"), "label": str(tmp_path / "mixed" / "e_gt.nii")},
    ]
    with caplog.at_level(logging.INFO):
        found = images_beside(items, 20)
    assert (
        f"3 images are read without labels, those given and others beside them: {tmp_path / 'b.nii.gz'}" in caplog.text
    )
    assert found == [
        {"id": "b", "image": str(tmp_path / "b.nii.gz")},
        {"id": "a", "image": str(tmp_path / "a.nii")},
        {"id": "d", "image": str(tmp_path / "d.nii.gz")},
    ]
    assert images_beside(items, 2) == found[:2]
    assert images_beside(items[1:], 20) == []


def test_labels_and_own_outputs_beside_are_not_read(tmp_path, caplog):
    touch(tmp_path, "a.nii.gz", "a_seg.nii.gz", "b.nii.gz", "b_gt.nii.gz", "study_seg.nii.gz")
    items = [{"image": str(tmp_path / name), "label": str(tmp_path / "labels" / name)} for name in ("a.nii.gz",)]
    assert names_of(images_beside(items, 20)) == ["a.nii.gz", "b.nii.gz"]
    assert "3 files of" in caplog.text and "b_gt.nii.gz" in caplog.text
    items[0]["image"] = str(tmp_path / "study_seg.nii.gz")  # what an annotator opened is an image
    assert names_of(images_beside(items, 20)) == ["study_seg.nii.gz", "a.nii.gz", "b.nii.gz"]
