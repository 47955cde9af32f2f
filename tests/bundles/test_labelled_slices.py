"""Volumes of which some slices are labelled, through the bundle's configs."""

from __future__ import annotations

import shutil

import nibabel
import numpy as np
import pytest

from common.lineage import read_lineage
from common.transforms import VolumeError
from tests.phantoms import change_voxels

LABELLED, KEPT = "patient001", (3, 5)


@pytest.fixture
def partly(phantom, tmp_path):
    """The dataset with a volume of which two slices are labelled, and the number of its slices."""
    shutil.copytree(phantom.dataset_dir, tmp_path / "data")
    path = tmp_path / "data" / phantom.label(LABELLED).relative_to(phantom.dataset_dir)

    def leave_out(voxels):
        others = [index for index in range(voxels.shape[2]) if index not in KEPT]
        changed = voxels.copy()
        changed[..., others] = 255
        return changed

    change_voxels(path, leave_out)
    options = {"dataset_dir": tmp_path / "data", "initialisation": "random", "labelled": [LABELLED]}
    return options, nibabel.load(path).shape[2]


def test_the_others_count_as_unlabelled(phantom, partly, tmp_path, caplog):
    options, num_slices = partly
    phantom.run("train", tmp_path, **options, self_training_rounds=1)
    volumes = read_lineage(tmp_path / "models" / "model.pt")["volumes"]
    assert [row[0] for row in volumes["labelled"]] == [LABELLED]
    assert LABELLED in [row[0] for row in volumes["self-training"]]
    config = phantom.config("train", tmp_path, **options, self_training_rounds=1)
    slices, pseudo = (config.get_parsed_content(f"train#{name}") for name in ("slices", "pseudo_labelled"))
    assert len(slices) == len(KEPT) and len(slices.numbers[0]) == len(KEPT)
    assert set(np.unique(slices.labels)) <= {0, 1, 2, 3} and (slices.labels > 0).any()
    assert pseudo.num_predicted == pseudo.num_volumes == 4
    whole = phantom.config("train", tmp_path, **{**options, "dataset_dir": phantom.dataset_dir}, self_training_rounds=1)
    assert len(whole.get_parsed_content("train#slices")) == num_slices
    assert whole.get_parsed_content("train#pseudo_labelled").num_predicted == 3


def test_what_is_compared_with_must_be_whole(phantom, partly, tmp_path):
    options, _ = partly
    error = phantom.fail(
        "train",
        tmp_path,
        dataset_dir=options["dataset_dir"],
        initialisation="random",
        **{"validate#dataset#data": [{**phantom.items[LABELLED], "label": label_of(options, phantom)}]},
        labelled=["patient002"],
    )
    assert isinstance(error, VolumeError) and "which only volumes to train on may have" in str(error)


def label_of(options, phantom):
    return str(options["dataset_dir"] / phantom.label(LABELLED).relative_to(phantom.dataset_dir))
