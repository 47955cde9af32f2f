"""What a user can get wrong: every mistake is answered by a message that names it and says what to do."""

from __future__ import annotations

import functools
import gzip
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from common.checkpoints import CheckpointError, save_atomically
from common.data.splits import SplitError
from common.data.volume_files import DatasetError
from common.networks import UNet2d
from common.transforms import VolumeError
from tests.phantoms import NO_PROCESSES, change_voxels
from tests.places import BUNDLE, CONFIGS, REPOSITORY

PATIENT = "patient001"  # to pre-train on, and the labelled one
PRETRAINED = ("patient001", "patient002", "patient003", "patient004")
TEST_PATIENT = "patient006"


def assert_says(error, kind, *parts):
    """Check an error's type and that its message has all the parts."""
    assert isinstance(error, kind), repr(error)
    for part in parts:
        assert str(part) in str(error)


@pytest.fixture
def weights(tmp_path):
    """A folder with weights of the right network under every name."""
    for name in ("model", "pretrained_encoder", "pretrained_encoder_decoder"):
        save_atomically(UNet2d(num_classes=4).state_dict(), tmp_path / "models" / f"{name}.pt")
    return tmp_path


# --- files -----------------------------------------------------------------------------------------------------------


def change(function):
    """Make a fault out of a function of the voxels."""
    return functools.partial(change_voxels, function=function)


