"""A release in an empty folder, in processes that see the packages that it names and nothing else: what a user does."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
from monai.bundle import verify_metadata
from PIL import Image

from tests.phantoms import Phantom, as_text
from tests.places import BUNDLES, SHARED_DATA

from .clean_process import run_clean

REAL = {  # a real volume, if there is one
    "acdc": "acdc/training/patient001/patient001_frame01.nii.gz",
    "prostate": "prostate/Task05_like/imagesTr/*.nii.gz",
    "mmwhs": "mmwhs/mr_train/*_image.nii.gz",
    "cityscapes": "camvid/test/image/*.jpg",
}
WEIGHTS = ["model.pt", "pretrained_encoder.pt", "pretrained_encoder_decoder.pt"]
# To start processes takes longer than to preprocess the phantoms.
LOADED = {
    "pretrain_global": ["train#dataset"],
    "pretrain_local": ["train#dataset"],
    "train": ["train#dataset", "validate#dataset", "unlabelled"],
    "evaluate": [],
}
OWN_PATHS = ("cache_dir", "ckpt_dir", "output_dir", "checkpoint")  # those in the bundle are to be used


@pytest.fixture(
    scope="module",
    params=["acdc", *(pytest.param(name, marks=pytest.mark.slow) for name in BUNDLES if name != "acdc")],
)
def phantom(request, phantom, tmp_path_factory):
    """The phantom of the dataset of each bundle in turn, in an otherwise empty folder."""
    original = phantom if request.param == "acdc" else request.getfixturevalue(f"{request.param}_phantom")
    root = tmp_path_factory.mktemp("place") / request.param
    shutil.copytree(original.root, root)
    return Phantom(root, original.bundle)


@pytest.fixture(scope="module")
def archive(phantom, exported):
    (path,) = exported[1].glob(f"{phantom.bundle.name}_v*.zip")
    return path


def unpack(archive, folder):
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)


@pytest.fixture(scope="module")
def found(phantom, archive, named_site):
    """Unpack the bundle beside the phantom, run everything with the packages that it names, and return what came."""
    place, name = phantom.root, phantom.bundle.name
    unpack(archive, place)

    def settings_of(config):
        settings = phantom.settings(config, place)
        return {key: as_text(value) for key, value in settings.items() if key not in OWN_PATHS}

    runs = {config: settings_of(config) for config in LOADED}
    for config, datasets in LOADED.items():
        runs[config] |= {f"{dataset}#num_workers": 0 for dataset in datasets}
    (place / "settings.json").write_text(json.dumps({"runs": runs}), encoding="utf-8")
    script = Path(__file__).with_name("clean_place.py")
    run_clean(place / name, script, place / "settings.json", place / "found.json", site=named_site)
    # As a command, and from another folder.
    options = {**settings_of("inference"), "input": phantom.image(last_of(phantom)), "bundle_root": name}
    arguments = [part for key, value in options.items() for part in (f"--{key}", str(value).replace(" ", ""))]
    run_clean(
        place,
        "monai.bundle",
        "run",
        "run",
        "--config_file",
        f"{name}/configs/inference.json",
        *arguments,
        site=named_site,
    )
    return json.loads((place / "found.json").read_text(encoding="utf-8"))


def last_of(phantom):
    return list(phantom.items)[-1]


def test_the_repository_and_other_packages_cannot_be_seen(found, phantom):
    assert found["visible"] == []
    assert found["module"] == f"scripts.{phantom.bundle.name}.networks.unet2d"


def test_every_stage_leaves_its_files_in_the_bundle(found, phantom):
    assert found["written"] == WEIGHTS
    bundle = phantom.root / phantom.bundle.name
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
    classes = metadata["network_data_format"]["outputs"]["pred"]["channel_def"].values()
    scores = json.loads((bundle / "output" / "evaluate" / "evaluation.json").read_text(encoding="utf-8"))["mean_dice"]
    assert {*scores, "background"} == {*classes, "mean"}
    for stage in ("evaluate", "inference"):
        assert "<dialog" in (bundle / "output" / stage / "report.html").read_text(encoding="utf-8")
    path = phantom.image(last_of(phantom))
    if path.suffix == ".png":
        labels = Image.open(bundle / "output" / "inference" / f"{path.stem}_seg.png")
        assert labels.size == Image.open(path).size
        return
    image = nibabel.load(path)
    labels = nibabel.load(bundle / "output" / "inference" / path.name.replace(".nii", "_seg.nii"))
    assert labels.shape == image.shape[:3] and np.array_equal(labels.affine, image.affine)


def test_load_gives_the_network_with_its_weights(found):
    assert found["loaded"]


def test_metadata_follow_the_schema(phantom, archive, monai_schema, tmp_path):
    pytest.importorskip("jsonschema", reason="MONAI checks a schema with jsonschema")
    unpack(archive, tmp_path)
    shutil.copyfile(monai_schema, tmp_path / "schema.json")  # where MONAI finds one it fetches none
    metadata = tmp_path / phantom.bundle.name / "configs" / "metadata.json"
    verify_metadata(meta_file=str(metadata), filepath=str(tmp_path / "schema.json"))  # raises where it is wrong


def metadata_of(bundle):
    """Return the data format of the network."""
    return json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))["network_data_format"]


@pytest.mark.slow
def test_other_runtimes_give_the_same_labels(found, phantom, archive):
    """With the weights of the release where it has some; with those of two steps otherwise."""
    for package in ("onnxruntime", "onnxscript"):
        pytest.importorskip(package, reason="ONNX needs the packages of the extra `onnx`")
    place, name = phantom.root / "again", phantom.bundle.name
    unpack(archive, place)
    model = place / name / "models" / "model.pt"
    if not (shipped := model.is_file()):
        shutil.copyfile(phantom.root / name / "models" / "model.pt", model)
    volumes = [*sorted(SHARED_DATA.glob(REAL[name.removeprefix("bundle_")])), phantom.image(last_of(phantom))]
    run_clean(place / name, Path(__file__).with_name("runtimes.py"), volumes[0], place / "compared.json")
    compared = json.loads((place / "compared.json").read_text(encoding="utf-8"))
    assert compared["stack"][0] >= 7 or compared["stack"][1] == 3  # a photograph is one slice
    assert len(compared["labels"]) > 1
    channels, classes = compared["stack"][1], len(metadata_of(place / name)["outputs"]["pred"]["channel_def"])
    assert compared["sizes"] == [[0, channels, 0, 0], [0, classes, 0, 0]]  # 0 is any
    expected = {"torchscript", "onnx", *(["released"] if shipped else [])}
    runtimes = {name: found for name, found in compared.items() if isinstance(found, dict)}
    assert expected <= set(runtimes) <= {*expected, "openvino"}
    for differences in runtimes.values():
        for values in differences.values():
            assert values["largest difference"] < 1e-4, compared
            # A network after two steps hardly prefers one class to another: some pixels are ties but for rounding.
            assert values["labels that differ"] == 0 or not shipped, compared
