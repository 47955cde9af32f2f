"""All frames of the patients to pre-train on: what they are used for, and that those of the test never are."""

from __future__ import annotations

import json
import shutil

import pytest

from common.data.cache import prepare
from common.data.leaks import LeakError
from common.data.splits import SplitError
from common.lineage import read_lineage
from phantom import write_acdc_phantom
from tests.phantoms import TRAINING, Phantom, contents
from tests.places import BUNDLES

# Patients 1 to 4 are pre-trained on, 1 labelled, 5 is for validation, 6 and 7 for the test. All have two frames.
LABELLED, PRETRAIN, TEST = "patient001", "patient002", "patient006"
ONE_STEP = {"steps": 1}
ALL = {"unlabelled_frames": "all"}
PATIENTS = [f"patient00{number}" for number in range(1, 5)]
FRAMES = [f"{patient}_frame12" for patient in PATIENTS]


@pytest.fixture(scope="module")
def cine(phantom, tmp_path_factory):
    """The phantom of ACDC with end-systolic frames."""
    cine = Phantom(tmp_path_factory.mktemp("cine"))
    write_acdc_phantom(cine.dataset_dir, 7, size=(64, 72), end_systole=True)
    shutil.copy(phantom.split_path, cine.split_path)
    shutil.copytree(phantom.cache_dir, cine.cache_dir)
    config = cine.config("pretrain_global", **ALL)
    split, cached = (config.get_parsed_content(key) for key in ("split", "cached_preprocessing"))
    prepare(split.listed, str(cine.dataset_dir), cached, num_workers=0, progress=False)
    return cine


@pytest.fixture(scope="module")
def weights(cine, tmp_path_factory):
    """An encoder of all frames, and a network made from it that has taught itself."""
    folder = tmp_path_factory.mktemp("weights")
    cine.run("pretrain_global", folder, **ONE_STEP, **ALL)
    cine.run("train", folder, initialisation="encoder", steps=2, self_training_rounds=1, **ALL)
    return folder


@pytest.fixture
def twin(cine, tmp_path):
    """Return a function that makes a dataset in which a frame of one patient is called one of another."""

    def make(source, target):
        shutil.copytree(cine.dataset_dir, tmp_path / "data", symlinks=True, dirs_exist_ok=True)
        for kind in ("", "_gt"):
            files = (tmp_path / "data/training" / name[:10] / f"{name}{kind}.nii.gz" for name in (source, target))
            shutil.copy(*files)
        return {"dataset_dir": tmp_path / "data"}

    return make


def recorded(path):
    return {name: [row[0] for row in rows] for name, rows in read_lineage(path)["volumes"].items()}


@pytest.mark.parametrize("config", ["pretrain_global", "pretrain_local", "pretrain_joint"])
def test_pretraining_takes_what_is_asked_for(cine, config):
    for settings, expected in (({}, PATIENTS), (ALL, PATIENTS + FRAMES)):
        items = cine.config(config, **settings).get_parsed_content("train#dataset").data
        assert [item["id"] for item in items] == expected


def test_a_single_frame_gives_the_files_that_it_gave_before(phantom, cine, tmp_path):
    """To the byte, with all that they say of themselves, whatever other frames are there."""
    for name, data, settings in (("plain", phantom, {}), ("cine", cine, {"unlabelled_frames": "single"})):
        data.run("pretrain_global", tmp_path / name, **ONE_STEP, **settings)
    plain, same = ((tmp_path / name / "models/pretrained_encoder.pt").read_bytes() for name in ("plain", "cine"))
    assert plain == same


def test_weights_name_the_frames_that_they_were_made_from(weights):
    assert recorded(weights / "models" / "pretrained_encoder.pt") == {"pre-training": sorted(PATIENTS + FRAMES)}
    model = recorded(weights / "models" / "model.pt")
    assert model["labelled"] == [LABELLED] and model["validation"] == ["patient005"]
    assert model["batch-norm statistics"] == sorted(PATIENTS + FRAMES)
    assert model["self-training"] == sorted(PATIENTS[1:] + FRAMES)  # the labelled frame keeps its label


