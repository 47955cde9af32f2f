"""A release in an empty folder, in a process that cannot see the repository: all that a user does with it."""

from __future__ import annotations

import json
import shutil
import zipfile

import nibabel
import numpy as np
import pytest

from experiments.phantom import write_acdc_phantom, write_phantom_splits
from tests.bundles.conftest import NETWORK, OPTIONS, PREPROCESSING
from tests.conftest import SHARED_DATA

from .conftest import NAME, run_clean

SCHEMA = SHARED_DATA / "monai" / "meta_schema_20240725.json"
REAL = SHARED_DATA / "acdc" / "training" / "patient001" / "patient001_frame01.nii.gz"
WEIGHTS = {"pretrained_encoder.pt", "pretrained_encoder_decoder.pt", "model.pt"}
# To start processes takes longer than to preprocess the phantoms.
DATASETS = {
    "pretrain_global": ["train"],
    "pretrain_local": ["train"],
    "train": ["train", "validate", "unlabelled"],
    "evaluate": [],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """An empty folder with the unpacked bundle and phantoms."""
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def found(place, without_weights):
    """Run everything, and return what came of it."""
    pytest.importorskip("onnxruntime", reason="ONNX needs the packages of the extra `onnx`")
    with zipfile.ZipFile(without_weights) as archive:
        archive.extractall(place)
    data, splits = place / "data", place / "splits.json"
    ids = write_acdc_phantom(data, 7, size=(64, 72))
    write_phantom_splits(splits, ids, 4)
    image = data / "training" / ids[-1] / f"{ids[-1]}_frame01.nii.gz"
    runs = {}
    for config, datasets in DATASETS.items():
        runs[config] = {
            **PREPROCESSING,
            **NETWORK,
            **OPTIONS[config],
            "dataset_dir": str(data),
            "split_path": str(splits),
        }
        runs[config] |= {f"{dataset}#dataset#num_workers": 0 for dataset in datasets}
    schema = place / "schema.json"
    if SCHEMA.is_file():
        shutil.copyfile(SCHEMA, schema)
    volume = REAL if REAL.is_file() else image
    settings = {"runs": runs, "schema": str(schema) if SCHEMA.is_file() else "", "volume": str(volume)}
    (place / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    shutil.copyfile(__file__.replace("test_clean_place", "clean_place"), place / "clean_place.py")
    run_clean(place / NAME, place / "clean_place.py", place / "settings.json", place / "found.json")
    # As a command, and from another folder.
    options = {**PREPROCESSING, **NETWORK, "input": image, "bundle_root": NAME}
    arguments = [part for key, value in options.items() for part in (f"--{key}", str(value).replace(" ", ""))]
    run_clean(place, "monai.bundle", "run", "run", "--config_file", f"{NAME}/configs/inference.json", *arguments)
    return json.loads((place / "found.json").read_text(encoding="utf-8")) | {"image": image, "schema": schema}


def test_the_repository_cannot_be_seen(found):
    assert found["visible"] == []
    assert found["module"] == f"scripts.{NAME}.networks.unet2d"


def test_every_stage_leaves_its_files_in_the_bundle(found, place):
    bundle = place / NAME
    assert {path.name for path in (bundle / "models").glob("*.pt")} == WEIGHTS
    scores = json.loads((bundle / "output" / "evaluate" / "evaluation.json").read_text(encoding="utf-8"))["mean_dice"]
    assert set(scores) == {"RV", "Myo", "LV", "mean"}
    image = nibabel.load(found["image"])
    labels = nibabel.load(bundle / "output" / "inference" / found["image"].name.replace(".nii", "_seg.nii"))
    assert labels.shape == image.shape and np.array_equal(labels.affine, image.affine)


def test_load_gives_the_network_with_its_weights(found):
    assert found["loaded"]


@pytest.mark.skipif(not SCHEMA.is_file(), reason=f"MONAI's schema is not at {SCHEMA}")
def test_metadata_follow_the_schema_without_the_network(found):
    assert found["schema"].read_bytes() == SCHEMA.read_bytes()  # had it been wrong, the run would have failed


@pytest.mark.parametrize("runtime", ["torchscript", "onnx"])
def test_other_runtimes_give_the_same_labels(found, runtime):
    assert found["stack"][0] >= 7 and found["stack"][1:] == [1, 192, 192] and len(found["labels"]) > 1
    # A network after two steps hardly prefers one class to another: of 370,000 pixels one or two are ties to rounding.
    assert found[runtime]["labels that differ"] <= 3 and found[runtime]["margin there"] < 1e-5, found[runtime]
    assert found[runtime]["largest difference"] < 2e-4
