"""MR volumes of MM-WHS."""

from __future__ import annotations

import pytest

from common.data.datalists import (
    mmwhs,
)
from common.data.volume_files import DatasetError

from .made_up import ids, labelled_ids, make_mmwhs, touch


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
