"""Which networks the study of dense local stages evaluates, and what it writes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from common.checkpoints import content_hash
from common.records import read_record, write_record
from experiments.cells import OUTPUTS, stages_of
from experiments.grid import SCHEDULES, Cell, Pretraining
from experiments.recipes import RECIPES
from experiments.studies import local_stages as study

ITEMS = [{"id": "a", "image": "a.nii", "label": "b.nii"}]


def trained(runs: Path, strategy: str, draw: str) -> Path:
    """Return the weights of a finished training, made up."""
    cell = Cell("acdc", Pretraining("GD", strategy), 1, draw, 0, SCHEDULES["smoke"], RECIPES["recommended"])
    stage = stages_of(cell, runs / "smoke")[-1]
    stage.folder.mkdir(parents=True)
    path = stage.folder / "model.pt"
    for name in OUTPUTS["train"]:
        torch.save({"weight": torch.tensor([len(draw + strategy), ord(strategy[1])])}, stage.folder / name)
    write_record(
        stage.folder / "record.json", {"config": "train", "seconds": 1.0, "finished": True, "images": stage.images}
    )
    return path


def test_networks_are_evaluated_on_the_development_patients(tmp_path, monkeypatch):
    paths = {name: trained(tmp_path / "runs", name, "c4") for name in study.CANDIDATES}
    given = []
    monkeypatch.setattr(study, "load_config", lambda *_, **__: "config")
    monkeypatch.setattr(study, "development", lambda config: ITEMS)
    monkeypatch.setattr(study, "evaluate", lambda own: given.append(own) or {"mean_dice": {"mean": 0.5 * len(given)}})
    study.local_stages("data", str(tmp_path / "out.json"), "c4", str(tmp_path / "runs"), "smoke")
    record = read_record(tmp_path / "out.json", "")
    assert record["volumes"] == 1
    assert record["rows"] == [
        {"draw": "c4", "strategy": name, "checkpoint_sha256": content_hash(paths[name]), "dice": dice}
        for name, dice in (("LE", 0.5), ("LX", 1.0))
    ]
    assert [own["checkpoint"] for own in given] == [str(paths[name]) for name in study.CANDIDATES]
    assert all(own["dataset#data"] == ITEMS and own["overlap"] is None for own in given)


def test_networks_that_are_not_trained_are_named_with_the_command(tmp_path):
    trained(tmp_path, "LE", "c3")
    with pytest.raises(ValueError, match=r"GD\+LX\+recommended_1_c3.* --rows GD\+LX\+recommended .*--draws c3 "):
        study.local_stages("data", str(tmp_path / "out.json"), "c3", str(tmp_path), "smoke")
    with pytest.raises(ValueError, match="draws must be among c1, c2, c3, c4, c5, got 'c9'"):
        study.local_stages("data", str(tmp_path / "out.json"), "c9", str(tmp_path), "smoke")
    with pytest.raises(ValueError, match="schedule must be one of full, reduced, smoke, got 'short'"):
        study.local_stages("data", str(tmp_path / "out.json"), runs_dir=str(tmp_path), schedule="short")
    assert not (tmp_path / "out.json").exists()
