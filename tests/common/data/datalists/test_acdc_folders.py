"""ACDC: patients, frames, and folders that are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.data.datalists import acdc, acdc_end_systole, acdc_further_frames
from common.data.splits import pretraining_ids
from common.data.volume_files import DatasetError
from tests.places import CONFIGS

from .made_up import make_patient, touch


@pytest.mark.parametrize("below", ["", "training", "database/training"])
def test_finds_patients_in_each_accepted_place(tmp_path, below):
    for name in ("patient010", "patient002"):
        make_patient(tmp_path / below, name)
    folder = tmp_path / below
    assert acdc(tmp_path) == [
        {
            "id": name,
            "image": str(folder / name / f"{name}_frame01.nii.gz"),
            "label": str(folder / name / f"{name}_frame01_gt.nii.gz"),
        }
        for name in ("patient002", "patient010")
    ]


def test_accepts_a_string_and_gives_strings(tmp_path):
    make_patient(tmp_path, "patient001")
    (item,) = acdc(str(tmp_path))
    assert all(isinstance(value, str) for value in item.values())


@pytest.mark.parametrize(
    ("frames", "info", "expected"),
    [
        (["01", "04", "12"], "ED: 12\n", "01"),
        (["04", "11"], None, "04"),
        (["04", "11"], "ED: 11\n", "04"),
        (["07", "12"], "ED: 7\nES: 12\n", "07"),
        (["07", "12"], "ES: 7\r\nED: 12\r\nNbFrame: 30", "12"),
    ],
    ids=["first", "fourth", "fourth before Info.cfg", "Info.cfg", "Info.cfg of Windows"],
)
def test_takes_the_end_diastolic_frame(tmp_path, frames, info, expected):
    for frame in frames:
        make_patient(tmp_path, "patient001", frame)
    if info:
        (tmp_path / "patient001" / "Info.cfg").write_bytes(info.encode())
    (item,) = acdc(tmp_path)
    assert Path(item["image"]).name == f"patient001_frame{expected}.nii.gz"
    assert Path(item["label"]).name == f"patient001_frame{expected}_gt.nii.gz"


def test_reads_uncompressed_files(tmp_path):
    make_patient(tmp_path, "patient001", suffix=".nii")
    (item,) = acdc(tmp_path)
    assert item["image"].endswith("patient001_frame01.nii")
    assert item["label"].endswith("patient001_frame01_gt.nii")


def test_leaves_out_the_label_where_there_is_none(tmp_path):
    make_patient(tmp_path, "patient001", label=False)
    (item,) = acdc(tmp_path)
    assert set(item) == {"id", "image"}


def test_passes_over_everything_else(tmp_path):
    training = tmp_path / "training"
    make_patient(training, "patient001")
    make_patient(training, "patient001", frame="12")
    make_patient(tmp_path / "testing", "patient101")
    make_patient(training, "._patient002")
    make_patient(training, "patient0003")
    touch(
        training / ".DS_Store",
        training / "patient004",  # a file, not a folder
        training / "patient001" / "._patient001_frame01.nii.gz",
        training / "patient001" / "patient001_4d.nii.gz",
        training / "patient001" / "MANDATORY_CITATION.md",
    )
    (item,) = acdc(tmp_path)
    assert item["image"] == str(training / "patient001" / "patient001_frame01.nii.gz")


def test_names_every_place_where_it_found_no_patient(tmp_path):
    (tmp_path / "training").mkdir()
    with pytest.raises(DatasetError, match="dataset_dir must hold the patient folders") as error:
        acdc(tmp_path)
    message = str(error.value)
    assert f"looked in {tmp_path}, {tmp_path / 'training'}, {tmp_path / 'database/training'} (no such" in message
    assert "Set dataset_dir" in message


def test_says_that_the_folder_is_missing(tmp_path):
    missing = tmp_path / "nowhere"
    with pytest.raises(DatasetError, match=r"nowhere \(no such folder\)"):
        acdc(missing)


@pytest.mark.parametrize("junk", ["patient002_4d.nii.gz", "patient002_frame12.nii.gz", "._patient002_frame01.nii.gz"])
def test_names_a_patient_without_its_volume(tmp_path, junk):
    make_patient(tmp_path, "patient001")
    touch(tmp_path / "patient002" / junk)
    with pytest.raises(DatasetError, match=r"patient002 must hold its end-diastolic volume.* 01, 04 "):
        acdc(tmp_path)


def test_patients_are_listed_in_spite_of_bad_ones(tmp_path):
    for name in ("patient001", "patient004"):
        make_patient(tmp_path, name)
    for name in ("patient002", "patient003"):
        touch(tmp_path / name / f"{name}_4d.nii.gz")
    with pytest.raises(DatasetError, match=r"patient002 must hold .*\n.*patient003 must hold") as error:
        acdc(tmp_path)
    assert [item["id"] for item in error.value.usable] == ["patient001", "patient004"]


def test_test_patients_are_not_taken_for_a_dataset_one_level_deeper(tmp_path):
    make_patient(tmp_path / "testing", "patient101")
    with pytest.raises(DatasetError, match="dataset_dir must hold the patient folders"):
        acdc(tmp_path)


def test_names_the_frame_that_info_asks_for(tmp_path):
    touch(tmp_path / "patient002" / "patient002_4d.nii.gz")
    (tmp_path / "patient002" / "Info.cfg").write_text("ED: 9\nES: 2\n")
    with pytest.raises(DatasetError, match=r"NN one of 01, 04, 09 "):
        acdc(tmp_path)


@pytest.mark.parametrize("suffix", [".NII.GZ", ".Nii", ".hdr"])
def test_other_forms_of_a_patients_files(tmp_path, suffix):
    make_patient(tmp_path, "patient001", suffix=suffix)
    if suffix == ".hdr":
        make_patient(tmp_path, "patient001", suffix=".img")
    (item,) = acdc(tmp_path)
    assert item["image"].endswith(f"_frame01{suffix}") and item["label"].endswith(f"_frame01_gt{suffix}")


def test_patients_files_in_folders_called_like_them(tmp_path):
    folder = tmp_path / "patient001" / "patient001_frame01.nii"
    touch(folder / "patient001_frame01.nii")
    assert acdc(tmp_path) == [{"id": "patient001", "image": str(folder / "patient001_frame01.nii")}]


def further_ids(folder):
    return {patient: [item["id"] for item in items] for patient, items in acdc_further_frames(folder).items()}


@pytest.mark.parametrize(
    ("frames", "info", "expected"),
    [
        (["12", "01", "04"], "ED: 12\n", ["04", "12"]),
        (["11", "04"], None, ["11"]),
        (["07", "12"], "ED: 7\nES: 12\n", ["12"]),
        (["07", "12"], None, ["07", "12"]),  # end-diastole is not there: `acdc` says so
        (["01"], None, None),
    ],
)
def test_further_frames_are_all_but_the_end_diastolic_one(tmp_path, frames, info, expected):
    make_patient(tmp_path / "training", "patient002")
    for frame in frames:
        make_patient(tmp_path / "training", "patient001", frame)
    if info:
        (tmp_path / "training" / "patient001" / "Info.cfg").write_text(info)
    found = further_ids(tmp_path)
    assert found == ({"patient001": [f"patient001_frame{frame}" for frame in expected]} if expected else {})


def test_further_frames_are_images_of_their_own_patient_only(tmp_path):
    training = tmp_path / "training"
    for frame in ("01", "12"):
        make_patient(training, "patient001", frame)
    make_patient(tmp_path / "testing", "patient101", "12")
    folder = training / "patient001"
    touch(
        folder / "patient001_4d.nii.gz",
        folder / "patient001_frame07_gt.nii.gz",
        folder / "patient001_frame08_seg.nii.gz",
        folder / "patient001_frame123.nii.gz",
        folder / "patient002_frame12.nii.gz",
        folder / "._patient001_frame13.nii.gz",
        folder / "patient001_frame14.txt",
        training / "patient001_frame15.nii.gz",
    )
    assert acdc_further_frames(tmp_path) == {
        "patient001": [{"id": "patient001_frame12", "image": str(folder / "patient001_frame12.nii.gz")}]
    }


def test_a_frame_that_is_there_twice_is_listed_once(tmp_path):
    for suffix in (".nii", ".nii.gz"):
        for frame in ("01", "12"):
            make_patient(tmp_path, "patient001", frame, suffix)
    (item,) = acdc_further_frames(tmp_path)["patient001"]
    assert item == {"id": "patient001_frame12", "image": str(tmp_path / "patient001" / "patient001_frame12.nii")}


def test_further_frames_need_patients(tmp_path):
    with pytest.raises(DatasetError, match="dataset_dir must hold the patient folders"):
        acdc_further_frames(tmp_path)


def test_lists_the_further_frames_of_the_real_data(acdc_dir):
    further = acdc_further_frames(acdc_dir)
    assert set(further) >= set(pretraining_ids(CONFIGS / "splits.json"))
    items = [item for items in further.values() for item in items]
    assert len({item["id"] for item in items}) == len(items)
    listed = {item["image"] for item in acdc(acdc_dir)}
    assert all(item["image"] not in listed and item["image"].endswith(f"{item['id']}.nii.gz") for item in items)


def test_lists_the_real_data(acdc_dir):
    items = acdc(acdc_dir)
    assert [item["id"] for item in items] == [f"patient{number:03d}" for number in range(1, 101)]
    assert all("label" in item for item in items)
    assert {item["id"] for item in items if "frame04" in item["image"]} == {"patient090"}


@pytest.mark.parametrize(
    ("frames", "info", "expected"),
    [
        (["01", "12"], "ED: 1\nES: 12\n", "12"),
        (["01", "12", "20"], "ED: 1\nES: 20\n", "20"),
        (["01", "02"], "ES: 2\n", "02"),
        (["01", "12"], None, "12"),  # the only other one
        (["01", "12", "20"], None, None),  # either could be it
        (["01", "12"], "ED: 1\nES: 9\n", None),  # the named one is not there
        (["01"], "ED: 1\nES: 1\n", None),  # end-diastole itself
        (["01"], None, None),
    ],
)
def test_end_systole_is_the_frame_that_info_names(tmp_path, frames, info, expected):
    for frame in frames:
        make_patient(tmp_path, "patient001", frame)
    if info is not None:
        (tmp_path / "patient001" / "Info.cfg").write_text(info)
    item = acdc_end_systole(tmp_path).get("patient001")
    name = f"patient001_frame{expected}"
    files = {
        kind: str(tmp_path / "patient001" / f"{name}{end}.nii.gz") for kind, end in (("image", ""), ("label", "_gt"))
    }
    assert item == (None if expected is None else {"id": name, **files})


def test_an_end_systolic_frame_may_lack_its_label(tmp_path):
    for frame in ("01", "12"):
        make_patient(tmp_path, "patient001", frame)
    (tmp_path / "patient001" / "patient001_frame12_gt.nii.gz").unlink()
    assert list(acdc_end_systole(tmp_path)["patient001"]) == ["id", "image"]


def test_end_systole_needs_patients(tmp_path):
    with pytest.raises(DatasetError, match="dataset_dir must hold the patient folders"):
        acdc_end_systole(tmp_path)


def test_lists_the_end_systolic_frames_of_the_real_data(acdc_dir):
    found = acdc_end_systole(acdc_dir)
    assert set(found) == set(pretraining_ids(CONFIGS / "splits.json"))
    assert found["patient001"]["id"] == "patient001_frame12" and "label" not in found["patient001"]
