"""Weights of runs, put into a bundle."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

import experiments.cells as cells
import experiments.ship as module
from common.checkpoints import CheckpointError, content_hash, read_weights, save_atomically
from common.networks import UNet2d
from common.records import write_record
from experiments.cells import stages_of
from experiments.grid import SCHEDULES, Cell, Pretraining
from experiments.recipes import RECIPES
from experiments.ship import ship, ship_beside
from release.results import ResultError
from tests.places import REPOSITORY

from .made_up import DICE, make_result

MODEL = Cell("acdc", Pretraining("GD"), 8, "c1", 0, SCHEDULES["reduced"], RECIPES["recommended"])
DECODER = Cell("acdc", Pretraining("GD", "LR"), 1, "c1", 0, SCHEDULES["reduced"])


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository with a bundle, two results and what their runs have left."""
    bundle = tmp_path / "bundle_acdc"
    for name in ("configs", "docs"):
        shutil.copytree(REPOSITORY / "bundle_acdc" / name, bundle / name)
    (bundle / "models").mkdir()
    monkeypatch.setattr(cells, "REPOSITORY", tmp_path)
    monkeypatch.setattr(module, "REPOSITORY", tmp_path)
    for cell in (MODEL, DECODER):
        write_result(tmp_path, cell)
    for scale, (cell, index, name) in enumerate(
        [(MODEL, 0, "pretrained_encoder.pt"), (DECODER, -2, "pretrained_encoder_decoder.pt"), (MODEL, -1, "model.pt")]
    ):
        folder = stages_of(cell, tmp_path / "runs" / "reduced")[index].folder
        folder.mkdir(parents=True)
        weights = {key: value * 0 + scale for key, value in UNet2d(num_classes=4).state_dict().items()}
        save_atomically(weights, folder / name)
    return tmp_path


def write_result(root, cell, changes=None):
    volumes = [{"id": "patient007", **DICE}, {"id": "patient008", **DICE, "mean": 0.61}]
    path = root / "results" / f"{cell.name}.json"
    write_record(path, make_result(cell, volumes=volumes, **(changes or {})))
    return path


def run(root, model=MODEL, decoder=DECODER):
    ship(*(str(root / "results" / f"{cell.name}.json") for cell in (model, decoder)), runs_dir=str(root / "runs"))
    return json.loads((root / "bundle_acdc" / "configs" / "metadata.json").read_text())


def test_what_the_evaluation_does_otherwise_than_by_default_is_in_the_model_card(root):
    path = root / "bundle_acdc" / "configs" / "evaluate.json"
    config = json.loads(path.read_text()) | {"largest_component": False}
    path.write_text(json.dumps(config))
    run(root)
    card = (root / "bundle_acdc" / "models" / "README.md").read_text()
    assert "evaluate.json --dataset_dir DIR --largest_component True\n" in card


def test_weights_are_copied_and_described(root):
    before = json.loads((root / "bundle_acdc" / "configs" / "metadata.json").read_text())
    metadata = run(root)
    models = root / "bundle_acdc" / "models"
    assert metadata["eval_metrics"] == {"mean_dice": 0.8, "RV_dice": 0.7, "Myo_dice": 0.8, "LV_dice": 0.9}
    files = ["pretrained_encoder.pt", "pretrained_encoder_decoder.pt", "model.pt"]
    assert list(metadata["weights"]) == files
    for scale, name in enumerate(files):
        assert read_weights(models / name)["head.1.weight"].unique().tolist() == [scale]
        assert metadata["weights"][name]["sha256"] == content_hash(models / name)
    assert metadata["weights"]["model.pt"]["largest_component"] is True
    assert metadata["weights"]["model.pt"]["result"] == "results/GD+recommended_8_c1_seed0.json"
    changed = {"eval_metrics", "weights"}
    assert {key: metadata[key] for key in before if key not in changed} == {
        key: before[key] for key in before if key not in changed
    }
    assert list(metadata) == list(before)
    card = (models / "README.md").read_text()
    for text in (
        "license: cc-by-nc-sa-4.0",
        "| RV | Myo | LV | mean |\n|---|---|---|---|\n| 0.700 | 0.800 | 0.900 | 0.800 |",
        "lowest: patient008, 0.610",
        "Labelled volumes: 8 (draw c1)",
        "evaluate.json --dataset_dir DIR\n",
        "2,500 global, 500 local and 800 fine-tuning steps at batch 20; the paper's: 10,000",
        "non-commercial",
        "Not for clinical use",
        "on labelled volumes that are in no list of the split",
        content_hash(models / "model.pt"),
    ):
        assert text in card, text


