"""The list of pre-trained files. No network is trained here."""

from __future__ import annotations

import hashlib
import shutil

import pytest

import experiments.weights as module
from common.records import read_record, write_record
from experiments.cells import OUTPUTS, stages_of
from experiments.grid import SCHEDULES, Cell, Pretraining
from experiments.weights import MANIFEST, weights
from release.results import ResultError


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A folder with the finished stages of GD+LR, the local one of them unfinished, and results beside it."""
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(module, "REPOSITORY", tmp_path / "repository")
    monkeypatch.setattr(module, "commit", lambda: "c0ffee")
    cell = Cell("acdc", Pretraining("GD", "LR"), 1, "c1", 0, SCHEDULES["smoke"])
    for stage in stages_of(cell, tmp_path / "runs" / "smoke"):
        stage.folder.mkdir(parents=True)
        for name in OUTPUTS[stage.config]:
            (stage.folder / name).write_bytes(stage.config.encode())
        finished = stage.config != "pretrain_local"
        write_record(
            stage.folder / "record.json", {"config": stage.config, "seconds": 1.0, "finished": finished, "images": 4}
        )
    return tmp_path / "runs"


def manifest(runs):
    return read_record(runs.parent / "results" / "acdc" / "smoke" / MANIFEST, "")["files"]


def test_finished_pretrainings_are_listed(runs):
    weights(str(runs), schedule="smoke")
    ((name, entry),) = manifest(runs).items()
    assert name.startswith("GD_") and name.endswith("/pretrained_encoder.pt") and (runs / "smoke" / name).is_file()
    assert entry["sha256"] == hashlib.sha256(b"pretrain_global").hexdigest() and entry["bytes"] == 15
    assert (entry["pretraining"], entry["commit"], entry["in_repository"]) == ("GD", "c0ffee", None)
    assert entry["settings"]["strategy"] == "GD" and entry["settings"]["steps"] == 4


def test_what_is_committed_is_named(runs):
    kept = runs.parent / "repository" / "bundle_acdc" / "models" / "pretrained_encoder.pt"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"pretrain_global")
    weights(str(runs), schedule="smoke")
    (entry,) = manifest(runs).values()
    assert entry["in_repository"] == "bundle_acdc/models/pretrained_encoder.pt"


def test_files_that_are_elsewhere_stay_listed_and_commits_stay(runs, monkeypatch):
    weights(str(runs), schedule="smoke")
    first = manifest(runs)
    monkeypatch.setattr(module, "commit", lambda: "later")
    weights(str(runs), schedule="smoke")
    assert manifest(runs) == first
    shutil.rmtree(runs)
    weights(str(runs), schedule="smoke")
    assert manifest(runs) == first


def test_what_cannot_be_listed(runs):
    with pytest.raises(ValueError, match="schedule must be one of full, reduced, smoke, got 'long'"):
        weights(str(runs), schedule="long")
    (record,) = (runs / "smoke").glob("GD_*/record.json")
    record.write_text("{}")
    with pytest.raises(ResultError, match="is not a whole record|no hash|sha256"):
        weights(str(runs), schedule="smoke")
