"""Labels without structures are refused or said."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from common.data.foreground import check_foreground
from common.transforms import VolumeError

CLASSES = ["background", "RV", "LV"]


def volume(name, *classes):
    label = torch.zeros(1, 4, 4, 2)
    for place, value in enumerate(classes):
        label[0, place, 0, 0] = value
    return {"label": MetaTensor(label, meta={"filename_or_obj": f"/data/{name}_gt.nii.gz"})}


FULL = volume("full", 1, 2)


def test_nothing_is_said_of_good_labels(caplog):
    check_foreground([FULL], [FULL, volume("empty")], CLASSES)
    check_foreground([volume("one", 1), volume("two", 2)], [], CLASSES)
    assert not caplog.records


def test_labels_without_any_structure_are_refused():
    with pytest.raises(VolumeError) as caught:
        check_foreground([volume("a"), volume("b")], [FULL], CLASSES)
    for part in ("/data/a_gt.nii.gz", "/data/b_gt.nii.gz", "RV or LV", "only background", "image_size"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("labelled", "validation", "message"),
    [
        ([FULL, volume("empty")], [FULL], "1 of 2 labelled volumes have no structure"),
        ([volume("one", 1)], [FULL], "LV is in none of the 1 labelled volumes"),
        ([FULL], [volume("empty")], "No structure is labelled in any of the 1 validation volumes"),
    ],
    ids=["one volume", "one class", "validation"],
)
def test_what_is_missing_is_said(labelled, validation, message, caplog):
    check_foreground(labelled, validation, CLASSES)
    (record,) = caplog.records
    assert message in record.getMessage()
    assert ("/data/empty_gt.nii.gz" in record.getMessage()) == ("LV is" not in message)