@pytest.mark.parametrize("name", ["model.pt", "pretrained_encoder.pt"])
def test_nothing_is_copied_if_a_file_is_missing_or_damaged(root, name):
    for path in (root / "runs").rglob(name):
        path.write_bytes(b"PK")
    with pytest.raises(CheckpointError, match=name):
        run(root)
    assert list((root / "bundle_acdc" / "models").iterdir()) == []


@pytest.mark.parametrize(
    ("model", "decoder", "message"),
    [
        (DECODER, DECODER, r"result must be of a cell whose pre-training is global, got GD\+LR_1_c1_seed0"),
        (MODEL, MODEL, "decoder_result must be of a cell whose pre-training is global and then local"),
    ],
    ids=["model", "decoder"],
)
def test_cells_without_the_weights_are_refused(root, model, decoder, message):
    with pytest.raises(ValueError, match=message):
        run(root, model, decoder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"key": "0"}, "key must be that of its cell"), ({"cell": {}}, "is not a whole result file")],
    ids=["key", "cell"],
)
def test_damaged_results_are_refused(root, changes, message):
    write_result(root, MODEL, changes)
    with pytest.raises(ResultError, match=message):
        run(root)


def test_a_missing_result_is_refused(root):
    (root / "results" / f"{MODEL.name}.json").unlink()
    with pytest.raises(ResultError, match="name a result that `reproduce` wrote"):
        run(root)


def test_a_further_network_is_put_beside_and_described(root):
    shipped = run(root)
    further = replace(MODEL, num_labelled="all")
    path = write_result(root, further)
    folder = stages_of(further, root / "runs" / "reduced")[-1].folder
    folder.mkdir(parents=True)
    save_atomically(UNet2d(num_classes=4).state_dict(), folder / "model.pt")
    ship_beside(str(path), runs_dir=str(root / "runs"))
    models = root / "bundle_acdc" / "models"
    metadata = json.loads((root / "bundle_acdc" / "configs" / "metadata.json").read_text())
    added = metadata["weights"].pop("model_all_labels.pt")
    assert metadata == shipped
    assert added["sha256"] == content_hash(models / "model_all_labels.pt") == content_hash(folder / "model.pt")
    assert added["cell"] == "GD+recommended_all_c1_seed0" and added["result"] == f"results/{path.name}"
    card = (models / "README.md").read_text()
    assert f"| GD+recommended_all_c1_seed0, reduced | `{added['sha256']}` |" in card
    assert "`model_all_labels.pt` was trained with other labelled volumes: all of the split, and with them" in card
    assert "Its test Dice over the same volumes is 0.800" in card and "Labelled volumes: 8 (draw c1)" in card


@pytest.mark.parametrize("name", ["model.pt", "model_.txt", "../model_x.pt", "best.pt"])
def test_a_further_network_has_a_name_of_its_own(root, name):
    run(root)
    with pytest.raises(ValueError, match="name must be of the form model_NAME.pt"):
        ship_beside(str(root / "results" / f"{MODEL.name}.json"), name, str(root / "runs"))


def test_a_further_network_needs_a_first_one(root):
    path = root / "bundle_acdc" / "configs" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"weights": {}}))
    with pytest.raises(ValueError, match="run `python -m experiments ship` first"):
        ship_beside(str(root / "results" / f"{MODEL.name}.json"), runs_dir=str(root / "runs"))
