"""Stages of cells, and what is kept of them. No network is trained here."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from filelock import FileLock
from torch.utils.tensorboard import SummaryWriter

import experiments.cells as module
from common.data.samplers import contrastive_sampler
from common.data.slices import Slices
from common.data.splits import read_split
from common.engines.trainer import num_epochs
from common.records import write_record
from common.strategies import make_layout
from experiments.cells import (
    Busy,
    Stage,
    bundle_of,
    estimated_minutes,
    is_running,
    run_cell,
    run_stage,
    seconds_per_image,
    stages_of,
)
from experiments.grid import SCHEDULES, Cell, Pretraining
from experiments.recipes import EARLIER_N4, RECIPES, RECOMMENDED, Recipe
from experiments.results import read_result
from release.results import EVALUATIONS, ResultError

STARTS = {
    "random": Pretraining(),
    "GR": Pretraining("GR"),
    "GD+LR.d2": Pretraining("GD", "LR", 2),
    "joint": Pretraining("GD", "LR", joint_weight=100.0),
    "batch 250": Pretraining("GD", batch_size=250),
    "batch 416": Pretraining("GD", batch_size=416),
    "partitions 6": Pretraining("GD", num_partitions=6),
}
CONFIGS = {
    "random": ["train"],
    "GR": ["pretrain_global", "train"],
    "GD+LR.d2": ["pretrain_global", "pretrain_local", "train"],
    "joint": ["pretrain_joint", "train"],
    "batch 250": ["pretrain_global", "train"],
    "batch 416": ["pretrain_global", "train"],
    "partitions 6": ["pretrain_global", "train"],
}


def make_cell(start="random", num_labelled=1, draw="c2", seed=3, schedule="reduced", **changes):
    return Cell("acdc", STARTS[start], num_labelled, draw, seed, SCHEDULES[schedule], **changes)


def leave_weights(config, folder):
    for name in module.OUTPUTS.get(config.removesuffix("+paper"), ()):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.fixture
def stage(tmp_path):
    return Stage(bundle_of("acdc"), "train", tmp_path / "runs" / "stage", {"steps": 4, "batch_size": 8}, "paper")


@pytest.fixture
def configs(monkeypatch):
    """The configs that were run, with their overrides; fine-tuning writes curves, an evaluation its summary."""
    run = []

    def remember(bundle, name, **overrides):
        name = name.partition("+")[0]
        run.append((name, overrides))
        leave_weights(name, overrides["output_dir"])
        if name == "train":
            writer = SummaryWriter(overrides["output_dir"])
            for step in range(1, 251):
                writer.add_scalar("train_loss", 1 / step, step)
            writer.add_scalar("mean_dice", float("nan"), 1)
            writer.add_scalar("mean_dice", 0.5, 2)
            writer.close()
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


# Which stages a cell has


@pytest.mark.parametrize("start", STARTS)
def test_configs_have_what_is_overridden(tmp_path, start):
    recipe = Recipe("all", "strong", 0.1, 0.9, self_training_rounds=1, learning_rate_decay="cosine")
    stages = stages_of(make_cell(start, recipe=recipe), tmp_path)
    assert [stage.config for stage in stages] == CONFIGS[start]
    for stage in stages:
        config = json.loads((stage.bundle / "configs" / f"{stage.config}.json").read_text())
        assert {"dataset_dir", "output_dir", "ckpt_dir", *stage.settings} <= set(config), stage.config


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("start", STARTS)
def test_configs_accept_the_settings(tmp_path, start, schedule):
    starts = torch.arange(0, 53 * 6, 6)  # ACDC has 52 volumes to pre-train on, the flattest of 6 slices
    slices = Slices(torch.zeros(int(starts[-1]), 1, 1, 1), None, starts)
    for stage in stages_of(make_cell(start, schedule=schedule), tmp_path):
        num_epochs(stage.settings["steps"], stage.settings["steps_per_epoch"])
        if "num_labelled" in stage.settings:
            splits = stage.bundle / "configs" / "splits.json"
            assert read_split(splits, stage.settings["num_labelled"], stage.settings["draw"])
        elif "num_partitions" in stage.settings:
            names = ("strategy", "batch_size", "num_partitions")
            strategy, batch_size, num_partitions = (stage.settings[name] for name in names)
            contrastive_sampler(make_layout(strategy, batch_size, num_partitions), slices)


@pytest.mark.parametrize("start", STARTS)
def test_settings_say_what_the_cell_says(tmp_path, start):
    cell = make_cell(start, num_labelled=8)
    pretraining, schedule = cell.pretraining, cell.schedule
    stages = {stage.config: stage for stage in stages_of(cell, tmp_path)}
    assert all(stage.settings["seed"] == 3 for stage in stages.values())
    steps = {
        "pretrain_global": schedule.global_steps,
        "pretrain_joint": schedule.global_steps,
        "pretrain_local": schedule.local_steps,
        "train": schedule.fine_tuning_steps,
    }
    assert {name: stage.settings["steps"] for name, stage in stages.items()} == {name: steps[name] for name in stages}
    for name in ("pretrain_global", "pretrain_joint"):
        if name in stages:
            settings = stages[name].settings
            assert settings["strategy"] == pretraining.global_strategy
            assert settings["batch_size"] == pretraining.batch_size
            assert settings["num_partitions"] == pretraining.num_partitions
    if "pretrain_joint" in stages:
        settings = stages["pretrain_joint"].settings
        assert (settings["local_strategy"], settings["local_weight"]) == ("LR", 100.0)
    if "pretrain_local" in stages:
        settings = stages["pretrain_local"].settings
        assert (settings["strategy"], settings["num_blocks"], settings["region_size"]) == ("LR", 2, 3)
        assert settings["pretrained_path"] == stages["pretrain_global"].folder / "pretrained_encoder.pt"
    settings = stages["train"].settings
    assert (settings["num_labelled"], settings["draw"]) == (8, "c2")
    assert (settings["initialisation"], settings["batch_size"]) == (pretraining.initialisation, 20)
    if start == "random":
        assert "pretrained_dir" not in settings
    else:
        assert settings["pretrained_dir"] == list(stages.values())[-2].folder


@pytest.mark.parametrize(
    ("recipe", "settings"),
    [
        ("mixup", {"mixup_alpha": 0.1}),
        ("strong", {"augmentation": "strong"}),
        ("averaging", {"weight_averaging": 0.99}),
    ],
)
def test_a_recipe_changes_fine_tuning_only(tmp_path, recipe, settings):
    plain, other = (stages_of(make_cell("GR", recipe=RECIPES[name]), tmp_path) for name in ("paper", recipe))
    assert plain[0] == other[0]
    assert other[1].settings == {**plain[1].settings, **settings}
    assert other[1].folder != plain[1].folder


def test_what_is_done_with_the_output_needs_no_other_network(tmp_path):
    plain, cleaned = (make_cell("GR", recipe=RECIPES[name]) for name in ("paper", "component"))
    assert stages_of(plain, tmp_path) == stages_of(cleaned, tmp_path)
    assert plain.folder != cleaned.folder


def test_self_training_cleans_the_labels_and_the_output(tmp_path):
    (stage,) = stages_of(make_cell(recipe=RECIPES["recommended"]), tmp_path)
    assert stage.settings["largest_component"] is True and stage.settings["self_training_rounds"] > 0


def test_the_recommended_recipe_is_run_as_it_is_by_default(tmp_path):
    names = ("paper", RECOMMENDED, "recomputed", "frames")
    plain, recommended, recomputed, frames = (
        stages_of(make_cell(recipe=RECIPES[name]), tmp_path)[-1] for name in names
    )
    assert (plain.laid_over, recommended.laid_over, frames.laid_over) == ("paper", "", "")
    # These are said in both, so that none depends on what the default is.
    own, other = (
        {"batch_norm_statistics": a, "kept_weights": b} for a, b in (("mixed", "last"), ("recomputed", "best"))
    )
    assert own.items() <= recommended.settings.items() and not own.keys() & plain.settings.keys()
    assert recomputed.settings == {**recommended.settings, **other}
    assert frames.settings == {**recomputed.settings, "unlabelled_frames": "all"}
    assert "steps_per_epoch" in plain.settings and "steps_per_epoch" not in recommended.settings


def test_the_former_self_training_is_not_run(tmp_path):
    with pytest.raises(ValueError, match="was run by versions up to 0.7, whose results stay; take 'recommended'"):
        stages_of(make_cell(recipe=RECIPES["beyond"]), tmp_path)


def folders(cell, runs_dir):
    return [stage.folder for stage in stages_of(cell, runs_dir)]


def test_equal_pretrainings_are_shared(tmp_path):
    cell = make_cell("GD+LR.d2")
    only_global = replace(cell, pretraining=Pretraining("GD"))
    with_ld = replace(cell, pretraining=Pretraining("GD", "LD", 2))
    assert folders(cell, tmp_path)[0] == folders(only_global, tmp_path)[0] == folders(with_ld, tmp_path)[0]
    assert folders(cell, tmp_path)[1] != folders(with_ld, tmp_path)[1]
    other_draw = replace(cell, draw="c1", num_labelled=2)
    assert folders(cell, tmp_path)[:2] == folders(other_draw, tmp_path)[:2]
    assert folders(cell, tmp_path)[2] != folders(other_draw, tmp_path)[2]


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 4},
        {"schedule": replace(SCHEDULES["reduced"], global_steps=50)},
        {"pretraining": Pretraining("GR", "LR", 2)},
        {"pretraining": Pretraining("GD", "LR", 2, batch_size=250)},
    ],
    ids=["seed", "steps", "strategy", "batch"],
)
def test_other_pretrainings_are_not_shared(tmp_path, changes):
    cell = make_cell("GD+LR.d2")
    # The local stage is another one too, since it starts from other weights.
    assert set(folders(cell, tmp_path)).isdisjoint(folders(replace(cell, **changes), tmp_path))


def test_folders_are_called_as_ever(tmp_path):
    """Finished stages are found again: these names are of runs whose results are committed."""
    cell = Cell("acdc", Pretraining("GD", "LR"), 1, "c4", 0, SCHEDULES["reduced"])
    names = ["GD_ab29003b4959", "GD+LR_475ce31ecce3", "GD+LR_1_c4_seed0_a60c4474677d"]
    assert [folder.name for folder in folders(cell, tmp_path)] == names


def test_folders_keep_their_names_when_the_runs_are_moved(tmp_path):
    for start in STARTS:
        here, there = (folders(make_cell(start), tmp_path / name) for name in ("here", "there"))
        assert [folder.name for folder in here] == [folder.name for folder in there]


def test_unknown_dataset():
    with pytest.raises(ValueError, match="dataset must be one of acdc.*, which have a bundle, got 'brain'"):
        bundle_of("brain")


# How a stage is run


def test_a_config_is_laid_over_that_of_a_stage(tmp_path, stage, monkeypatch):
    names = []
    monkeypatch.setattr(module, "run_config", lambda bundle, name, **_: names.append(name))
    run_stage(stage, tmp_path / "data")
    run_stage(replace(stage, folder=tmp_path / "runs" / "other", laid_over=""), tmp_path / "data")
    assert names == ["train+paper", "train"]


def test_a_finished_stage_is_not_run_again(tmp_path, stage, configs):
    run_stage(stage, tmp_path / "data")
    run_stage(stage, tmp_path / "data")
    ((name, overrides),) = configs
    expected = {"dataset_dir": tmp_path / "data", "output_dir": stage.folder, "ckpt_dir": stage.folder}
    assert (name, overrides) == ("train", {**stage.settings, **expected})
    assert stage.record["finished"]
    assert stage.images == stage.record["images"] == 32


@pytest.mark.parametrize("config", ["pretrain_global", "pretrain_local", "pretrain_joint", "train"])
def test_finished_stages_whose_weights_are_gone_are_named(tmp_path, stage, configs, config):
    stage = replace(stage, config=config)
    run_stage(stage, tmp_path)
    name = module.OUTPUTS[config][0]
    (stage.folder / name).unlink()
    with pytest.raises(
        ResultError, match=f"stage: the run is finished, but files are gone .{name}.: put them back, or delete"
    ):
        run_stage(stage, tmp_path)
    assert len(configs) == 1


def test_an_interrupted_stage_goes_on_and_adds_up_its_seconds(tmp_path, stage, monkeypatch):
    def break_off(*_, **__):
        time.sleep(0.2)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "run_config", break_off)
    with pytest.raises(KeyboardInterrupt):
        run_stage(stage, tmp_path)
    assert not stage.record["finished"]
    assert 0.2 <= stage.record["seconds"] < 1

    def finish(bundle, name, output_dir, **_):
        time.sleep(0.3)
        leave_weights(name, output_dir)

    monkeypatch.setattr(module, "run_config", finish)
    run_stage(stage, tmp_path)
    assert stage.record["finished"]
    assert 0.5 <= stage.record["seconds"] < 2


def test_a_stage_in_use_is_left_alone(tmp_path, stage, configs):
    stage.folder.mkdir(parents=True)
    with FileLock(stage.folder / ".lock"):
        assert is_running([stage])
        with pytest.raises(Busy, match="stage is in use by another process"):
            run_stage(stage, tmp_path)
    assert configs == []
    assert not is_running([stage])


def test_a_killed_process_leaves_no_lock(tmp_path, stage, configs):
    stage.folder.mkdir(parents=True)
    code = (
        "import sys, time, filelock as f; held = f.FileLock(sys.argv[1]).acquire(); print(flush=True); time.sleep(20)"
    )
    command = [sys.executable, "-c", code, str(stage.folder / ".lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert is_running([stage])
        process.send_signal(signal.SIGKILL)
        run_stage(stage, tmp_path)
    assert len(configs) == 1


def test_a_stage_that_another_process_has_finished_meanwhile_is_not_run(tmp_path, stage, configs, monkeypatch):
    class FinishedWhileWaiting(FileLock):
        def acquire(self, *args, **kwargs):
            leave_weights("train", stage.folder)
            record = {"config": "train", "seconds": 1.0, "finished": True, "images": 32}
            write_record(stage.folder / "record.json", record)
            return super().acquire(*args, **kwargs)

    monkeypatch.setattr(module, "FileLock", FinishedWhileWaiting)
    run_stage(stage, tmp_path)
    assert configs == []


@pytest.mark.parametrize(
    "content", ["", '{"seconds": 3', "[1]", "{}", '{"seconds": null}', b"\xff"], ids=lambda content: repr(content)
)
def test_a_damaged_record_is_named_and_left_alone(tmp_path, stage, configs, content):
    path = stage.folder / "record.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = path.read_bytes()
    with pytest.raises(
        ResultError, match="record.json is (damaged|not a whole record).*delete it to let the stage go on"
    ):
        run_stage(stage, tmp_path)
    assert configs == []
    assert path.read_bytes() == before
    assert seconds_per_image(tmp_path / "runs") == {}


def test_the_record_of_another_config_is_refused(tmp_path, stage, configs):
    run_stage(stage, tmp_path)
    with pytest.raises(ResultError, match="record.json is of the config 'train', the stage's is 'pretrain_local'"):
        run_stage(replace(stage, config="pretrain_local"), tmp_path)
    assert len(configs) == 1


def test_an_unfinished_record_that_was_changed_to_finished_is_refused(tmp_path, stage, configs):
    path = stage.folder / "record.json"
    write_record(path, {"config": "train", "seconds": 1.0, "finished": False, "images": 32})
    path.write_text(path.read_text().replace("false", "true"))
    leave_weights("train", stage.folder)
    with pytest.raises(ResultError, match="record.json is damaged, was edited"):
        run_stage(stage, tmp_path)
    assert configs == []


# What a cell comes to


@pytest.mark.parametrize("start", ["random", "GD+LR.d2", "joint"])
def test_result_of_a_cell(tmp_path, configs, start):
    cell = make_cell(start)
    result = run_cell(cell, tmp_path / "acdc", tmp_path / "runs")
    assert [name for name, _ in configs] == [*CONFIGS[start], *["evaluate"] * 4]
    folder = stages_of(cell, tmp_path / "runs")[-1].folder
    evaluations = [overrides for name, overrides in configs if name == "evaluate"]
    assert [overrides["checkpoint"] for overrides in evaluations] == [
        folder / f"{name}.pt" for name in ("model", "model_running_average", "last", "last_running_average")
    ]
    known = json.loads((bundle_of("acdc") / "configs" / "evaluate.json").read_text())
    assert all(set(overrides) <= set(known) for overrides in evaluations)
    assert len({overrides["output_dir"] for overrides in evaluations}) == 4
    assert {overrides["output_dir"].parent.name for overrides in evaluations} == {cell.folder}
    assert not any(overrides["largest_component"] for overrides in evaluations)
    assert [overrides["pictures"] for overrides in evaluations] == [True, False, False, False]
    assert all(overrides["draw"] == "c2" for overrides in evaluations)
    # Networks are evaluated on volumes that are preprocessed as those they were trained on.
    assert all(overrides.items() >= EARLIER_N4.items() for _, overrides in configs)

    result = json.loads(json.dumps(result))
    assert result["key"] == cell.key
    assert Cell.from_dict(result["cell"]) == cell
    assert list(result["seconds"]) == CONFIGS[start]
    assert list(result["evaluations"]) == list(EVALUATIONS)
    assert (result["device"], result["precision"]) == ("cpu", "torch.float32")
    assert len(result["configs_sha256"]) == 64
    curve = result["curves"]["train_loss"]
    assert 50 < len(curve) <= 100
    assert curve[0] == [1, 1.0]
    assert curve[1][1] == pytest.approx(1 / curve[1][0], abs=1e-5)
    assert result["curves"]["mean_dice"] == [[2, 0.5]]
    write_record(tmp_path / "result.json", result)
    assert read_result(tmp_path / "result.json", cell) == result


def test_provenance_is_that_of_the_start(tmp_path, configs, monkeypatch):
    monkeypatch.setattr(module, "commit", lambda: f"after {len(configs)} stages")
    assert run_cell(make_cell(), tmp_path / "acdc", tmp_path / "runs")["commit"] == "after 0 stages"


def test_a_cell_goes_on_from_its_last_finished_stage(tmp_path, configs, monkeypatch):
    cell = make_cell("GD+LR.d2")
    remember = module.run_config

    def fail(bundle, name, **overrides):
        if name == "pretrain_local":
            raise OSError(28, "No space left on device")
        remember(bundle, name, **overrides)

    monkeypatch.setattr(module, "run_config", fail)
    with pytest.raises(OSError, match="No space left"):
        run_cell(cell, tmp_path / "acdc", tmp_path / "runs")
    monkeypatch.setattr(module, "run_config", remember)
    run_cell(cell, tmp_path / "acdc", tmp_path / "runs")
    assert [name for name, _ in configs] == [*CONFIGS["GD+LR.d2"], *["evaluate"] * 4]


# What is to come


def test_estimates(tmp_path):
    def record(name, config, seconds, images, finished=True):
        path = tmp_path / name / "record.json"
        values = {"config": config, "seconds": seconds, "finished": finished, "images": images}
        write_record(path, values)
        leave_weights(config, path.parent)

    record("a", "train", 100.0, 1000)
    record("b", "train", 300.0, 1000)
    record("c", "train", 200.0, 1000)
    record("d", "train", 9.0, 1000, finished=False)
    record("e", "pretrain_global", 50.0, 1000)
    rates = seconds_per_image(tmp_path)
    assert rates == {"train": 0.2, "pretrain_global": 0.05}

    def estimate(*stages):
        made = [Stage(tmp_path, config, tmp_path / name, settings) for config, name, settings in stages]
        return estimated_minutes(made, rates)

    assert estimate(("train", "new", {"steps": 300, "batch_size": 2})) == pytest.approx(2.0)
    assert estimate(("train", "a", {"steps": 300})) == 0  # finished
    assert estimate(("train", "d", {"steps": 345})) == pytest.approx(1.0)  # 69 s less the 9 s it has had
    assert estimate(("train", "d", {"steps": 1})) == 0
    new = ("train", "new", {"steps": 300})
    assert estimate(new, ("pretrain_global", "new too", {"steps": 1200})) == pytest.approx(2.0)
    assert estimate(new, ("pretrain_local", "unknown", {"steps": 1})) is None


def test_tables_of_the_paper_keep_the_earlier_bias_field_correction(tmp_path):
    """Their results stand on it, and so does the pre-training that other recipes share with them."""
    paper = stages_of(make_cell("GD+LR.d2"), tmp_path)
    assert [stage.preprocessing for stage in paper] == [EARLIER_N4] * 3
    recommended = stages_of(make_cell("GD+LR.d2", recipe=RECIPES[RECOMMENDED]), tmp_path)
    assert [stage.preprocessing for stage in recommended] == [EARLIER_N4, EARLIER_N4, {}]
    assert [stage.folder for stage in recommended[:2]] == [stage.folder for stage in paper[:2]]
    for other in (make_cell("GR", schedule="full"), replace(make_cell("GR"), dataset="prostate")):
        assert [stage.preprocessing for stage in stages_of(other, tmp_path)] == [{}, {}]


def test_folders_are_named_as_those_that_are_there(tmp_path):
    cell = replace(make_cell(seed=0), pretraining=Pretraining("GD", "LR"))
    names = [stage.folder.name for stage in stages_of(cell, tmp_path)]
    assert names[:2] == ["GD_ab29003b4959", "GD+LR_475ce31ecce3"]


def test_the_recommended_recipe_has_the_default_in_training_and_evaluation(tmp_path, configs):
    run_cell(make_cell("GR", recipe=RECIPES[RECOMMENDED]), tmp_path / "acdc", tmp_path / "runs")
    assert [name for name, overrides in configs if "n4_shrink" in overrides] == ["pretrain_global"]
