"""Archives that were unpacked into a folder of their own name."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.data.datalists import (
    acdc,
    image_label_folders,
    mmwhs,
    msd_prostate,
)

from .made_up import make_folders, make_mmwhs, make_patient, touch


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
