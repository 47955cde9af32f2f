"""Which photographs are segmented."""

from __future__ import annotations

import logging

import pytest

from common.data.photograph_inputs import photographs
from common.data.volume_files import DatasetError


@pytest.fixture
def folder(tmp_path):
    for name in (
        "b.jpg",
        "a.png",
        "a_seg.png",
        "a_overlay.png",
        "c_gtFine_labelIds.png",
        "c_gtFine_color.png",
        "x.tif",
    ):
        (tmp_path / name).touch()
    return tmp_path


def names(items):
    return [item["id"] for item in items]


def test_a_folder_has_photographs_and_what_was_made_of_them(folder, caplog):
    with caplog.at_level(logging.WARNING):
        items = photographs(folder)
    assert names(items) == ["a", "b"] and items[1]["image"] == str(folder / "b.jpg")
    assert "4 files" in caplog.text and "a_seg.png" in caplog.text
    assert "x.tif" in caplog.text


def test_files_by_their_names_are_always_taken(folder):
    assert names(photographs([folder / "a_seg.png", folder / "b.jpg", folder / "b.jpg"])) == ["a_seg", "b"]
    assert names(photographs(folder / "b.jpg", folder / "b.jpg")) == ["b"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("gone.png", "must be a photograph or a folder, got .*gone.png', which does not exist"),
        ("x.tif", r"must be photographs \(.png, .jpg, .jpeg\), got .*x.tif': this bundle segments no other files"),
        ("deep", "got the folder .*deep' without any. It has inside.*Give a file, or the folder that the files are in"),
        ("empty", "without any. It is empty"),
        (["a.png", "more/a.jpg"], "must have each name once.*a.png.*more.a.jpg.*output_dir of its own"),
        ([], "got an empty list"),
    ],
)
def test_what_is_no_photograph_is_refused(folder, given, message):
    (folder / "deep" / "inside").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "more").mkdir()
    (folder / "more" / "a.jpg").touch()
    paths = [folder / name for name in given] if isinstance(given, list) else folder / given
    with pytest.raises(DatasetError, match=message):
        photographs(paths)


def test_two_names_for_one_thing_must_agree(folder):
    with pytest.raises(ValueError, match="dataset_dir and input are two names"):
        photographs(folder, folder / "a.png")
