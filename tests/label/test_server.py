"""What an annotator gets from MONAI Label: the models, their segmentations, and training on labels that are saved."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess

import nibabel
import numpy as np
import pytest
import torch

from common.checkpoints import content_hash, read_weights
from common.evaluation import volume_dice
from tests.places import REPOSITORY

from .conftest import (
    ANNOTATED,
    BUNDLES,
    ORIENTATIONS,
    OTHER_BUNDLE,
    OTHER_NETWORK,
    UNSEEN,
    UNTRAINED,
    WRONG_CLASSES,
    class_names,
    label_python,
)

pytestmark = pytest.mark.label
TRAINED = BUNDLES[0]
STUDIES = (UNSEEN, *(f"{UNSEEN}_{axcodes}" for axcodes in ORIENTATIONS))


def voxels(image):
    return np.asanyarray(image.dataobj)


def dice(prediction, truth):
    maps = (torch.as_tensor(values.astype(np.int64)) for values in (prediction, truth))
    return float(volume_dice(*maps, len(class_names(TRAINED)))[1:].nanmean())


@pytest.fixture(scope="session")
def written(server):
    """Segment the studies with `monai.bundle run`, as a user without MONAI Label would."""
    inputs = server.root / "inputs"
    inputs.mkdir()
    for name in STUDIES:
        shutil.copy(server.study(name), inputs)
    for bundle in BUNDLES:
        command = [label_python(), "-m", "monai.bundle", "run", "run", "--config_file", "configs/inference.json"]
        command += ["--input", str(inputs), "--output_dir", str(server.root / "written" / bundle)]
        environment = {**os.environ, "PYTHONPATH": ""}
        subprocess.run(
            [*command, "--pictures", "False"],
            check=True,
            capture_output=True,
            cwd=server.bundle(bundle),
            env=environment,
        )
    return server.root / "written"


@pytest.fixture(scope="session")
def before(server, written):
    """The segmentation of a study that nobody annotates, before any training."""
    return voxels(server.segment(TRAINED, UNSEEN))


@pytest.fixture(scope="session")
def trained(server, before):
    """Train on two saved labels, from the pre-trained weights, with every option sent along as 3D Slicer does."""
    for name in ANNOTATED:
        server.save_label(name, server.truth(name))
    shown = server.info()["trainers"][TRAINED]["config"]
    options = {key: value[0] if isinstance(value, list) else value for key, value in shown.items()}
    chosen = {"max_epochs": 8, "model_filename": "pretrained_encoder_decoder.pt"}
    return server.train(TRAINED, **options | chosen)


@pytest.mark.parametrize("bundle", BUNDLES)
def test_info_shows_model_labels_and_trainer(server, bundle):
    info = server.info()
    model, trainer = info["models"][bundle], info["trainers"][bundle]
    names = class_names(bundle)
    # In this order: 3D Slicer numbers the segments of a label by their position.
    assert list(model["labels"].items()) == [(name.lower(), index) for index, name in enumerate(names) if index > 0]
    assert model["type"] == "segmentation"
    assert model["config"]["model_filename"][0] == "model.pt"  # the default, of whatever files there are
    assert {"model.pt", "pretrained_encoder.pt", "pretrained_encoder_decoder.pt"} <= {
        *trainer["config"]["model_filename"]
    }


def test_bundle_without_a_model_can_be_trained_only(server):
    info = server.info()
    assert UNTRAINED not in info["models"]
    assert info["trainers"][UNTRAINED]["config"]["model_filename"][0] == "pretrained_encoder.pt"


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("bundle", BUNDLES)
def test_infer_equals_what_the_bundle_writes(server, written, bundle, study):
    answer = server.segment(bundle, study)
    file = nibabel.load(written / bundle / f"{study}_seg.nii.gz")
    image = nibabel.load(server.study(study))
    assert len(np.unique(voxels(file))) > 1  # or any two would be equal
    np.testing.assert_array_equal(voxels(answer), voxels(file))
    assert answer.shape == image.shape
    np.testing.assert_array_equal(answer.affine, image.affine)


def test_labels_come_as_whole_numbers_of_the_type_that_is_asked_for(server):
    by_default, as_bytes = (
        nibabel.Nifti1Image.from_bytes(gzip.decompress(server.infer(TRAINED, UNSEEN, **params)[1]))
        for params in ({}, {"result_dtype": "uint8"})
    )
    assert by_default.get_data_dtype() == np.float32 and as_bytes.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(voxels(by_default), voxels(as_bytes))


def test_all_studies_at_once_without_a_gpu(server):
    options = {"multi_gpu": False, "device": "cpu", "images": [UNSEEN], "label_tag": "batch"}
    status, body = server.request("POST", f"/batch/infer/{TRAINED}?run_sync=true", json.dumps(options).encode())
    assert status == 200, body
    saved = nibabel.load(server.root / "studies" / "labels" / "batch" / f"{UNSEEN}.nii.gz")
    np.testing.assert_array_equal(voxels(saved), voxels(server.segment(TRAINED, UNSEEN)))


def test_a_study_in_nrrd_is_refused_with_a_remedy(server, tmp_path):
    """The server takes and offers it, since other bundles can read it."""
    study = tmp_path / "other.nrrd"
    study.write_bytes(b"NRRD0004\n")
    server.add_study(study)
    known = len(server.log.read_text(encoding="utf-8"))
    try:
        status, _ = server.infer(TRAINED, "other")
        assert status == 500 and server.logged("NIfTI", known)
    finally:
        server.remove_study("other")


def test_orientation_makes_no_difference(server):
    reference = nibabel.as_closest_canonical(server.segment(TRAINED, UNSEEN))
    for axcodes in ORIENTATIONS:
        turned = nibabel.as_closest_canonical(server.segment(TRAINED, f"{UNSEEN}_{axcodes}"))
        np.testing.assert_array_equal(voxels(turned), voxels(reference))


@pytest.mark.parametrize(
    ("filename", "message"),
    [
        pytest.param("pretrained_encoder.pt", "must hold the whole network", id="pre-trained part"),
        pytest.param(WRONG_CLASSES, "size mismatch for head", id="another number of classes"),
        pytest.param(OTHER_BUNDLE, "size mismatch for head", id="another bundle"),
        pytest.param(OTHER_NETWORK, "the weights belong to another one", id="another network"),
    ],
)
@pytest.mark.parametrize("bundle", BUNDLES)
def test_infer_refuses_weights_that_would_give_noise(server, bundle, filename, message):
    server.segment(bundle, UNSEEN)  # the right ones, which it keeps
    known = len(server.log.read_text(encoding="utf-8"))
    status, _ = server.infer(bundle, UNSEEN, model_filename=filename)
    assert status == 500
    assert server.logged(message, known)
    assert server.infer(bundle, UNSEEN)[0] == 200


def test_train_on_two_labels_makes_the_next_segmentation_better(server, before, trained):
    assert trained["status"] == "DONE", "\n".join(trained["details"])
    truth = voxels(nibabel.load(server.truth(UNSEEN)))
    after = voxels(server.segment(TRAINED, UNSEEN))
    assert dice(after, truth) > max(0.4, dice(before, truth) + 0.2)


def test_train_started_from_the_pre_trained_weights(server, trained):
    log = server.log.read_text(encoding="utf-8")
    loaded = f"Restored all variables from {server.bundle(TRAINED) / 'models' / 'pretrained_encoder_decoder.pt'}"
    assert loaded in log
    assert "Total Records for Training: 2" in log


@pytest.mark.parametrize(
    ("filename", "message"),
    [
        pytest.param(OTHER_BUNDLE, "size mismatch for head", id="another bundle"),
        pytest.param(OTHER_NETWORK, "the weights belong to another one", id="another network"),
    ],
)
def test_train_refuses_weights_that_do_not_fit(server, trained, filename, message):
    model = server.bundle(TRAINED) / "models" / "model.pt"
    known, content = len(server.log.read_text(encoding="utf-8")), content_hash(model)
    assert server.train(TRAINED, max_epochs=1, model_filename=filename)["status"] == "ERROR"
    assert server.logged(message, known)
    assert content_hash(model) == content


@pytest.mark.parametrize("bundle", BUNDLES[1:])
def test_saved_labels_hold_class_indices_whatever_the_values_in_the_dataset(server, trained, tmp_path, bundle):
    """Viewers number the structures as the model's labels are, also where files of the dataset have other values."""
    highest = len(class_names(bundle)) - 1
    for name in ANNOTATED:
        truth = nibabel.load(server.truth(name))
        indices = np.where(voxels(truth) > 0, np.minimum(voxels(truth) + highest - 2, highest), 0)
        path = tmp_path / f"{name}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(indices.astype(np.uint8), truth.affine), path)
        server.save_label(name, path)
    task = server.train(bundle, max_epochs=1)
    for name in ANNOTATED:
        server.save_label(name, server.truth(name))
    assert task["status"] == "DONE", "\n".join(task["details"])


