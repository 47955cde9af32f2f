"""The weights that the bundle ships: they load, and they do what is written beside them."""

from __future__ import annotations

import json

import pytest

from bundles.run import load_config, run_config
from common.checkpoints import content_hash, load_model, load_pretrained
from common.networks import UNet2d
from experiments.recipes import OUTPUT
from experiments.results import cell_of, read_any_result
from experiments.ship import model_card
from release.results import metrics_of
from tests.places import BUNDLE, CONFIGS, REPOSITORY
from tests.processes import undisturbed

METADATA = json.loads((CONFIGS / "metadata.json").read_text(encoding="utf-8"))
WEIGHTS = METADATA["weights"]
FILES = tuple(WEIGHTS)
NUM_VOLUMES = 1


@pytest.fixture(scope="module")
def recorded():
    """The result file of `model.pt`."""
    return read_any_result(REPOSITORY / WEIGHTS["model.pt"]["result"])


@pytest.mark.parametrize("name", FILES)
def test_files_are_those_that_are_described(name):
    assert WEIGHTS[name]["sha256"] == content_hash(BUNDLE / "models" / name)
    assert (BUNDLE / "models" / name).stat().st_size < 10e6


def test_files_load():
    load_model(UNet2d(num_classes=4), BUNDLE / "models" / "model.pt")
    load_pretrained(UNet2d(num_classes=2), BUNDLE / "models" / "pretrained_encoder.pt", ["encoder."])
    parts = ["encoder.", *(f"decoder.blocks.{k}." for k in range(3))]
    load_pretrained(UNet2d(num_classes=2), BUNDLE / "models" / "pretrained_encoder_decoder.pt", parts)


def test_metrics_are_those_of_the_result_file(recorded):
    assert METADATA["eval_metrics"] == metrics_of(recorded)


def test_model_card_is_that_of_the_result_file(recorded):
    card = (BUNDLE / "models" / "README.md").read_text(encoding="utf-8")
    assert card == model_card(BUNDLE, METADATA, recorded, cell_of(recorded))


def test_model_reaches_the_recorded_dice_on_real_volumes(recorded, acdc_dir, tmp_path):
    selection = load_config(BUNDLE, "evaluate")["dataset#data"]
    options = {
        "dataset_dir": acdc_dir,
        "output_dir": tmp_path,
        "cache_dir": tmp_path / "cache",
        "device": "cpu",
        **{name: WEIGHTS["model.pt"][name] for name in OUTPUT},
        "pictures": False,
        "dataset#data": f"{selection}[:{NUM_VOLUMES}]",
    }
    with undisturbed():
        run_config(BUNDLE, "evaluate", **options)
    measured = json.loads((tmp_path / "evaluation.json").read_text())["volumes"]
    assert len(measured) == NUM_VOLUMES
    expected = {volume["id"]: volume for volume in recorded["evaluations"]["selected, recomputed"]["volumes"]}
    for volume in measured:
        # Another processor may compute in float32 instead of bfloat16.
        assert volume["mean"] == pytest.approx(expected[volume["id"]]["mean"], abs=0.01)
