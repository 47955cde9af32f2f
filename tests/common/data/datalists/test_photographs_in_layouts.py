"""Photographs: Cityscapes, CamVid, and those of any dataset."""

from __future__ import annotations

import pytest

from common.data.datalists import camvid, cityscapes, photograph_label_folders
from common.data.volume_files import DatasetError

from .made_up import ids, labelled_ids, touch

AACHEN, LINDAU = "aachen_000000_000019", "lindau_000001_000019"


def make_cityscapes(root):
    for part, name in (("train", AACHEN), ("val", LINDAU), ("test", "berlin_000000_000019")):
        city = name.split("_")[0]
        touch(root / "leftImg8bit" / part / city / f"{name}_leftImg8bit.png")
        kinds = ("labelIds.png", "color.png", "instanceIds.png", "polygons.json")
        touch(*(root / "gtFine" / part / city / f"{name}_gtFine_{kind}" for kind in kinds))


def make_camvid(root):
    for part, name in (("train", "b"), ("val", "a"), ("test", "c")):
        touch(root / part / "image" / f"{name}.jpg", root / part / "label" / f"{name}.png")


def make_photographs(root):
    touch(*(root / "imagesTr" / f"{name}.jpg" for name in "ba"), root / "imagesTs" / "c.png")
    touch(*(root / "labelsTr" / f"{name}.png" for name in "ab"))


def test_photographs_of_any_dataset(tmp_path):
    make_photographs(tmp_path)
    items = photograph_label_folders(tmp_path)
    assert ids(items) == ["a", "b", "c"] and labelled_ids(items) == ["a", "b"]
    assert items[0]["label"] == str(tmp_path / "labelsTr" / "a.png")
    touch(tmp_path / "imagesTs" / "a.png")
    with pytest.raises(DatasetError, match="have one id, a"):
        photograph_label_folders(tmp_path)


def test_cityscapes_as_it_is_distributed(tmp_path):
    make_cityscapes(tmp_path)
    touch(
        tmp_path / "leftImg8bit" / "train" / "aachen" / "._aachen_000000_000019_leftImg8bit.png",
        tmp_path / "leftImg8bit" / "train_extra" / "bayreuth" / "bayreuth_000000_000019_leftImg8bit.png",
        tmp_path / "leftImg8bit" / "train" / "Thumbs.db",
    )
    items = cityscapes(tmp_path)
    assert ids(items) == labelled_ids(items) == [AACHEN, LINDAU]
    assert items[0] == {
        "id": AACHEN,
        "image": str(tmp_path / "leftImg8bit" / "train" / "aachen" / f"{AACHEN}_leftImg8bit.png"),
        "label": str(tmp_path / "gtFine" / "train" / "aachen" / f"{AACHEN}_gtFine_labelIds.png"),
    }


def test_camvid_in_its_parts(tmp_path):
    make_camvid(tmp_path)
    items = camvid(tmp_path)
    assert ids(items) == labelled_ids(items) == ["a", "b", "c"]
    assert items[1]["image"] == str(tmp_path / "train" / "image" / "b.jpg")


def test_real_camvid(camvid_dir):
    items = camvid(camvid_dir)
    assert len(items) == len(labelled_ids(items)) == 367 + 101 + 233


@pytest.mark.parametrize(
    ("make", "datalist", "image", "label"),
    [
        (make_cityscapes, cityscapes, f"leftImg8bit/val/lindau/{LINDAU}_leftImg8bit.png", "gtFine/train/aachen/"),
        (make_camvid, camvid, "val/image/a.jpg", "train/label/b.png"),
        (make_photographs, photograph_label_folders, "imagesTr/a.jpg", "labelsTr/b.png"),
    ],
    ids=["cityscapes", "camvid", "any"],
)
def test_files_that_do_not_fit(tmp_path, make, datalist, image, label):
    make(tmp_path)
    (tmp_path / image).unlink()  # a label without a photograph
    path = tmp_path / label
    (next(path.glob("*labelIds.png")) if path.is_dir() else path).unlink()  # and the other way round
    with pytest.raises(DatasetError, match="is a label without an image of the id.*Add the image") as error:
        datalist(tmp_path)
    usable = error.value.usable
    without = [item["id"] for item in usable if "label" not in item]
    assert len(usable) >= 1 and without[:1] == ids(usable)[:1]


def test_a_photograph_without_its_label_is_listed_without(tmp_path):
    make_cityscapes(tmp_path)
    next(tmp_path.glob("gtFine/val/*/*labelIds.png")).unlink()
    assert labelled_ids(cityscapes(tmp_path)) == [AACHEN] and len(cityscapes(tmp_path)) == 2


@pytest.mark.parametrize("datalist", [cityscapes, camvid, photograph_label_folders])
def test_no_photographs(tmp_path, datalist):
    touch(tmp_path / "leftImg8bit" / "aachen" / f"{AACHEN}_leftImg8bit.png")
    with pytest.raises(DatasetError, match=r"dataset_dir must hold .*set dataset_dir to|Set dataset_dir to"):
        datalist(tmp_path)
    with pytest.raises(DatasetError, match="no such folder"):
        datalist(tmp_path / "gone")


@pytest.mark.parametrize(
    ("make", "datalist"),
    [(make_cityscapes, cityscapes), (make_camvid, camvid), (make_photographs, photograph_label_folders)],
)
def test_a_folder_one_level_too_deep(tmp_path, make, datalist):
    make(tmp_path / "unpacked")
    assert datalist(tmp_path) == datalist(tmp_path / "unpacked")
