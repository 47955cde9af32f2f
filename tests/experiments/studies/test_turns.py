"""What the study of turns measures, on phantoms with a network of random weights."""

from __future__ import annotations

import torch

from common.checkpoints import save_atomically
from common.engines.turned_inferer import HALF_TURN
from common.networks import UNet2d
from common.records import read_record
from experiments.studies import turns as study
from phantom import write_acdc_phantom, write_phantom_splits
from tests.phantoms import PREPROCESSING


def test_the_first_case_expects_what_the_bundle_does(tmp_path):
    ids = write_acdc_phantom(tmp_path / "data", 11, size=(64, 72))
    write_phantom_splits(tmp_path / "splits.json", ids[:-4], num_pretrain=4)
    torch.manual_seed(0)
    save_atomically(UNet2d(4).state_dict(), tmp_path / "model.pt")
    place = {"split_path": str(tmp_path / "splits.json"), "cache_dir": str(tmp_path / "cache")}
    settings = {**PREPROCESSING, "spacing_mm": 2.4, **place}
    given = {"dataset_dir": str(tmp_path / "data"), "checkpoint": str(tmp_path / "model.pt")}
    found = study.compare(**given, settings=settings)
    assert list(found) == list(study.CASES) and study.CASES["0 and 180"] == HALF_TURN
    assert all(case["number"] >= 4 and 0 <= case["mean_expected"] <= 1 for case in found.values())
    assert len({case["mean_expected"] for case in found.values()}) == len(found)  # the turns are not mixed up

    config = study.load_config(study.BUNDLE, "evaluate", **given, **settings)
    items = study.development(config)
    own = study.evaluate({**given, **settings, "dataset#data": items, "overlap": None, "uncertainty": True})
    expected = own["expected_dice"]["calibration"]["mean"]
    for name in ("number", "mean_expected", "mean_true"):
        assert found["0 and 180"][name] == expected[name]


def test_the_record_has_all_networks_and_the_test_of_the_first(monkeypatch, tmp_path):
    evaluated = []
    monkeypatch.setattr(study, "compare", lambda *given: {"dir": given[0], "weights": given[1]})
    monkeypatch.setattr(study, "evaluate", lambda given: evaluated.append(given) or {"expected_dice": {"look_at": []}})
    paths = {name: str(tmp_path / f"{name}.pt") for name in ("one", "two")}
    for path in paths.values():
        torch.save({}, path)
    study.turns("data", paths, str(tmp_path / "turns.json"))
    record = read_record(tmp_path / "turns.json", "")
    assert [network["name"] for network in record["networks"]] == ["one", "two"]
    assert [network["cases"]["weights"] for network in record["networks"]] == list(paths.values())
    assert record["test"] == {"look_at": []}
    assert evaluated == [{"dataset_dir": "data", "checkpoint": paths["one"], "uncertainty": True}]