def test_labels_of_another_bundle_with_more_classes_are_refused(server, trained):
    (bundle,) = (name for name in BUNDLES if len(class_names(name)) < len(class_names(TRAINED)))
    known = len(server.log.read_text(encoding="utf-8"))
    assert server.train(bundle, max_epochs=1)["status"] == "ERROR"
    assert server.logged("values that are no class index", known)


def test_training_without_a_model_starts_from_the_pre_trained_weights(server, trained):
    """A learning rate of 0 shows where it starts; a second label that is gone, that one is enough."""
    folder = server.bundle(UNTRAINED)
    config = folder / "configs" / "train.json"
    config.write_text(config.read_text(encoding="utf-8").replace('"learning_rate": 0.001', '"learning_rate": 0.0'))
    known = len(server.log.read_text(encoding="utf-8"))
    server.remove_label(ANNOTATED[1])
    task = server.train(UNTRAINED, max_epochs=1)
    server.save_label(ANNOTATED[1], server.truth(ANNOTATED[1]))
    assert task["status"] == "DONE", "\n".join(task["details"])
    assert server.logged("Total Records for Training: 1", known)
    pretrained = read_weights(folder / "models" / "pretrained_encoder.pt")
    model = read_weights(folder / "models" / "model.pt")
    parameters = [name for name in pretrained if name.endswith(("weight", "bias"))]
    # Averaging equal weights rounds their last bits.
    assert parameters and all(torch.allclose(model[name], pretrained[name], atol=1e-6) for name in parameters)


