"""The supervised network beside ours: what it is given, what it makes, and that its trainings are kept."""

from __future__ import annotations

import json
from functools import partial

import pytest
import torch

from benchmarks import strong_baseline
from benchmarks.strong_baseline import Augmentation, DeepSupervision, matched_steps, measure, network
from bundles.run import load_config
from phantom import write_acdc_phantom
from tests.phantoms import PREPROCESSING
from tests.processes import undisturbed

FEATURES = (4, 8, 8)
SMALL = {**PREPROCESSING, "spacing_mm": 2.4}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch, undisturbed():
        patch.setattr(strong_baseline, "matched_steps", lambda *_: 4)
        patch.setattr(strong_baseline, "NUMBERS", (1,))
        patch.setattr(strong_baseline, "write_acdc_phantom", partial(write_acdc_phantom, size=(64, 72)))
        result = partial(measure, runs_dir=str(folder), settings=SMALL, lengths=(0.5, 1.0), num_draws=1)
        yield folder, result(features=FEATURES)


def test_a_row_for_each_length(outcome):
    _, result = outcome
    matched, best = result["rows"]
    assert (matched["length"], best["length"]) == ("matched", "own best")
    assert matched["steps"] == 4 and best["steps"] in (2, 4)
    assert all(row["labelled"] == 1 and 0 <= row["Dice"] <= 1 for row in result["rows"])


def test_the_length_is_chosen_on_the_development_patients(outcome):
    folder, result = outcome
    read = {steps: folder / f"1_c1_{steps}" / "development" / "evaluation.json" for steps in (2, 4)}
    dice = {steps: json.loads(path.read_text())["mean_dice"]["mean"] for steps, path in read.items()}
    best = result["rows"][1]["steps"]
    assert dice[best] == max(dice.values())
    assert f"1 labelled: {dice[2]:.3f} (0.5 x), {dice[4]:.3f} (1 x)" in result["notes"][0]
    assert ("longer ones may be better" in result["notes"][0]) == (best == 4)


def test_what_is_finished_is_not_trained_again(outcome, monkeypatch):
    folder, _ = outcome
    trained = sorted(path.stat().st_mtime_ns for path in folder.glob("*/model.pt"))
    runs = strong_baseline.Runs(folder, {"dataset_dir": "nowhere"}, FEATURES)
    monkeypatch.setattr(strong_baseline, "run_config", None)  # nothing can be run
    monkeypatch.setattr(strong_baseline, "development", lambda _: [])
    assert 0 <= runs._development_dice(1, "c1", 4) <= 1 and 0 <= runs._test_dice(1, "c1", 4) <= 1
    assert sorted(path.stat().st_mtime_ns for path in folder.glob("*/model.pt")) == trained


def test_its_own_decay_takes_the_place_of_ours_and_is_resumed(tmp_path):
    runs = strong_baseline.Runs(tmp_path, {}, FEATURES)
    config = load_config(strong_baseline.BUNDLE, "train", **runs._training({}, tmp_path, 40))
    kinds = [handler["_target_"].rsplit(".")[-1] for handler in config["train#handlers"]]
    assert kinds.count("LrScheduleHandler") == 1 and "LearningRateDecay" not in kinds
    assert config["train#handlers"][kinds.index("Resume")]["objects"]["decay"] == "@decay"
    decay = config["decay"]
    assert (decay["_target_"], decay["power"]) == ("torch.optim.lr_scheduler.PolynomialLR", 0.9)


def test_heads_are_those_of_training_only():
    net, images = network(4, FEATURES), torch.rand(2, 1, 32, 32)
    assert net(images).shape == (2, 2, 4, 32, 32)
    assert net.eval()(images).shape == (2, 4, 32, 32)


def test_coarser_heads_count_half():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (2, 8, 8), generator=generator)
    targets = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).float()
    first, second = torch.randn(2, 2, 3, 8, 8, generator=generator)
    loss = DeepSupervision()
    alone = [loss(head[:, None], targets) for head in (first, second)]
    torch.testing.assert_close(loss(torch.stack([first, second], 1), targets), alone[0] + 0.5 * alone[1])


def test_images_and_labels_move_together():
    labels = torch.zeros(8, 32, 32, dtype=torch.uint8)
    labels[:, 4:12, 6:20] = 1
    generator = torch.Generator().manual_seed(0)
    images, targets = Augmentation(2)(labels[:, None].float(), labels, generator)
    assert images.shape == (8, 1, 32, 32) and targets.shape == (8, 2, 32, 32)
    torch.testing.assert_close(targets.sum(1), torch.ones(8, 32, 32))
    bright = images[:, 0] > images.amax((1, 2, 3))[:, None, None] / 2
    agree = (bright == targets[:, 1].bool()).float().mean((1, 2))
    assert agree.min() > 0.9 and (targets[:, 1] != labels).any()
    again = Augmentation(2)(labels[:, None].float(), labels, torch.Generator().manual_seed(0))
    assert torch.equal(again[0], images) and torch.equal(again[1], targets)


def test_matched_steps_are_of_this_network():
    with undisturbed():
        assert matched_steps(FEATURES, side=32, repetitions=1) > matched_steps((64, 64, 64), side=32, repetitions=1) > 0