def test_two_frames_of_a_patient_are_two_volumes_of_a_batch(cine, tmp_path):
    config = cine.config("pretrain_global", tmp_path, strategy="GD", batch_size=64, **ALL)  # all eight volumes
    slices, sampler = (config.get_parsed_content(f"train#{key}") for key in ("slices", "sampler"))
    assert slices.num_volumes == len(set(slices.ids)) == 8
    assert not slices.images[slices.starts[0]].equal(slices.images[slices.starts[4]])  # of patient 1, base of the heart
    images, _ = next(iter(config.get_parsed_content("train#dataloader")))
    assert sampler.num_volumes == 8 and len(images) == 64 and images.isfinite().all()


def test_a_run_does_not_go_on_with_other_frames(cine, weights, tmp_path):
    shutil.copytree(weights / "pretrain_global", tmp_path / "pretrain_global")
    shutil.copytree(weights / "models", tmp_path / "models")
    error = cine.fail("pretrain_global", tmp_path, **ONE_STEP)
    assert "ids: patient001_frame12 and patient002_frame12 and patient003_frame12 and 1 more is gone" in str(error)


@pytest.mark.parametrize(
    ("source", "target", "settings"),
    [
        (f"{TEST}_frame01", f"{PRETRAIN}_frame12", ALL),
        (f"{TEST}_frame12", f"{PRETRAIN}_frame12", ALL),
        (f"{TEST}_frame12", f"{PRETRAIN}_frame01", {}),  # not to be trained on either
    ],
)
@pytest.mark.parametrize("config", ["pretrain_global", "train"])
def test_frames_of_test_patients_are_refused(cine, tmp_path, twin, config, source, target, settings):
    start = {"initialisation": "random"} if config == "train" else {}
    settings = {**ONE_STEP, **start, **settings, **twin(source, target)}
    error = cine.fail(config, tmp_path, **settings)
    assert isinstance(error, LeakError), repr(error)
    assert f"{source}.nii.gz" in str(error) and f"{target}.nii.gz" in str(error)
    assert not (tmp_path / "models").exists()


def test_an_evaluation_on_a_frame_that_was_trained_on_is_refused(cine, weights, tmp_path, twin):
    settings = {"checkpoint": weights / "models" / "model.pt", "pictures": False}
    error = cine.fail("evaluate", tmp_path, **settings, **twin(f"{PRETRAIN}_frame12", f"{TEST}_frame01"))
    assert isinstance(error, LeakError) and f"pre-training of pretrain_global as {PRETRAIN}_frame12" in str(error)


@pytest.mark.parametrize("config", ["pretrain_global", "train"])
def test_other_values_are_refused(cine, tmp_path, config):
    error = cine.fail(config, tmp_path, **ONE_STEP, unlabelled_frames="systole")
    assert isinstance(error, SplitError) and "must be single" in str(error) and "got 'systole'" in str(error)


def test_only_a_bundle_of_cines_has_the_option():
    having = {(name, config) for name in BUNDLES for config, own in contents(BUNDLES[name]).items() if ALL.keys() & own}
    assert having == {("acdc", config) for config in TRAINING}


def test_real_frames_are_pretrained_on(acdc_dir, cine, tmp_path):
    split = json.loads((BUNDLES["acdc"] / "configs" / "splits.json").read_text())
    split["pretrain"] = ids = split["pretrain"][:3]
    (tmp_path / "splits.json").write_text(json.dumps(split))
    data = {"dataset_dir": acdc_dir, "split_path": tmp_path / "splits.json", "cache_dir": tmp_path / "cache"}
    settings = {**data, "n4_shrink": None, "train#dataset#num_workers": 0, **ONE_STEP, **ALL}
    cine.run("pretrain_global", tmp_path, **settings)
    (found,) = recorded(tmp_path / "models" / "pretrained_encoder.pt").values()
    frames = sorted(set(found) - set(ids))
    assert set(ids) < set(found) and [name.partition("_frame")[0] for name in frames] == ids
