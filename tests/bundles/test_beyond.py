"""Options of fine-tuning and evaluation that are not the paper's: averaged weights, self-training, clean output."""

from __future__ import annotations

import json
import shutil

import nibabel
import numpy as np
import pytest
import torch
from scipy import ndimage

from common.checkpoints import read_weights

# One epoch: a validation takes longer than a step.
FOUR_STEPS = {"initialisation": "random", "steps": 4, "steps_per_epoch": 4}
AVERAGING = {"initialisation": "random", "weight_averaging": 0.5, "steps_per_epoch": 2}


@pytest.fixture(scope="module")
def plain(phantom, tmp_path_factory):
    """A fine-tuning of the paper's kind."""
    folder = tmp_path_factory.mktemp("plain")
    phantom.run("train", folder, **FOUR_STEPS)
    return folder


def equal(one, other):
    weights = [read_weights(folder / "train" / "last.pt") for folder in (one, other)]
    return all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_averaged_weights_are_evaluated_and_saved(phantom, plain, tmp_path):
    phantom.run("train", tmp_path, **FOUR_STEPS, weight_averaging=0.5)
    assert not equal(plain, tmp_path)
    state = torch.load(tmp_path / "train" / "resume.pt", weights_only=True)["objects"]
    last = read_weights(tmp_path / "train" / "last.pt")
    kernel = "head.1.weight"
    assert torch.equal(last[kernel], state["averaging"][kernel])
    assert not torch.equal(last[kernel], state["network"][kernel])
    # The weights that are trained do not depend on being averaged.
    other = torch.load(plain / "train" / "resume.pt", weights_only=True)["objects"]
    assert torch.equal(state["network"][kernel], other["network"][kernel])
    assert "averaging" not in other


def test_averaging_goes_on_where_it_was_interrupted(phantom, tmp_path):
    phantom.run("train", tmp_path / "whole", steps=4, **AVERAGING)
    phantom.run("train", tmp_path / "parts", steps=2, **AVERAGING)
    phantom.run("train", tmp_path / "parts", steps=4, **AVERAGING)
    assert equal(tmp_path / "whole", tmp_path / "parts")


@pytest.fixture(scope="module")
def student(phantom, plain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("student")
    phantom.run("train", folder, **FOUR_STEPS, teacher=plain / "models" / "model.pt")
    return folder


def test_a_student_learns_from_what_its_teacher_predicts(plain, student):
    assert not equal(plain, student)


def test_a_student_is_refused_another_teacher(phantom, plain, student, tmp_path):
    shutil.copytree(student, tmp_path / "copy")
    error = phantom.fail("train", tmp_path / "copy", **FOUR_STEPS, teacher=student / "models" / "model.pt")
    assert "belongs to a run with other settings (made_from: model.pt changed" in str(error)


def test_a_teacher_needs_a_half_of_the_batch(phantom, plain, tmp_path):
    options = {"initialisation": "random", "teacher": plain / "models" / "model.pt", "batch_size": 1}
    assert "batch_size must be at least 2 with a teacher" in str(phantom.fail("train", tmp_path, **options))


def test_a_teacher_must_be_there(phantom, tmp_path):
    error = phantom.fail("train", tmp_path, initialisation="random", teacher=tmp_path / "gone.pt")
    assert "gone.pt: there is no such file" in str(error)


def test_a_teacher_with_other_classes_is_refused(phantom, plain, tmp_path):
    weights = read_weights(plain / "models" / "model.pt")
    weights["head.1.weight"] = weights["head.1.weight"][:2]
    torch.save(weights, tmp_path / "two.pt")
    error = phantom.fail("train", tmp_path, initialisation="random", teacher=tmp_path / "two.pt")
    assert "the weights were made for another number of classes" in str(error)


def test_true_labels_are_not_replaced_by_predictions(phantom, plain, tmp_path):
    options = {"teacher": plain / "models" / "model.pt", "initialisation": "random"}
    config = phantom.config("train", tmp_path, **options)
    labelled = config.get_parsed_content("train#dataset").data
    predicted = config.get_parsed_content("split").unlabelled()
    assert {item["id"] for item in labelled}.isdisjoint(item["id"] for item in predicted)
    assert len(predicted) == 3
    inputs, targets = next(iter(config.get_parsed_content("train#dataloader")))
    assert len(inputs) == len(targets) == 16


def test_evaluation_can_keep_the_largest_components_only(phantom, plain, tmp_path):
    means = []
    for keep in (False, True):
        folder = tmp_path / str(keep)
        shutil.copytree(plain / "models", folder / "models")
        settings = {"checkpoint": folder / "models" / "model.pt", "pictures": False}
        phantom.run("evaluate", folder, largest_component=keep, **settings)
        summary = json.loads((folder / "evaluate" / "evaluation.json").read_text())
        assert summary["settings"]["largest_component"] is keep
        means.append(summary["mean_dice"]["mean"])
    # A network of four steps paints many islands.
    assert means[0] != means[1]


def test_inference_can_keep_the_largest_components_only(phantom, plain, tmp_path):
    counts = []
    for keep in (False, True):
        folder = tmp_path / str(keep)
        phantom.run(
            "inference",
            folder,
            input=phantom.image("patient006"),
            checkpoint=plain / "models" / "model.pt",
            largest_component=keep,
            pictures=False,
        )
        (path,) = (folder / "inference").iterdir()
        labels = np.asanyarray(nibabel.load(path).dataobj)
        counts.append([ndimage.label(labels == k, np.ones((3, 3, 3)))[1] for k in (1, 2, 3)])
    assert max(counts[0]) > 1
    assert max(counts[1]) <= 1
