"""The prostate archive and its index."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.data.datalists import (
    msd_prostate,
)
from common.data.volume_files import DatasetError

from .made_up import ids, labelled_ids, make_folders, touch


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
