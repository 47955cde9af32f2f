from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.data.datalists import (
    acdc,
    further_image_ids,
    image_label_folders,
    json_datalist,
    mmwhs,
    msd_prostate,
)
from common.data.volume_files import DatasetError


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def make_patient(folder: Path, name: str, frame: str = "01", suffix: str = ".nii.gz", label: bool = True) -> None:
    stem = folder / name / f"{name}_frame{frame}"
    touch(Path(f"{stem}{suffix}"), *([Path(f"{stem}_gt{suffix}")] if label else []))


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


def test_lists_the_real_data(acdc_dir):
    items = acdc(acdc_dir)
    assert [item["id"] for item in items] == [f"patient{number:03d}" for number in range(1, 101)]
    assert all("label" in item for item in items)
    assert {item["id"] for item in items if "frame04" in item["image"]} == {"patient090"}


# ---- folders of images and labels


def make_folders(root: Path, labelled=("b", "a"), unlabelled=("c",), further=("e", "d")) -> None:
    touch(*(root / "imagesTr" / f"{name}.nii.gz" for name in (*labelled, *unlabelled)))
    touch(*(root / "labelsTr" / f"{name}.nii.gz" for name in labelled))
    touch(*(root / "imagesTs" / f"{name}.nii.gz" for name in further))


def ids(items) -> list[str]:
    return [item["id"] for item in items]


def labelled_ids(items) -> list[str]:
    return [item["id"] for item in items if "label" in item]


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


@pytest.mark.parametrize(
    ("make", "datalist"),
    [
        (lambda root: make_folders(root), image_label_folders),
        (lambda root: make_folders(root), msd_prostate),
        (lambda root: make_mmwhs(root), mmwhs),
        (lambda root: make_patient(root / "training", "patient001"), acdc),
        (lambda root: make_patient(root, "patient001"), acdc),
    ],
    ids=["folders", "prostate", "mmwhs", "acdc, training", "acdc"],
)
def test_an_archive_unpacked_one_level_too_deep_is_found(tmp_path, caplog, make, datalist):
    make(tmp_path / "archive" / "archive")
    touch(tmp_path / "archive" / "__MACOSX" / "imagesTr" / "._a.nii.gz", tmp_path / "archive" / "readme.txt")
    with caplog.at_level("WARNING"):
        items = datalist(tmp_path / "archive")
    assert items and all(Path(item["image"]).is_relative_to(tmp_path / "archive" / "archive") for item in items)
    assert f"one level deeper than dataset_dir says: {tmp_path / 'archive' / 'archive'} is used" in caplog.text


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


# ---- MSD Task05


def make_prostate(root: Path, **changes) -> None:
    make_folders(root, labelled=("prostate_00", "prostate_01"), unlabelled=(), further=("prostate_03",))
    content = {
        "name": "PROSTATE",
        "modality": {"0": "T2", "1": "ADC"},
        "labels": {"0": "background", "1": "PZ", "2": "TZ"},
        "training": [
            {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"}
            for name in ("prostate_00", "prostate_01")
        ],
        "test": ["./imagesTs/prostate_03.nii.gz", "./imagesTs/prostate_05.nii.gz"],
    }
    (root / "dataset.json").write_text(json.dumps({**content, **changes}))


def test_prostate_as_it_is_distributed(tmp_path):
    """imagesTs may be incomplete or missing: nothing but five of its images is used."""
    make_prostate(tmp_path)
    items = msd_prostate(tmp_path)
    assert ids(items) == ["prostate_00", "prostate_01", "prostate_03"]
    assert labelled_ids(items) == ["prostate_00", "prostate_01"]


def test_prostate_without_its_index(tmp_path, caplog):
    make_prostate(tmp_path)
    (tmp_path / "dataset.json").unlink()
    with caplog.at_level("INFO"):
        assert len(msd_prostate(tmp_path)) == 3
    assert f"{tmp_path} has no dataset.json" in caplog.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modality": {"0": "ADC", "1": "T2"}}, r"must be that of MSD Task05, with \{'0': 'T2'\} in 'modality', got"),
        ({"modality": None}, "in 'modality', got None"),
        ({"labels": {"0": "background", "1": "prostate"}}, "in 'labels', got .* for another dataset use its own"),
    ],
    ids=["channels", "no channels", "labels"],
)
def test_index_of_another_dataset(tmp_path, changes, message):
    make_prostate(tmp_path, **changes)
    with pytest.raises(DatasetError, match=f"{tmp_path / 'dataset.json'} .*{message}"):
        msd_prostate(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "must be valid JSON"), ("[]", "must hold a JSON object, got list")],
    ids=["cut short", "list"],
)
def test_damaged_index(tmp_path, content, message):
    make_prostate(tmp_path)
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(DatasetError, match=f"dataset.json {message}.* Replace it"):
        msd_prostate(tmp_path)