def test_new_model_appears_after_a_reload(server):
    if not (server.bundle(UNTRAINED) / "models" / "model.pt").is_file():
        pytest.skip("needs the training before it")
    assert server.request("POST", "/reload")[0] == 200
    assert UNTRAINED in server.info()["models"]
    assert server.infer(UNTRAINED, UNSEEN)[0] == 200


def test_the_server_looks_for_bundles_in_the_model_zoo_alone(tmp_path):
    """Why `label.add` is there: whatever repository the settings name, no download is told of it."""
    code = f"""
import monailabel.utils.others.generic as generic
asked = []
generic.download = lambda **options: asked.append(options)
conf = {{"zoo_source": "github", "zoo_repo": "owner/repository/tag", "models": "bundle_acdc_v1.2.3"}}
generic.get_bundle_models({str(tmp_path)!r}, conf)
print(asked[0].get("source"), asked[0].get("repo"))
"""
    environment = {**os.environ, "PYTHONPATH": "", "MONAI_ZOO_REPO": "owner/repository/tag"}
    done = subprocess.run([label_python(), "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-2:] == ["github", "None"]


def test_what_a_bundle_offers_to_choose_must_be_in_every_request(tmp_path):
    """Why batch size and steps are no options of the viewer: a request that does not name them would fail."""
    shutil.copytree(REPOSITORY / TRAINED / "configs", tmp_path / TRAINED / "configs")
    path = tmp_path / TRAINED / "configs" / "train.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"displayable_configs": {"batch_size": 20}}))
    code = f"""
from monailabel.tasks.train.bundle import BundleTrainTask
class Datastore:
    def datalist(self):
        return [{{"image": "i", "label": "l"}}] * 2
task = BundleTrainTask({str(tmp_path / TRAINED)!r}, {{}})
assert task.config()["batch_size"] == 20
try:
    task({{"model": "m", "device": "cpu"}}, Datastore())
except KeyError as error:
    print("missing", error)
"""
    environment = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run([label_python(), "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("missing 'batch_size'")
