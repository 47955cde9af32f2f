"""Configs laid over each other, and MONAI's federated client, which lays evaluation over training."""

from __future__ import annotations

import csv
import json
import shutil

import pytest
import torch
from monai.bundle import ConfigParser
from monai.fl.client import MonaiAlgo
from monai.fl.utils.exchange_object import ExchangeObject

from bundles.run import run_config
from common.checkpoints import save_atomically
from common.networks import UNet2d
from tests.phantoms import NO_PROCESSES, as_text
from tests.places import BUNDLES
from tests.processes import undisturbed

LAID_OVER = ["train+evaluate", "train+paper", "train+multi_gpu_train"]


def small(phantom, folder, **more):
    """Return what makes training and evaluation small, laid over each other."""
    return phantom.settings("train", folder, initialisation="random", **more)


@pytest.mark.parametrize("overlay", ["evaluate", "paper"])
def test_every_section_of_both_resolves(phantom, tmp_path, overlay):
    save_atomically(UNet2d(4).state_dict(), tmp_path / "models" / "model.pt")
    parser = ConfigParser()
    parser.read_config([str(phantom.bundle / "configs" / f"{name}.json") for name in ("train", overlay)])
    settings = small(phantom, tmp_path, bundle_root=phantom.bundle, steps=2, **NO_PROCESSES)
    parser.update({key: as_text(value) for key, value in settings.items()})
    ids = [name for name in parser.get() if name not in ("run", "training", "_meta_")]
    assert len(ids) > 50
    for name in ids:
        assert parser.get_parsed_content(name) is not None or parser[name] is None or name == "averaging"


def test_no_import_of_one_hides_those_of_the_other():
    for bundle in BUNDLES.values():
        train, evaluate = (
            json.loads((bundle / "configs" / f"{name}.json").read_text(encoding="utf-8"))
            for name in ("train", "evaluate")
        )
        imports = {name for config in (train, evaluate) for name in config if name.endswith("imports")}
        assert len(imports) == 2
        assert not {"network", "validate", "train"} & set(evaluate)  # what fine-tuning goes on to need


def test_evaluation_laid_over_training_is_evaluation(phantom, tmp_path):
    """As bundles of the model zoo are evaluated."""
    torch.manual_seed(0)
    save_atomically(UNet2d(4).state_dict(), tmp_path / "models" / "model.pt")
    phantom.run("evaluate", tmp_path)
    alone = (tmp_path / "evaluate" / "dice.csv").read_text()
    shutil.rmtree(tmp_path / "evaluate")
    with undisturbed():
        run_config(phantom.bundle, "train+evaluate", **phantom.settings("evaluate", tmp_path))
    assert (tmp_path / "evaluate" / "dice.csv").read_text() == alone


@pytest.fixture(scope="module")
def client(phantom, tmp_path_factory):
    """MONAI's federated client with its defaults, in a bundle without weights."""
    root = tmp_path_factory.mktemp("client")
    shutil.copytree(phantom.bundle / "configs", root / "configs")
    (root / "models").mkdir()
    settings = {key: as_text(value) for key, value in small(phantom, root, **NO_PROCESSES).items()}
    for name in ("output_dir", "ckpt_dir"):
        del settings[name]
    with undisturbed():
        algo = MonaiAlgo(str(root), train_kwargs=settings, eval_kwargs=settings)
        algo.initialize()
        yield algo, root
        algo.finalize()


def test_federated_client_trains_and_evaluates(client):
    algo, root = client
    start = UNet2d(4).state_dict()
    algo.train(ExchangeObject(weights=start))
    change = algo.get_weights()
    assert change.statistics["num_executed_iterations"] == 1
    assert any(value.abs().max() > 0 for value in change.weights.values())
    written = {path.relative_to(root): path.read_bytes() for path in root.rglob("*.pt")}
    assert {path.name for path in written} >= {"model.pt", "last.pt"}
    for _ in range(2):
        metrics = algo.evaluate(ExchangeObject(weights=start)).metrics
    assert {"mean_dice", "RV_dice"} <= set(metrics)
    # The weights of others are not what this client has reached.
    assert {path.relative_to(root): path.read_bytes() for path in root.rglob("*.pt")} == written


def test_rounds_of_a_federation_go_on_from_what_the_server_sends(client):
    algo, _ = client
    sent = UNet2d(4).state_dict()
    algo.train(ExchangeObject(weights=sent))
    change = algo.get_weights().weights
    # One step of Adam changes no parameter by more than its rate.
    name = "encoder.blocks.0.0.weight"
    name = name if name in change else next(key for key in change if key.endswith("weight"))
    assert 0 < change[name].abs().max() < 0.01


def test_items_need_no_id(phantom, tmp_path):
    """As lists of other people have them, also with files of the same names in several folders."""
    torch.manual_seed(0)
    save_atomically(UNet2d(4).state_dict(), tmp_path / "models" / "model.pt")
    items = []
    for patient in list(phantom.items)[-2:]:
        (tmp_path / patient).mkdir()
        item = {"image": tmp_path / patient / "image.nii.gz", "label": tmp_path / patient / "label.nii.gz"}
        shutil.copy(phantom.image(patient), item["image"])
        shutil.copy(phantom.label(patient), item["label"])
        items.append({key: str(path) for key, path in item.items()})
    phantom.run("evaluate", tmp_path, **{"dataset#data": items, "dataset#num_workers": 0})
    with open(tmp_path / "evaluate" / "dice.csv", newline="") as file:
        ids = [row["id"] for row in csv.DictReader(file)]
    assert ids == [f"{patient}_image" for patient in list(phantom.items)[-2:]]
    assert (tmp_path / "evaluate" / "pictures" / f"{ids[0]}.png").is_file()
