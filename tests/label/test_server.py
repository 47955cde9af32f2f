"""What an annotator gets from MONAI Label: the models, their segmentations, and training on labels that are saved."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pytest

from common.checkpoints import read_weights
from common.pictures import draw_comparison
from tests.conftest import REPOSITORY

from .conftest import (
    ANNOTATED,
    BUNDLES,
    ORIENTATIONS,
    UNSEEN,
    UNTRAINED,
    WRONG_CLASSES,
    class_names,
    label_python,
)

pytestmark = pytest.mark.label
TRAINED = BUNDLES[0]
NUM_CLASSES = len(class_names(TRAINED))
STUDIES = (UNSEEN, *(f"{UNSEEN}_{axcodes}" for axcodes in ORIENTATIONS))


def voxels(image):
    return np.asanyarray(image.dataobj)


def dice(prediction, truth):
    """Mean over the structures that the truth has."""
    scores = []
    for value in range(1, NUM_CLASSES):
        found, true = prediction == value, truth == value
        if true.any():
            scores.append(2 * (found & true).sum() / (found.sum() + true.sum()))
    return float(np.mean(scores))


@pytest.fixture(scope="session")
def written(server):
    """Segment the studies with `monai.bundle run`, as a user without MONAI Label would."""
    for bundle in BUNDLES:
        inputs = server.root / "inputs"
        inputs.mkdir(exist_ok=True)
        for name in STUDIES:
            shutil.copy(server.study(name), inputs)
        command = [label_python(), "-m", "monai.bundle", "run", "run", "--config_file", "configs/inference.json"]
        command += [
            "--input",
            str(inputs),
            "--output_dir",
            str(server.root / "written" / bundle),
            "--pictures",
            "False",
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
        subprocess.run(command, check=True, capture_output=True, cwd=server.bundle(bundle), env=environment)
    return server.root / "written"


@pytest.fixture(scope="session")
def before(server, written):
    """The segmentation of a study that nobody annotates, before any training."""
    return voxels(server.segment(TRAINED, UNSEEN))


@pytest.fixture(scope="session")
def trained(server, before):
    """Train on two saved labels, from the pre-trained weights."""
    for name in ANNOTATED:
        server.save_label(name, server.truth(name))
    return server.train(TRAINED, max_epochs=8, model_filename="pretrained_encoder_decoder.pt")


@pytest.mark.parametrize("bundle", BUNDLES)
def test_info_shows_model_labels_and_trainer(server, bundle):
    info = server.info()
    model, trainer = info["models"][bundle], info["trainers"][bundle]
    names = class_names(bundle)
    assert model["labels"] == {name.lower(): index for index, name in enumerate(names) if index > 0}
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


def test_training_without_a_model_starts_from_the_pre_trained_weights(server, trained):
    """A learning rate of 0 shows where it starts; a second label that is gone, that one is enough."""
    folder = server.bundle(UNTRAINED)
    config = folder / "configs" / "train.json"
    config.write_text(config.read_text(encoding="utf-8").replace('"learning_rate": 0.001', '"learning_rate": 0.0'))
    status, body = server.request("DELETE", f"/datastore/label?id={ANNOTATED[1]}&tag=final")
    assert status == 200, body
    task = server.train(UNTRAINED, max_epochs=1)
    server.save_label(ANNOTATED[1], server.truth(ANNOTATED[1]))
    assert task["status"] == "DONE", "\n".join(task["details"])
    log = server.log.read_text(encoding="utf-8")
    assert "Total Records for Training: 1" in log
    pretrained = read_weights(folder / "models" / "pretrained_encoder_decoder.pt")
    model = read_weights(folder / "models" / "model.pt")
    parameters = [name for name in pretrained if name.endswith(("weight", "bias"))]
    assert parameters and all(model[name].equal(pretrained[name]) for name in parameters)


def test_new_model_appears_after_a_reload(server):
    if not (server.bundle(UNTRAINED) / "models" / "model.pt").is_file():
        pytest.skip("needs the training before it")
    assert server.request("POST", "/reload")[0] == 200
    assert UNTRAINED in server.info()["models"]
    assert server.infer(UNTRAINED, UNSEEN)[0] == 200


def test_pictures_of_the_page(server, before, trained, tmp_path):
    """Those of docs/annotators.md, made anew with MONAI_LABEL_PICTURES=docs."""
    truth = voxels(nibabel.load(server.truth(UNSEEN)))
    after = voxels(server.segment(TRAINED, UNSEEN))
    pictures = {
        "annotators_before.png": (before, "before training"),
        "annotators_after.png": (after, f"trained on {len(ANNOTATED)} labels"),
    }
    for name, (prediction, state) in pictures.items():
        draw_comparison(
            server.study(UNSEEN),
            truth,
            prediction.astype(np.uint8),
            class_names(TRAINED),
            f"Phantom {UNSEEN}, {state}: mean Dice {dice(prediction, truth):.2f}",
            tmp_path / name,
        )
    assert sum((tmp_path / name).stat().st_size for name in pictures) < 200_000
    target = os.environ.get("MONAI_LABEL_PICTURES")
    for name in pictures if target else ():
        shutil.copy(tmp_path / name, Path(REPOSITORY, target) / name)