def cut_short(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def state_no_spacing(path):
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[80:84] = np.float32(0).tobytes()  # pixdim[1]; nibabel would not write this
    path.write_bytes(gzip.compress(bytes(content)))


def replace_by_text(path):
    path.write_text("not an image\n", encoding="utf-8")


def with_nan(voxels):
    voxels = voxels.astype(np.float32)
    voxels[3:5, 7, 2] = np.nan
    return voxels


IMAGE_FAULTS = {
    "truncated": (cut_short, "cannot be read as NIfTI: it is damaged, cut short or of another format. Copy it again."),
    "2-D": (change(lambda voxels: voxels[:, :, 0]), "is a 2-D image of"),
    "4-D": (change(lambda voxels: np.stack([voxels] * 2, axis=-1)), "must hold one 3-D volume, got 2 channels"),
    "empty": (change(np.zeros_like), "contains only zeros. Replace the file"),
    "constant": (change(lambda voxels: np.full_like(voxels, 7)), "has a constant intensity"),
    "NaN": (change(with_nan), "has 2 of"),
    "text": (replace_by_text, "of another format, since it does not begin with a NIfTI header."),
    "no spacing": (state_no_spacing, "states a voxel size of 0"),
}


@pytest.fixture
def dataset(phantom, tmp_path):
    """A copy of the dataset, to break something in: returns its folder and that of a patient in it."""

    def patient(name):
        return tmp_path / "data" / "training" / name

    shutil.copytree(phantom.dataset_dir, tmp_path / "data")
    return patient


@pytest.mark.parametrize("faults", [list(IMAGE_FAULTS)[:4], list(IMAGE_FAULTS)[4:]], ids=", ".join)
def test_all_bad_images_are_listed(phantom, dataset, tmp_path, faults):
    images = [dataset(name) / f"{name}_frame01.nii.gz" for name in PRETRAINED]
    for image, fault in zip(images, faults, strict=True):
        IMAGE_FAULTS[fault][0](image)
    settings = {"dataset_dir": tmp_path / "data", "train#dataset#num_workers": 0}
    error = phantom.fail("pretrain_global", tmp_path, **settings)
    assert_says(error, VolumeError, "4 of 4 volumes cannot be used:")
    for line, image, fault in zip(str(error).splitlines()[1:], images, faults, strict=True):
        assert line.startswith(str(image)) and IMAGE_FAULTS[fault][1] in line
        assert len(line) < 1000 and "Traceback" not in line
    assert not (tmp_path / "models").exists()


def test_bad_image_to_fine_tune_on(phantom, dataset, tmp_path):
    image = dataset(PATIENT) / f"{PATIENT}_frame01.nii.gz"
    cut_short(image)
    error = phantom.fail("train", tmp_path, dataset_dir=tmp_path / "data", initialisation="random")
    assert_says(error, VolumeError, f"1 of 1 volumes cannot be used:\n{image}", IMAGE_FAULTS["truncated"][1])
    assert not (tmp_path / "models").exists()


def test_fewer_slices_than_partitions(phantom, dataset, tmp_path):
    change(lambda voxels: voxels[:, :, :3])(dataset("patient002") / "patient002_frame01.nii.gz")
    error = phantom.fail("pretrain_global", tmp_path, dataset_dir=tmp_path / "data")
    assert_says(error, ValueError, "num_partitions must not exceed the slices of a volume, got 4", "patient002 has 3")


LABEL_FAULTS = {
    "other shape": (change(lambda voxels: voxels[:, :-1]), "check that the two files belong together"),
    "unknown value": (
        change(lambda voxels: np.where(voxels == 3, 7, voxels).astype(np.uint8)),
        "that are no class index: 7.",
    ),
    "fractions": (change(lambda voxels: voxels * np.float32(0.5)), "that are no class index: 0.5, 1.5."),
    "truncated": (cut_short, "cannot be read as NIfTI"),
}


@pytest.mark.parametrize(
    ("config", "patient", "fault"),
    [*(("train", PATIENT, fault) for fault in LABEL_FAULTS), ("evaluate", TEST_PATIENT, "other shape")],
)
def test_bad_label(phantom, dataset, weights, config, patient, fault):
    label = dataset(patient) / f"{patient}_frame01_gt.nii.gz"
    LABEL_FAULTS[fault][0](label)
    error = phantom.fail(config, weights, dataset_dir=weights / "data")
    number = {"train": "1 of 1", "evaluate": "1 of 2"}[config]
    assert_says(error, VolumeError, f"{number} volumes cannot be used:\n{label}", LABEL_FAULTS[fault][1])


@pytest.mark.parametrize(("config", "patient"), [("train", PATIENT), ("evaluate", TEST_PATIENT)])
def test_no_label(phantom, dataset, weights, config, patient):
    (dataset(patient) / f"{patient}_frame01_gt.nii.gz").unlink()
    error = phantom.fail(config, weights, dataset_dir=weights / "data")
    assert_says(error, SplitError, f"ids must be of volumes with a label, got {patient} without one", dataset(patient))


def test_labels_of_volumes_to_pretrain_on_are_not_looked_at(phantom, dataset, tmp_path):
    for label in (tmp_path / "data").rglob("*_gt.nii.gz"):
        label.unlink()
    phantom.run("pretrain_global", tmp_path, dataset_dir=tmp_path / "data")
    assert (tmp_path / "models" / "pretrained_encoder.pt").is_file()


def test_missing_patient(phantom, dataset, tmp_path):
    shutil.rmtree(dataset("patient003"))
    error = phantom.fail("pretrain_global", tmp_path, dataset_dir=tmp_path / "data")
    assert_says(error, SplitError, "got patient003 that the dataset does not have")


@pytest.mark.parametrize("config", ["pretrain_global", "pretrain_local", "train", "evaluate"])
def test_missing_dataset(phantom, weights, config):
    error = phantom.fail(config, weights, dataset_dir=weights / "nowhere")
    assert_says(error, DatasetError, "dataset_dir must hold the patient folders of ACDC", weights / "nowhere")


@pytest.mark.parametrize("make", [False, True], ids=["missing", "empty"])
def test_no_input(phantom, weights, make):
    folder = weights / "new"
    if make:
        folder.mkdir()
    error = phantom.fail("inference", weights, input=folder)
    assert_says(error, DatasetError, "must be", folder)


def test_good_files_are_segmented_and_bad_ones_listed(phantom, weights, capsys):
    folder, output_dir = weights / "new", weights / "inference"
    folder.mkdir()
    for name in ("a", "b", "c", "d", "e"):
        shutil.copy(phantom.image(TEST_PATIENT), folder / f"{name}.nii.gz")
    faults = {"b": "truncated", "c": "empty", "d": "2-D"}
    for name, fault in faults.items():
        IMAGE_FAULTS[fault][0](folder / f"{name}.nii.gz")
    with pytest.raises(SystemExit) as caught:
        phantom.run("inference", weights, input=folder, pictures=False)
    assert caught.value.code == 1
    # Hidden files too: nothing half-written is left.
    assert {path.name for path in output_dir.rglob("*")} == {"a_seg.nii.gz", "e_seg.nii.gz", "volumes.csv"}
    log = capsys.readouterr().out
    assert f"Wrote 2 of 5 segmentations to {output_dir}" in log
    ending = log[log.index("3 of 5 files could not be segmented:") :].splitlines()[1:]
    assert len(ending) == 3
    for line, (name, fault) in zip(ending, faults.items(), strict=True):
        assert line.startswith(str(folder / f"{name}.nii.gz")) and IMAGE_FAULTS[fault][1] in line


# --- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "missing"),
    [
        ("pretrain_local", "pretrained_encoder.pt"),
        ("train", "pretrained_encoder_decoder.pt"),
        ("evaluate", "model.pt"),
        ("inference", "model.pt"),
    ],
)
def test_missing_weights(phantom, tmp_path, config, missing):
    settings = {"input": phantom.image(TEST_PATIENT)} if config == "inference" else {}
    error = phantom.fail(config, tmp_path, **settings)
    assert_says(error, CheckpointError, tmp_path / "models" / missing, "there is no such file; run ")


