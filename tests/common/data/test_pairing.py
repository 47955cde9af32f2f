"""Names of items that come without any."""

from __future__ import annotations

import pytest

from common.data.pairing import with_ids


@pytest.mark.parametrize(
    ("images", "ids"),
    [
        (["/a/one.nii.gz", "/a/two.nii"], ["one", "two"]),
        (["/a/p1/image.nii.gz", "/a/p2/image.nii.gz"], ["p1_image", "p2_image"]),
        (["/a/x/s/i.nii", "/b/x/s/i.nii"], ["a_x_s_i", "b_x_s_i"]),
        (["/a/street.png"], ["street"]),
        (["/a/one.nii", "/a/one.nii"], ["one", "one"]),  # the same file twice
        ([], []),
    ],
)
def test_items_are_called_like_their_files(images, ids):
    items = [{"image": image, "label": "x"} for image in images]
    found = with_ids(items)
    assert [item["id"] for item in found] == ids
    assert [{key: item[key] for key in ("image", "label")} for item in found] == items
    assert all("id" not in item for item in items)


def test_ids_that_are_there_stay():
    items = [{"id": "b", "image": "/a/one.nii"}, {"image": "/b/one.nii"}]
    assert [item["id"] for item in with_ids(items)] == ["b", "one"]
