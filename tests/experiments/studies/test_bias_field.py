"""What the study of N4 measures, on phantoms with a network of random weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from common.checkpoints import save_atomically
from common.networks import UNet2d
from common.records import read_record
from experiments.studies.bias_field import bias_field, measure
from phantom import write_acdc_phantom, write_phantom_splits
from tests.phantoms import PREPROCESSING
from tests.processes import undisturbed

NAMES = ("every 8th pixel, 3 levels of 50", "every 16th pixel, 2 levels of 50", "no correction")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    ids = write_acdc_phantom(folder / "data", 9, size=(64, 72))
    write_phantom_splits(folder / "splits.json", ids[:-2], num_pretrain=4)
    save_atomically(UNet2d(4).state_dict(), folder / "model.pt")
    settings = {**PREPROCESSING, "spacing_mm": 2.4, "split_path": str(folder / "splits.json")}
    with undisturbed():
        return measure(str(folder / "data"), str(folder / "model.pt"), settings, NAMES)


def test_the_first_case_is_what_the_others_are_compared_with(found):
    first, second, none = (found[name] for name in NAMES)
    assert list(found) == list(NAMES)
    assert first["time"] == 1 and second["time"] > 0 and none["time"] is None
    assert first["difference"] == pytest.approx(0, abs=1e-6)
    assert 0 < second["difference"] < none["difference"]
    assert all(0 <= case["dice"] <= 1 for case in found.values())


def test_what_n4_gets_is_not_normalised_yet(monkeypatch, tmp_path):
    """Else its floor of intensities would be another one, and its field too."""
    seen = []

    class Seen:
        def __init__(self, *_):
            pass

        def __call__(self, volume):
            seen.append(volume)
            return volume

    monkeypatch.setattr("experiments.studies.bias_field.N4BiasFieldCorrection", Seen)
    monkeypatch.setattr("experiments.studies.bias_field._dice", lambda *_: 0.5)
    ids = write_acdc_phantom(tmp_path / "data", 9, size=(64, 72))
    write_phantom_splits(tmp_path / "splits.json", ids[:-2], num_pretrain=4)
    settings = {**PREPROCESSING, "spacing_mm": 2.4, "split_path": str(tmp_path / "splits.json")}
    measure(str(tmp_path / "data"), "none.pt", settings, NAMES[:1])
    assert len(seen) == 2 and all(volume.max() > 10 for volume in seen)


def test_the_record_says_of_which_weights(monkeypatch, tmp_path):
    monkeypatch.setattr("experiments.studies.bias_field.measure", lambda *_: {"a case": {"dice": 0.5}})
    torch.save({}, tmp_path / "model.pt")
    bias_field("data", str(tmp_path / "model.pt"), str(tmp_path / "n4.json"))
    record = read_record(Path(tmp_path / "n4.json"), "")
    assert record["cases"] == {"a case": {"dice": 0.5}} and len(record["checkpoint_sha256"]) == 64
