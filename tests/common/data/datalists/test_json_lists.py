"""Datalists in JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.data.datalists import (
    json_datalist,
)
from common.data.volume_files import DatasetError

from .made_up import ids, touch


def make_json(root: Path, name: str = "datalist.json", **changes) -> Path:
    touch(*(root / "scans" / f"{letter}.nii.gz" for letter in "abcd"), root / "masks" / "a.nii.gz")
    content = {
        "training": [{"image": "scans/b.nii.gz", "fold": 0}, {"image": "scans/a.nii.gz", "label": "masks/a.nii.gz"}],
        "validation": [{"id": "third", "image": "./scans/c.nii.gz"}],
        "test": ["scans/d.nii.gz"],
    }
    path = root / name
    path.write_text(json.dumps({**content, **changes}))
    return path


@pytest.mark.parametrize("name", ["datalist.json", "dataset.json"])
def test_datalist_in_json(tmp_path, name):
    make_json(tmp_path, name)
    items = json_datalist(tmp_path)
    assert ids(items) == ["a", "b", "d", "third"]
    assert items[0] == {
        "id": "a",
        "image": str(tmp_path / "scans" / "a.nii.gz"),
        "label": str(tmp_path / "masks" / "a.nii.gz"),
    }
    assert all(set(item) == {"id", "image"} and Path(item["image"]).is_file() for item in items[1:])


def test_datalist_with_a_byte_order_mark(tmp_path):
    expected = make_json(tmp_path).read_text(encoding="utf-8")
    items = json_datalist(tmp_path)
    (tmp_path / "datalist.json").write_text(expected, encoding="utf-8-sig")
    assert json_datalist(tmp_path) == items


def test_an_id_that_is_also_a_file_is_an_id(tmp_path):
    touch(tmp_path / "third")
    make_json(tmp_path)
    assert "third" in ids(json_datalist(tmp_path))


def test_datalist_goes_before_dataset(tmp_path):
    make_json(tmp_path, "dataset.json")
    make_json(tmp_path, validation=[], test=[])
    assert ids(json_datalist(tmp_path)) == ["a", "b"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation": [{"id": "a", "image": "scans/c.nii.gz"}]}, "a.nii.gz, .*c.nii.gz have one id, a"),
        ({"validation": [{"image": "scans/x.nii.gz"}]}, "x.nii.gz is not there, but .*datalist.json lists it. Copy it"),
        ({"validation": [{"image": "scans/c.nii.gz", "label": "masks/c.nii.gz"}]}, "masks/c.nii.gz is not there"),
        ({"validation": [{"label": "masks/a.nii.gz"}]}, r"must have items with an image.*KeyError: 'image'"),
        ({"validation": [{"image": ["scans/b.nii.gz", "scans/c.nii.gz"]}]}, "must have items with an image.*TypeError"),
        ({"validation": ["scans/c.nii.gz"]}, "must have items with an image.*AttributeError"),
        (
            {"training": [], "validation": [], "test": []},
            "must list volumes in training or validation or test, got none",
        ),
    ],
    ids=["same id", "no image file", "no label file", "no image", "two images", "no object", "empty"],
)
def test_bad_datalist(tmp_path, changes, message):
    path = make_json(tmp_path, **changes)
    with pytest.raises(DatasetError, match=message) as error:
        json_datalist(tmp_path)
    assert str(path) in str(error.value) or "have one id" in message or "is not there" in message


def test_no_datalist(tmp_path):
    with pytest.raises(DatasetError, match="must hold a datalist, datalist.json or dataset.json, got"):
        json_datalist(tmp_path)
