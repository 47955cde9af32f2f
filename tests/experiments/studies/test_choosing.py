"""Rules by which volumes are chosen, and what is trained on which choice."""

from __future__ import annotations

import json

import pytest
import torch

import experiments.studies.choosing as module
from bundles.run import load_config
from common.checkpoints import save_atomically
from common.networks import UNet2d
from experiments.curve import Point
from experiments.studies.choosing import RULES, choosing, densest, farthest, medoids

# On a line: three volumes close together, two more, and one that lies far away.
PLACES = torch.tensor([0.0, 1.0, 2.0, 10.0, 11.0, 30.0], dtype=torch.float64)[:, None]
DISTANCES = torch.cdist(PLACES, PLACES)


def test_each_rule_chooses_what_it_says():
    assert medoids(DISTANCES, 2) == [2, 5]  # the far one costs most as long as nothing is near to it
    assert farthest(DISTANCES, 3) == [2, 5, 4]
    assert densest(DISTANCES, 2) == [2, 3]  # five neighbours of six are all of them; then who is not near to it


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("number", [1, 4, 6])
def test_a_choice_has_no_volume_twice(rule, number):
    assert len(set(rule(DISTANCES, number))) == number


def test_choices_on_phantoms(phantom, tmp_path):
    save_atomically(UNet2d(num_classes=4).state_dict(), tmp_path / "pretrained_encoder.pt")
    settings = phantom.settings("select", tmp_path, pretrained_dir=tmp_path)
    config = load_config(phantom.bundle, "select", **settings)
    found = module.choices_of(config, [1], 2)
    names = [name for _, name in found]
    assert names[:5] == [*RULES, "random 1", "random 2"] and all(name.startswith("paper ") for name in names[5:])
    assert all(len(ids) == 1 for ids in found.values())


def test_equal_choices_have_one_folder_and_the_file_grows(tmp_path, monkeypatch):
    measured = []

    def measure(bundle, folder, dataset_dir, order, labelled, settings):
        known = json.loads(output.read_text())["rows"] if output.is_file() else []
        measured.append((folder.name, len(known)))
        assert settings["train"] == {"steps": 7} and settings["evaluate"]["dataset#data"] == [{"id": "held out"}]
        return Point(order, labelled, (), 0.5)

    choices = {
        (2, "medoids"): ("patient002", "patient001"),
        (2, "random 1"): ("patient001", "patient002"),
        (1, "paper c1"): ("patient009",),
    }
    output = tmp_path / "choosing.json"
    monkeypatch.setattr(module, "measure", measure)
    monkeypatch.setattr(module, "development", lambda _: [{"id": "held out"}])
    monkeypatch.setattr(module, "load_config", lambda *_, **settings: settings)
    monkeypatch.setattr(module, "choices_of", lambda *_: choices)
    choosing("data", str(output), runs_dir=str(tmp_path / "runs"), steps=7)
    assert measured == [("2_001_002", 0), ("1_009", 2)]  # equal choices once
    record = json.loads(output.read_text())
    assert record["volumes"] == 1 and record["settings"] == {"steps": 7}
    assert record["rows"][0] == {
        "number": 2,
        "name": "medoids",
        "labelled": ["patient002", "patient001"],
        "dice": 0.5,
    }
    choices[8, "densest"] = ("patient003",)
    choosing("data", str(output), runs_dir=str(tmp_path / "other"), steps=7)
    assert measured[2:] == [("8_003", 3)]  # what the file has is not measured again
    with pytest.raises(ValueError, match="same settings, {'steps': 8}, got {'steps': 7}: name another output"):
        choosing("data", str(output), runs_dir=str(tmp_path / "other"), steps=8)
    assert len(json.loads(output.read_text())["rows"]) == 4
