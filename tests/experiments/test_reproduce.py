"""Which cells are run, with which settings, and what is kept of them. No stage is run here."""

from __future__ import annotations

import json

import pytest

import experiments.reproduce as module
from experiments.grid import SCHEDULES, Cell
from experiments.report import report
from experiments.reproduce import reproduce, run_cell


@pytest.fixture
def results(tmp_path, monkeypatch):
    folder = tmp_path / "results" / "acdc"
    monkeypatch.setattr(module, "RESULTS", folder)
    return folder


@pytest.fixture
def cells(monkeypatch):
    """The cells that were run; their results hold nothing but the key."""
    run = []

    def remember(cell, dataset_dir, runs_dir):
        run.append(cell)
        return {"key": cell.key, "runs_dir": str(runs_dir)}

    monkeypatch.setattr(module, "run_cell", remember)
    return run


@pytest.fixture
def stages(monkeypatch):
    """The configs that were run, with their overrides; an evaluation writes its summary."""
    run = []

    def remember(bundle_root, name, **overrides):
        run.append((name, overrides))
        if name == "evaluate":
            mean = {"RV": 0.5, "Myo": 0.6, "LV": 0.7, "mean": 0.6}
            overrides["output_dir"].mkdir(parents=True)
            summary = {
                "mean_dice": mean,
                "volumes": [{"id": "patient007", **mean}],
                "settings": {"device": "cpu", "precision": "torch.float32"},
                "versions": {"torch": "2"},
            }
            (overrides["output_dir"] / "evaluation.json").write_text(json.dumps(summary))

    monkeypatch.setattr(module, "run_config", remember)
    return run


def names(folder):
    return sorted(path.name for path in folder.rglob("*.json"))


def test_only_missing_cells_are_run(tmp_path, results, cells):
    reproduce("data", "smoke", combinations=("c1", "c2"), runs_dir=str(tmp_path / "runs"))
    assert [cell.name for cell in cells] == [
        f"{start}_1_{draw}_seed0" for draw in ("c1", "c2") for start in ("random", "GD", "GD+LR")
    ]
    assert names(results / "smoke") == sorted(f"{cell.name}.json" for cell in cells)
    result = json.loads((results / "smoke" / "GD_1_c1_seed0.json").read_text())
    assert result["runs_dir"] == str(tmp_path / "runs" / "smoke")

    (results / "smoke" / "GD_1_c2_seed0.json").unlink()
    (results / "smoke" / "random_1_c1_seed0.json").write_text(json.dumps({"key": "of another schedule"}))
    del cells[:]
    reproduce("data", "smoke", combinations=("c1", "c2"), runs_dir=str(tmp_path / "runs"))
    assert [cell.name for cell in cells] == ["random_1_c1_seed0", "GD_1_c2_seed0"]


def test_one_start_and_one_draw(tmp_path, results, cells):
    reproduce("data", "smoke", starts="GD+LR", combinations="c3", runs_dir=str(tmp_path))
    assert [cell.name for cell in cells] == ["GD+LR_1_c3_seed0"]


def test_list_runs_nothing(tmp_path, results, cells, capsys):
    reproduce("data", "smoke", starts="GD", combinations="c1", runs_dir=str(tmp_path))
    del cells[:]
    reproduce("data", "smoke", combinations="c1", runs_dir=str(tmp_path), list=True)
    assert capsys.readouterr().out.splitlines() == [
        "missing smoke random_1_c1_seed0",
        "done    smoke GD_1_c1_seed0",
        "missing smoke GD+LR_1_c1_seed0",
    ]
    assert cells == []


def test_no_cell_is_begun_after_the_time(tmp_path, results, cells):
    reproduce("data", "smoke", runs_dir=str(tmp_path), max_minutes=0)
    assert cells == [] and not results.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "short"}, "schedule must be one of .*got 'short'"),
        ({"starts": ("GD", "LD")}, r"starts must be among .*got \['LD'\]"),
        ({"combinations": ("c1", "c9")}, "combination must be one of .*got 'c9'"),
    ],
    ids=["schedule", "start", "draw"],
)
def test_mistakes_are_found_before_anything_is_run(tmp_path, results, cells, options, message):
    with pytest.raises(ValueError, match=message):
        reproduce("data", **{"schedule": "smoke", "runs_dir": str(tmp_path), **options})
    assert cells == []


@pytest.mark.parametrize(
    ("start", "expected", "initialisation"),
    [
        ("random", [], "random"),
        ("GD", ["pretrain_global"], "encoder"),
        ("GD+LR", ["pretrain_global", "pretrain_local"], "encoder_decoder"),
    ],
)
def test_stages_of_a_cell(tmp_path, stages, start, expected, initialisation):
    schedule = SCHEDULES["reduced"]
    cell = Cell(start, 1, "c2", 3, schedule)
    result = run_cell(cell, tmp_path / "acdc", tmp_path / "runs")
    assert [name for name, _ in stages] == [*expected, "train", *["evaluate"] * 4]
    settings = dict(stages)
    weights, folder = tmp_path / "runs" / cell.pretraining_folder, tmp_path / "runs" / cell.folder
    for name, steps in (("pretrain_global", schedule.global_steps), ("pretrain_local", schedule.local_steps)):
        if name in expected:
            assert settings[name]["steps"] == steps and settings[name]["ckpt_dir"] == weights
            assert settings[name]["seed"] == 3
    train = settings["train"]
    assert train["initialisation"] == initialisation and train["pretrained_dir"] == weights
    assert train["steps"] == schedule.fine_tuning_steps and train["batch_size"] == schedule.fine_tuning_batch_size
    assert (train["num_labelled"], train["combination"], train["seed"]) == (1, "c2", 3)
    evaluations = [overrides for name, overrides in stages if name == "evaluate"]
    assert [overrides["checkpoint"] for overrides in evaluations] == [
        folder / f"{name}.pt" for name in ("model", "model_running_average", "last", "last_running_average")
    ]
    assert len({overrides["output_dir"] for overrides in evaluations}) == 4
    assert [overrides["pictures"] for overrides in evaluations] == [True, False, False, False]
    assert all(overrides["combination"] == "c2" for overrides in evaluations)

    assert result["key"] == cell.key and result["cell"]["schedule"]["name"] == "reduced"
    assert set(result["seconds_in_this_run"]) == {*expected, "train"}
    assert list(result["evaluations"]) == [
        "selected, recomputed",
        "selected, running average",
        "last, recomputed",
        "last, running average",
    ]
    assert result["device"] == "cpu" and len(result["configs_sha256"]) == 64


def test_provenance_is_that_of_the_start(tmp_path, stages, monkeypatch):
    monkeypatch.setattr(module, "commit", lambda: f"after {len(stages)} stages")
    result = run_cell(Cell("GD", 1, "c1", 0, SCHEDULES["smoke"]), tmp_path / "acdc", tmp_path / "runs")
    assert result["commit"] == "after 0 stages"


def test_results_make_a_report(tmp_path, results, stages):
    reproduce("data", "smoke", combinations=("c1",), runs_dir=str(tmp_path / "runs"))
    report(str(results.parent))
    text = (results.parent / "README.md").read_text(encoding="utf-8")
    assert text.count("| GD+LR | .600 | .600 (1 draw) | .500 | .600 | .700 |") == 4
