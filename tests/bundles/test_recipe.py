"""What fine-tuning does beyond the paper: averaged weights, self-training, a rate that falls, clean output."""

from __future__ import annotations

import json
import shutil

import nibabel
import numpy as np
import pytest
import torch
from scipy import ndimage

from common.checkpoints import read_weights
from common.lineage import read_lineage

# One epoch: a validation takes longer than a step.
FOUR_STEPS = {"initialisation": "random", "steps": 4, "steps_per_epoch": 4}
AVERAGING = {"initialisation": "random", "weight_averaging": 0.5, "steps_per_epoch": 2}
# Labels are predicted before the third step, by a network that has learnt nothing yet.
TAUGHT = {**FOUR_STEPS, "self_training_rounds": 1, "learning_rate": 1e-4, "train#self_training#least_fit": 0.0}


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
def taught(phantom, tmp_path_factory):
    """A fine-tuning with one round of self-training."""
    folder = tmp_path_factory.mktemp("taught")
    phantom.run("train", folder, **TAUGHT)
    return folder


def test_a_network_learns_from_what_it_predicts(phantom, taught, tmp_path):
    phantom.run("train", tmp_path, **{**TAUGHT, "self_training_rounds": 0})
    assert not equal(taught, tmp_path)
    state = torch.load(taught / "train" / "resume.pt", weights_only=True)["objects"]["self_training"]
    assert state["round"] == 1 and len(state["maps"]) > 0
    names = [row[0] for row in read_lineage(taught / "models" / "model.pt")["volumes"]["self-training"]]
    assert names == [f"patient00{number}" for number in (2, 3, 4)]  # the first one keeps its label


def test_a_network_that_has_learnt_nothing_teaches_nothing(phantom, tmp_path, capsys):
    phantom.run("train", tmp_path, **{name: value for name, value in TAUGHT.items() if "least_fit" not in name})
    assert "Round 1 of 1: the labels that the network predicts are not used" in capsys.readouterr().out
    state = torch.load(tmp_path / "train" / "resume.pt", weights_only=True)["objects"]["self_training"]
    assert len(state["maps"]) == 0


def test_every_bundle_teaches_itself(prostate_phantom, mmwhs_phantom, tmp_path):
    for phantom in (prostate_phantom, mmwhs_phantom):
        folder = tmp_path / phantom.name
        phantom.run("train", folder, **TAUGHT)
        state = torch.load(folder / "train" / "resume.pt", weights_only=True)["objects"]["self_training"]
        assert state["round"] == 1 and len(state["maps"]) > 0


def test_a_run_with_a_plan_is_not_made_longer(phantom, taught, tmp_path):
    shutil.copytree(taught, tmp_path / "copy")
    error = phantom.fail("train", tmp_path / "copy", **{**TAUGHT, "steps": 8})
    assert "belongs to a run with other settings (planned_steps was 4, is 8" in str(error)
    phantom.run("train", tmp_path / "copy", **TAUGHT)  # nothing to do


def test_other_rounds_are_another_run(phantom, taught):
    error = phantom.fail("train", taught, **{**TAUGHT, "self_training_rounds": 2})
    assert "self_training_rounds was 1, is 2" in str(error)


def test_half_of_the_batch_is_predicted(phantom, tmp_path):
    error = phantom.fail("train", tmp_path, initialisation="random", self_training_rounds=1, batch_size=1)
    assert "batch_size must be at least 2 with self-training" in str(error)


@pytest.mark.parametrize("rounds", [-1, 0.5])
def test_rounds_are_checked(phantom, tmp_path, rounds):
    error = phantom.fail("train", tmp_path, initialisation="random", self_training_rounds=rounds)
    assert f"self_training_rounds must be a whole number from 0, got {rounds}" in str(error)


def test_the_decay_is_checked(phantom, tmp_path):
    error = phantom.fail("train", tmp_path, initialisation="random", learning_rate_decay="linear")
    assert "learning_rate_decay must be one of none, cosine, got 'linear'" in str(error)


def test_the_rate_falls_to_nothing(phantom, tmp_path):
    phantom.run("train", tmp_path, **{**FOUR_STEPS, "learning_rate_decay": "cosine"})
    state = torch.load(tmp_path / "train" / "resume.pt", weights_only=True)["objects"]
    assert state["optimizer"]["param_groups"][0]["lr"] == pytest.approx(1e-3 * (1 + np.cos(np.pi * 3 / 4)) / 2)


def test_without_unlabelled_volumes_it_trains_on_the_labelled_ones(phantom, tmp_path, capsys):
    split = json.loads(phantom.split_path.read_text())
    split["pretrain"] = split["draws"]["1"]["c1"]["labelled"]
    (tmp_path / "splits.json").write_text(json.dumps(split))
    phantom.run("train", tmp_path, **{**TAUGHT, "split_path": tmp_path / "splits.json"})
    assert "There are no unlabelled volumes, so training goes without self-training" in capsys.readouterr().out
    assert (tmp_path / "models" / "model.pt").is_file()


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
        (path,) = (folder / "inference").glob("*.nii.gz")
        labels = np.asanyarray(nibabel.load(path).dataobj)
        counts.append([ndimage.label(labels == k, np.ones((3, 3, 3)))[1] for k in (1, 2, 3)])
    assert max(counts[0]) > 1
    assert max(counts[1]) <= 1
