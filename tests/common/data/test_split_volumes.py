"""Which volumes serve for what: labelled and unlabelled ones, one frame of each patient or all."""

from __future__ import annotations

import json

import pytest

from common.data.split_volumes import SplitVolumes
from common.data.splits import SplitError
from common.data.volume_files import DatasetError

# Patients a, b and c are pre-trained on; v is for validation, t for the test, o is labelled in one draw only.
SPLIT = {
    "pretrain": ["a", "b", "c"],
    "test": ["t"],
    "draws": {"1": {"c1": {"labelled": ["a"], "validation": ["v"]}, "c2": {"labelled": ["o"], "validation": ["c"]}}},
}
FRAMES = {"a": ["a_frame07", "a_frame12"], "c": ["c_frame09"], **{id_: [f"{id_}_frame10"] for id_ in "otvx"}}


def datalist(folder):
    return [{"id": id_, "image": f"{folder}/{id_}", "label": f"{folder}/{id_}_gt"} for id_ in "abcotvx"]


def further_frames(folder):
    return {id_: [{"id": name, "image": f"{folder}/{name}"} for name in names] for id_, names in FRAMES.items()}


@pytest.fixture
def volumes(tmp_path):
    (tmp_path / "splits.json").write_text(json.dumps(SPLIT))

    def make(unlabelled_frames="all", further=further_frames, **arguments):
        frames = {"unlabelled_frames": unlabelled_frames, "further_frames": further}
        return SplitVolumes(datalist, str(tmp_path), tmp_path / "splits.json", **frames, **arguments)

    return make


def ids(items):
    return [item["id"] for item in items]


def test_a_single_frame_of_each_patient_is_the_default(volumes, tmp_path):
    plain = SplitVolumes(datalist, str(tmp_path), tmp_path / "splits.json")
    for split in (plain, volumes("single"), volumes("single", further=None)):
        assert ids(split.pretraining()) == ["a", "b", "c"] == ids(split.without_labels([]))
        assert split.listed(str(tmp_path)) == datalist(tmp_path)


def test_all_frames_of_the_patients_to_pretrain_on(volumes, tmp_path):
    split = volumes()
    further = ["a_frame07", "a_frame12", "c_frame09"]
    assert ids(split.pretraining()) == ["a", "b", "c", *further] == ids(split.without_labels([]))
    assert ids(split.listed(str(tmp_path))) == [*ids(datalist("")), *further]
    assert not any("label" in item for item in split.pretraining())


def test_patients_who_are_not_pretrained_on_add_no_frames(volumes):
    """Whether they are labelled or for validation in the draw."""
    expected = ids(volumes(draw="c1").pretraining())
    assert ids(volumes(draw="c2").pretraining()) == expected and not {"o_frame10", "v_frame10"} & set(expected)


def test_labels_stay_those_of_one_frame(volumes):
    one, all_ = volumes("single"), volumes("all")
    for name in ("labelled", "validation"):
        assert getattr(all_, name)() == getattr(one, name)() != []
    assert ids(all_.subset("test")) == ["t"]


def test_patients_that_are_added_add_their_frames(volumes):
    assert ids(volumes(extra_unlabelled_ids=["x"]).pretraining())[-4:] == [
        "a_frame07", "a_frame12", "c_frame09", "x_frame10",
    ]  # fmt: skip


@pytest.mark.parametrize("value", ["ALL", "one", "", None, True, ["all"]])
def test_other_values_are_refused(volumes, value):
    with pytest.raises(SplitError, match="unlabelled_frames must be single .* or all .*, got ") as error:
        volumes(value)
    assert repr(value) in str(error.value) and "choose one" in str(error.value)


def test_all_needs_a_list_of_frames(volumes):
    with pytest.raises(SplitError, match="unlabelled_frames must be single where nothing lists further frames"):
        volumes("all", further=None)


def test_all_needs_frames_of_patients_to_pretrain_on(volumes, tmp_path):
    split = volumes(further=lambda folder: {"t": [{"id": "t_frame10", "image": "t"}]})
    for method in (split.pretraining, lambda: split.listed(str(tmp_path))):
        with pytest.raises(SplitError, match=r"single one of each \(a, b, c\)\. Unpack the whole dataset"):
            method()
    assert ids(split.labelled()) == ["a"]


def test_a_test_patient_is_never_pretrained_on(volumes):
    with pytest.raises(SplitError, match="extra_unlabelled_ids and test must have no id in common"):
        volumes(extra_unlabelled_ids=["t"]).pretraining()


def test_frames_of_another_layout_are_no_hindrance_to_the_test(volumes):
    """Where the datalist was replaced and the list of frames was not."""

    def no_such_layout(folder):
        raise DatasetError(f"no patients in {folder}")

    assert volumes("single", further=no_such_layout).test_contents() == []