def test_incomplete_archive(tmp_path):
    make_prostate(tmp_path)
    (tmp_path / "labelsTr" / "prostate_01.nii.gz").unlink()
    touch(tmp_path / "labelsTr" / "prostate_99.nii.gz")
    with pytest.raises(DatasetError, match="lists 1 files that are not there: ./labelsTr/prostate_01.nii.gz") as error:
        msd_prostate(tmp_path)
    assert "prostate_99.nii.gz is a label without an image" in str(error.value)
    assert labelled_ids(error.value.usable) == ["prostate_00"]


def test_real_volumes_in_folders(prostate_dir):
    items = msd_prostate(prostate_dir / "Task05_like")
    assert ids(items) == ["ProstateX-0000", "ProstateX-0001", "ProstateX-0218"]
    assert labelled_ids(items) == ["ProstateX-0000"]


# ---- MM-WHS


def make_mmwhs(root: Path, test: bool = True) -> None:
    for number in (1002, 1001):
        touch(*(root / "mr_train" / f"mr_train_{number}_{kind}.nii.gz" for kind in ("image", "label")))
    if test:
        touch(root / "mr_test" / "mr_test_2001_image.nii.gz")


def test_mmwhs_as_it_is_distributed(tmp_path):
    make_mmwhs(tmp_path)
    touch(
        tmp_path / "ct_train" / "ct_train_1001_image.nii.gz",
        tmp_path / "mr_train" / "._mr_train_1001_image.nii.gz",
        tmp_path / "mr_train" / "mr_train_1001_image_resampled.nii.gz",
    )
    items = mmwhs(tmp_path)
    assert ids(items) == ["mr_test_2001", "mr_train_1001", "mr_train_1002"]
    assert labelled_ids(items) == ["mr_train_1001", "mr_train_1002"]
    assert items[1]["image"] == str(tmp_path / "mr_train" / "mr_train_1001_image.nii.gz")
    assert items[1]["label"] == str(tmp_path / "mr_train" / "mr_train_1001_label.nii.gz")


def test_mmwhs_folder_of_the_files(tmp_path):
    make_mmwhs(tmp_path, test=False)
    assert mmwhs(tmp_path / "mr_train") == mmwhs(tmp_path)


def test_mmwhs_files_that_do_not_fit(tmp_path):
    make_mmwhs(tmp_path)
    touch(tmp_path / "mr_train" / "mr_train_1003_label.nii.gz", tmp_path / "mr_train" / "mr_train_1001_image.nii")
    with pytest.raises(DatasetError, match="have one id, mr_train_1001") as error:
        mmwhs(tmp_path)
    assert "mr_train_1003_label.nii.gz is a label without an image" in str(error.value)
    assert ids(error.value.usable) == ["mr_test_2001", "mr_train_1002"]


def test_mmwhs_without_training_volumes(tmp_path):
    touch(tmp_path / "mr_test" / "mr_test_2001_image.nii.gz", tmp_path / "ct_train" / "ct_train_1001_image.nii.gz")
    with pytest.raises(DatasetError, match="must hold the MR training volumes of MM-WHS .* Set dataset_dir to"):
        mmwhs(tmp_path)


# ---- datalists in JSON


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