def other_network(path):
    save_atomically(torch.nn.Linear(3, 2).state_dict(), path)


def pickled_network(path):
    torch.save(UNet2d(num_classes=4), path)


WEIGHT_FAULTS = {
    "other network": (other_network, r"tensors (that the network lacks|are not in the (file|network)), such as"),
    "pickle": (pickled_network, "not a file of weights that can be loaded safely"),
    "truncated": (cut_short, "is damaged, or not an archive of torch.save with checksums"),
}


@pytest.mark.parametrize(
    ("config", "name", "fault"),
    [
        ("pretrain_local", "pretrained_encoder.pt", "other network"),
        ("train", "pretrained_encoder_decoder.pt", "other network"),
        ("evaluate", "model.pt", "pickle"),
        *(("inference", "model.pt", fault) for fault in WEIGHT_FAULTS),
    ],
)
def test_wrong_weights(phantom, weights, config, name, fault):
    make, message = WEIGHT_FAULTS[fault]
    make(weights / "models" / name)
    settings = {"input": phantom.image(TEST_PATIENT)} if config == "inference" else {}
    error = phantom.fail(config, weights, **settings)
    assert_says(error, CheckpointError, weights / "models" / name)
    assert re.search(message, str(error))


def test_pretrained_weights_are_not_taken_for_a_model(phantom, weights):
    network = UNet2d(num_classes=4)
    encoder = {name: value for name, value in network.state_dict().items() if name.startswith("encoder.")}
    save_atomically(encoder, weights / "models" / "model.pt")
    error = phantom.fail("evaluate", weights)
    assert_says(error, CheckpointError, "model.pt", "are not in the file, such as 'decoder.blocks.0.up.1.weight'")


@pytest.mark.parametrize("config", ["evaluate", "inference"])
def test_wrong_number_of_classes(phantom, weights, config):
    settings = {"input": phantom.image(TEST_PATIENT)} if config == "inference" else {}
    error = phantom.fail(config, weights, **{"network_def#num_classes": 3}, **settings)
    assert_says(error, CheckpointError, "'head.1.weight' has shape (4, 16, 3, 3), the network needs (3, 16, 3, 3)")


@pytest.mark.parametrize("config", ["evaluate", "inference"])
def test_too_many_class_names(phantom, weights, config):
    settings = {"input": phantom.image(TEST_PATIENT)} if config == "inference" else {}
    error = phantom.fail(config, weights, class_names=["background", "RV", "Myo", "LV", "LA"], **settings)
    assert_says(error, CheckpointError, "'head.1.weight' has shape (4, 16, 3, 3), the network needs (5, 16, 3, 3)")


def test_too_few_class_names(phantom, weights):
    error = phantom.fail("train", weights, class_names=["background", "RV", "Myo"])
    assert_says(error, VolumeError, phantom.label(PATIENT), "that are no class index: 3. Allowed are 0, 1, 2")


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "option", "message"),
    [
        ("pretrain_global", {"strategy": "LR"}, "strategy must be one of GR, GD-, GD, got 'LR'"),
        ("pretrain_local", {"strategy": "GD"}, "strategy must be one of LR, LD, got 'GD'"),
        ("pretrain_global", {"strategy": "gd"}, "strategy must be one of GR, GD-, GD, LR, LD, LE, LX, got 'gd'"),
        ("pretrain_global", {"temperature": 0}, "temperature must be > 0, got 0; the paper uses 0.1"),
        ("pretrain_local", {"temperature": -0.1}, "temperature must be > 0, got -0.1; the paper uses 0.1"),
        ("pretrain_global", {"gd_pairs": "some"}, "gd_pairs must be one of ring, all, got 'some'"),
        ("pretrain_global", {"batch_size": 8}, "batch_size must be at least 16 for GD with 4 partitions"),
        ("pretrain_global", {"batch_size": 80}, "num_volumes must be 1 to 4, the volumes at hand, got 10"),
        ("pretrain_global", {"num_partitions": 0}, "num_partitions must be"),
        ("pretrain_global", {"crop_size": 100}, "crop_size must be at most the image size 64 x 64, got 100"),
        (
            "pretrain_global",
            {"image_size": [50, 64], "train#dataset#num_workers": 0},
            "image_size must be two positive multiples",
        ),
        ("pretrain_global", {"extra_unlabelled_ids": ["patient007"]}, "patient007"),
        ("pretrain_local", {"num_blocks": 6}, "num_blocks must be 1 to 5, got 6"),
        ("pretrain_local", {"num_blocks": 1}, "side must be at least 8 for regions of size 3, got 4"),
        ("pretrain_local", {"region_size": 2}, "region_size must be one of (1, 3), got 2"),
        ("train", {"steps": 3, "steps_per_epoch": 2}, "steps must be a positive multiple of steps_per_epoch, got 3"),
        ("train", {"steps": 0}, "steps must be a positive multiple of steps_per_epoch, got 0"),
        ("train", {"num_labelled": 8}, "num_labelled must be one of 1, 2 for"),
        ("train", {"draw": "c9"}, "draw must be one of c1 for num_labelled 1"),
        ("train", {"initialisation": "decoder"}, "initialisation must be 'random', 'encoder' or 'encoder_decoder'"),
        ("train", {"batch_norm_statistics": "batch"}, "statistics must be one of"),
        ("train", {"kept_weights": "first"}, "kept_weights must be one of"),
        ("train", {"precision": "half"}, "precision must be one of"),
        ("evaluate", {"split_path": "nowhere.json"}, "got 'nowhere.json', which does not exist"),
    ],
    ids=lambda value: "{}={}".format(*next(iter(value.items()))) if isinstance(value, dict) else None,
)
def test_bad_option(phantom, weights, config, option, message):
    assert_says(phantom.fail(config, weights, **option), ValueError, message)


