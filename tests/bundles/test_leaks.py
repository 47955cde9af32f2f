"""The same patient in two subsets under two names: refused before a step is trained or a volume is evaluated."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from common.checkpoints import read_checkpoint, read_weights, save_atomically
from common.data.leaks import LeakError
from common.lineage import read_lineage
from common.transforms import VolumeError

# Patients 1 to 4 are pre-trained on, 1 (and 2) labelled, 5 is for validation, 6 and 7 for the test.
LABELLED, LABELLED_TOO, PRETRAIN, VALIDATION, TEST, TEST_TOO = (f"patient00{number}" for number in (1, 2, 3, 5, 6, 7))
ONE_STEP = {"steps": 1}
RANDOM = {**ONE_STEP, "initialisation": "random"}


def as_copy(source, target):
    shutil.copy(source, target)


def as_link(source, target):
    target.symlink_to(source)


def recompressed(source, target):
    target.write_bytes(gzip.compress(gzip.decompress(source.read_bytes()), 1))


def as_double(source, target):
    image = nibabel.load(source)
    nibabel.save(nibabel.Nifti1Image(image.get_fdata(), image.affine), target)


def with_other_header(source, target):
    image = nibabel.load(source)
    header = image.header.copy()
    header["descrip"] = b"second visit"
    nibabel.save(nibabel.Nifti1Image(np.asanyarray(image.dataobj), image.affine, header), target)


FORMS = (as_copy, as_link, recompressed, as_double, with_other_header)


@pytest.fixture
def twin(phantom, tmp_path):
    """Return a function that makes a dataset in which one patient is another one under its own name."""

    def make(source, target, form=as_copy):
        training = tmp_path / "data" / "training"
        if not training.is_dir():
            training.mkdir(parents=True)
            for folder in (phantom.dataset_dir / "training").iterdir():
                (training / folder.name).symlink_to(folder)
        (training / target).unlink()
        (training / target).mkdir()
        for kind in ("", "_gt"):
            original = phantom.image(source).with_name(f"{source}_frame01{kind}.nii.gz")
            form(original, training / target / f"{target}_frame01{kind}.nii.gz")
        return {"dataset_dir": tmp_path / "data"}

    return make


def refuse(phantom, config, folder, **settings):
    error = phantom.fail(config, folder, **settings)
    assert isinstance(error, LeakError), repr(error)
    return str(error)


# --- before training -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "target", "subsets", "form"),
    [
        *((LABELLED, VALIDATION, "labelled and validation", form) for form in FORMS),
        (VALIDATION, TEST, "test and validation", as_copy),
        (PRETRAIN, TEST, "test and batch-norm statistics", as_copy),
    ],
)
def test_fine_tuning_refuses(phantom, tmp_path, twin, source, target, subsets, form):
    message = refuse(phantom, "train", tmp_path, **RANDOM, **twin(source, target, form))
    first, second = subsets.split(" and ")
    assert f"{first} and {second} volumes" in message or f"{second} and {first} volumes" in message
    for part in (source, target, f"{target}_frame01.nii.gz", "Take the volume out"):
        assert part in message
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("config", ["pretrain_global", "pretrain_joint"])
def test_pretraining_refuses_test_volumes(phantom, tmp_path, twin, config):
    message = refuse(phantom, config, tmp_path, **ONE_STEP, **twin(PRETRAIN, TEST_TOO, as_double))
    assert "test volumes" in message and f"{PRETRAIN} (" in message and f"{TEST_TOO} (" in message
    assert not (tmp_path / "models").exists()


def test_local_stage_refuses_test_volumes(phantom, weights, tmp_path, twin):
    settings = {**ONE_STEP, "pretrained_path": weights / "models" / "pretrained_encoder.pt"}
    message = refuse(phantom, "pretrain_local", tmp_path, **settings, **twin(PRETRAIN, TEST, as_link))
    assert "pre-training and test volumes" in message or "test and pre-training volumes" in message


def test_test_volumes_that_the_pretrained_weights_know_are_refused(phantom, weights, tmp_path, twin):
    """The list of the test has changed since: no volume of this run is among them, but one of the run before."""
    split = json.loads(phantom.split_path.read_text())
    split.update(pretrain=[LABELLED, LABELLED_TOO], test=[TEST, PRETRAIN])
    (tmp_path / "splits.json").write_text(json.dumps(split))
    settings = {"initialisation": "encoder", "pretrained_dir": weights / "models", **ONE_STEP}
    message = refuse(phantom, "train", tmp_path, split_path=tmp_path / "splits.json", **settings)
    assert "pre-training (of the earlier pretrain_global)" in message and PRETRAIN in message


def test_validation_volumes_may_be_pretrained_on_and_repeats_are_said(phantom, tmp_path, twin, capsys):
    twin(LABELLED, LABELLED_TOO, recompressed)
    data = twin(PRETRAIN, VALIDATION)
    phantom.run("train", tmp_path, **RANDOM, **data, num_labelled=2)
    log = capsys.readouterr().out
    assert log.count("2 times among the labelled volumes") == 1 and f"{LABELLED_TOO} (" in log
    assert (tmp_path / "models" / "model.pt").is_file()


def test_unreadable_and_missing_test_volumes_are_said_and_no_hindrance(phantom, tmp_path, twin, capsys):
    data = twin(TEST, TEST_TOO, lambda source, target: target.write_bytes(b"no image"))
    (tmp_path / "data" / "training" / TEST).unlink()
    phantom.run("pretrain_global", tmp_path, **ONE_STEP, **data)
    log = capsys.readouterr().out
    assert "1 of 1 volumes cannot be read" in log and f"{TEST_TOO}_frame01.nii.gz" in log
    assert (tmp_path / "models" / "pretrained_encoder.pt").is_file()


def studies(phantom, folder, *patients):
    """Copy patients into a folder of studies as MONAI Label has it; return its lists of files."""
    items = []
    for number, patient in enumerate(patients):
        item = {}
        for kind, source in (("image", phantom.image(patient)), ("label", phantom.label(patient))):
            path = folder / ("labels" if kind == "label" else "") / f"study{number}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            recompressed(source, path)
            item[kind] = str(path)
        items.append(item)
    return items


def test_lists_of_files_are_compared_without_a_dataset_folder(phantom, tmp_path):
    """As in MONAI Label."""
    items = studies(phantom, tmp_path / "studies", LABELLED, PRETRAIN, LABELLED)
    nowhere = {"dataset_dir": tmp_path / "nowhere", **RANDOM, "unlabelled#num_workers": 0}
    nowhere |= {f"{part}#dataset#num_workers": 0 for part in ("train", "validate")}
    lists = {"train#dataset#data": items[:2], "validate#dataset#data": items[2:]}
    message = refuse(phantom, "train", tmp_path, **nowhere, **lists)
    assert "labelled and validation volumes" in message and "study0.nii.gz" in message and "study2.nii.gz" in message
    same = {"train#dataset#data": items[:1], "validate#dataset#data": items[:1]}
    assert "study0 (" in refuse(phantom, "train", tmp_path, **nowhere, **same)
    phantom.run("train", tmp_path, **nowhere, **{"train#dataset#data": items[:1], "validate#dataset#data": items[1:2]})
    record = read_lineage(tmp_path / "models" / "model.pt")
    assert [row[0] for row in record["volumes"]["labelled"]] == ["study0"]
    assert [row[0] for row in record["volumes"]["batch-norm statistics"]] == ["study0", "study1", "study2"]
    assert str(tmp_path) not in json.dumps(record)


# --- before an evaluation --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(phantom, tmp_path_factory):
    """An encoder, a network made from it, and one that has taught itself."""
    folder = tmp_path_factory.mktemp("weights")
    phantom.run("pretrain_global", folder, **ONE_STEP)
    phantom.run("train", folder, initialisation="encoder", **ONE_STEP)
    taught = {"self_training_rounds": 1, "initialisation": "encoder", "pretrained_dir": folder / "models"}
    phantom.run("train", folder / "student", steps=2, **taught)
    (folder / "bare").mkdir()
    save_atomically(read_weights(folder / "models" / "model.pt"), folder / "bare" / "model.pt")
    return folder


def evaluation(folder):
    return json.loads((folder / "evaluate" / "evaluation.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("model", "source", "uses"),
    [
        ("models", LABELLED, ["labelled of train", "pre-training of pretrain_global"]),
        ("models", VALIDATION, ["validation of train"]),
        ("models", PRETRAIN, ["batch-norm statistics of train", "pre-training of pretrain_global"]),
        ("student/models", PRETRAIN, ["self-training of train", "pre-training of pretrain_global"]),
        ("bare", LABELLED, ["labelled of the split", "pre-training of the split"]),
        ("bare", VALIDATION, ["validation of the split"]),
    ],
)
def test_evaluation_refuses_what_the_network_was_made_from(phantom, weights, tmp_path, twin, model, source, uses):
    settings = {"checkpoint": weights / model / "model.pt", "pictures": False, **twin(source, TEST)}
    message = refuse(phantom, "evaluate", tmp_path, **settings)
    assert "1 of the 2 evaluated volumes" in message and "--allow_overlap True" in message
    for use in uses:
        assert f"{use} as {source}" in message
    assert not (tmp_path / "evaluate").exists()


@pytest.mark.parametrize("subset", ["labelled", "validation", "pretrain"])
def test_other_subsets_are_evaluated_on_request_only(phantom, weights, tmp_path, subset):
    settings = {"checkpoint": weights / "models" / "model.pt", "pictures": False, "subset": subset}
    assert f"{subset.replace('pretrain', 'pre-training')} of " in refuse(phantom, "evaluate", tmp_path, **settings)


def test_an_overlap_that_is_asked_for_is_recorded(phantom, weights, tmp_path, capsys):
    settings = {"checkpoint": weights / "models" / "model.pt", "pictures": False, "subset": "validation"}
    phantom.run("evaluate", tmp_path, **settings, allow_overlap=True)
    assert evaluation(tmp_path)["overlap"] == {"volumes": {VALIDATION: ["validation of train"]}, "not_recorded": []}
    assert "1 of the 1 evaluated volumes had a part in" in capsys.readouterr().out


@pytest.mark.parametrize(("model", "unknown"), [("models", []), ("student/models", []), ("bare", ["model.pt"])])
def test_volumes_that_the_network_has_not_seen(phantom, weights, tmp_path, model, unknown):
    phantom.run("evaluate", tmp_path, checkpoint=weights / model / "model.pt", pictures=False)
    assert evaluation(tmp_path)["overlap"] == {"volumes": {}, "not_recorded": unknown}


# --- what is kept in the files ---------------------------------------------------------------------------------------


def test_all_weights_of_all_stages_say_what_they_were_made_from(weights):
    for path in sorted(weights.rglob("*.pt")):
        record = read_lineage(path)
        assert (record is None) == (path.name == "resume.pt" or path.parent.name == "bare"), path
    student = read_lineage(weights / "student" / "models" / "model.pt")
    assert set(student["volumes"]) == {"labelled", "validation", "batch-norm statistics", "self-training"}
    assert [row[0] for row in student["volumes"]["self-training"]] == ["patient002", "patient003", "patient004"]
    assert all(label for _, _, label in student["volumes"]["labelled"])
    assert not any(label for _, _, label in student["volumes"]["self-training"])
    assert sorted(record["stage"] for record in student["ancestors"].values()) == ["pretrain_global"]
    assert student["settings"]["steps"] == 2 and student["settings"]["initialisation"] == "encoder"


def test_equal_runs_write_equal_files(phantom, weights, tmp_path):
    phantom.run("pretrain_global", tmp_path, **ONE_STEP)
    name = Path("models", "pretrained_encoder.pt")
    assert (tmp_path / name).read_bytes() == (weights / name).read_bytes()


def test_monai_labels_start_is_among_the_ancestors(phantom, weights, tmp_path):
    """It puts a loader of the last model before the handlers."""
    handlers = json.loads((phantom.bundle / "configs" / "train.json").read_text())["train"]["handlers"]
    loader = {
        "_target_": "CheckpointLoader",
        "load_path": str(weights / "models" / "model.pt"),
        "load_dict": {"model": "$@network"},
    }
    phantom.run("train", tmp_path, **RANDOM, **{"train#handlers": [loader, *handlers]})
    assert list(read_lineage(tmp_path / "models" / "model.pt")["made_from"].values()) == ["model.pt"]


@pytest.mark.parametrize(("config", "kind"), [("pretrain_global", ""), ("train", "_gt")])
def test_a_run_does_not_go_on_with_other_data(phantom, weights, tmp_path, twin, config, kind):
    data = twin(LABELLED, LABELLED)
    path = tmp_path / "data" / "training" / LABELLED / f"{LABELLED}_frame01{kind}.nii.gz"
    image = nibabel.load(path)
    voxels = image.get_fdata().astype(image.get_data_dtype())
    voxels[3, 4, 2] = 1
    nibabel.save(nibabel.Nifti1Image(voxels, image.affine, image.header), path)
    for name in ("models", config):
        shutil.copytree(weights / name, tmp_path / "run" / name)
    settings = {"initialisation": "encoder"} if config == "train" else {}
    error = phantom.fail(config, tmp_path / "run", **ONE_STEP, **settings, **data)
    assert "data_sha256" in str(error)
    known = read_checkpoint(tmp_path / "run" / config / "resume.pt")["settings"]["data_sha256"]
    assert len(json.dumps(known)) < 1000


# --- labels without structures ---------------------------------------------------------------------------------------


def without_structures(path):
    image = nibabel.load(path)
    path.unlink()
    nibabel.save(nibabel.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine, image.header), path)


def test_labels_without_structures_are_refused(phantom, tmp_path, twin):
    data = twin(LABELLED, LABELLED)
    path = tmp_path / "data" / "training" / LABELLED / f"{LABELLED}_frame01_gt.nii.gz"
    without_structures(path)
    error = phantom.fail("train", tmp_path, **RANDOM, **data)
    assert isinstance(error, VolumeError) and str(path) in str(error) and "RV or Myo or LV" in str(error)


def test_validation_without_structures_keeps_the_last_weights(phantom, tmp_path, twin, capsys):
    data = twin(VALIDATION, VALIDATION)
    without_structures(tmp_path / "data" / "training" / VALIDATION / f"{VALIDATION}_frame01_gt.nii.gz")
    phantom.run("train", tmp_path, **{**RANDOM, "steps": 2, "kept_weights": "best"}, **data)
    log = capsys.readouterr().out
    assert "No structure is labelled in any of the 1 validation volumes" in log and "the last weights are kept" in log
    model, last = (read_weights(tmp_path / name) for name in ("models/model.pt", "train/last.pt"))
    assert all((model[name] == last[name]).all() for name in last)