def test_image_size_that_the_network_cannot_halve(phantom, weights):
    error = phantom.fail("train", weights, image_size=[50, 64], **NO_PROCESSES)
    assert_says(error, ValueError, "multiples of 32")


def test_unknown_subset(phantom, weights):
    error = phantom.fail("evaluate", weights, subset="tests")
    assert_says(error, ValueError, "subset must be", "'tests'")


def test_split_file_that_is_not_json(phantom, tmp_path):
    path = tmp_path / "splits.json"
    path.write_text("{", encoding="utf-8")
    error = phantom.fail("pretrain_global", tmp_path, split_path=path)
    assert_says(error, SplitError, f"{path} must be valid JSON")


def test_a_run_is_not_continued_with_other_settings(phantom, tmp_path):
    phantom.run("pretrain_global", tmp_path, steps=1)
    weights = (tmp_path / "models" / "pretrained_encoder.pt").read_bytes()
    error = phantom.fail("pretrain_global", tmp_path, temperature=0.5)
    assert_says(error, CheckpointError, "resume.pt", "temperature was 0.1, is 0.5", "Choose another output_dir")
    assert (tmp_path / "models" / "pretrained_encoder.pt").read_bytes() == weights


def test_nothing_is_saved_once_the_loss_is_not_finite(phantom, weights):
    before = (weights / "models" / "model.pt").read_bytes()
    error = phantom.fail("train", weights, learning_rate=1e30, steps=2, steps_per_epoch=2)
    assert_says(error, FloatingPointError, "The loss is nan at step 2: nothing was saved")
    assert (weights / "models" / "model.pt").read_bytes() == before


def test_command_line_ends_with_the_cause(phantom, tmp_path):
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(CONFIGS / "inference.json")]
    for key, value in phantom.settings("inference", tmp_path, input=phantom.image(TEST_PATIENT)).items():
        command += [f"--{key}", str(value).replace(" ", "")]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, cwd=BUNDLE, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    cause = f"Cause: CheckpointError: {tmp_path / 'models' / 'model.pt'}: "
    assert done.stderr.strip().splitlines()[-1].startswith(cause)


# --- machine ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", ["pretrain_global", "pretrain_local", "train", "select", "evaluate", "inference"])
def test_device_that_this_machine_lacks(phantom, weights, config):
    settings = {"input": phantom.image(TEST_PATIENT)} if config == "inference" else {}
    error = phantom.fail(config, weights, device="cuda:77", **settings)
    assert_says(error, ValueError, "device must be one of cpu", "on this machine, got 'cuda:77': choose one of them")
    assert not list(weights.glob(f"{config}*"))


def test_disk_without_room(phantom, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("common.files.shutil.disk_usage", lambda _: usage._replace(free=10))
    error = phantom.fail("pretrain_global", tmp_path, slices_in_memory_gib=0)
    assert_says(error, OSError, "must have room for the", "slices", "MiB free", "choose another cache_dir")
    assert not (tmp_path / "models").exists() and not list(phantom.cache_dir.glob("*.slices"))
