"""Which cells are run, what is kept of them, and what happens when something is wrong. No stage is run here."""

from __future__ import annotations

import errno
import json
import sys
import time
from pathlib import Path

import fire
import pytest
from filelock import FileLock

import experiments.cells as cells_module
import experiments.reproduce as module
from common.records import write_record
from experiments.cells import stages_of
from experiments.grid import SCHEDULES, Cell, Pretraining
from experiments.recipes import RECIPES
from experiments.reproduce import RESULTS, reproduce, result_path
from experiments.results import cell_of, read_any_result, read_result

from .made_up import make_result

FEW = {"table": 6, "schedule": "smoke", "rows": "random,GD,GD+LR", "num_labelled": 1, "draws": "c1"}
NAMES = ["random_1_c1_seed0", "GD_1_c1_seed0", "GD+LR_1_c1_seed0"]


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    return tmp_path / "results" / "acdc" / "smoke"


@pytest.fixture
def cells(monkeypatch, results):
    """The cells that were run; their results also say with which folders."""
    run = []

    def remember(cell, dataset_dir, runs_dir):
        run.append(cell)
        return make_result(cell, dataset_dir=str(dataset_dir), runs_dir=str(runs_dir))

    monkeypatch.setattr(module, "run_cell", remember)
    return run


def names(cells):
    return [cell.name for cell in cells]


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_only_missing_cells_are_run(tmp_path, results, cells):
    reproduce("data", **FEW, runs_dir=str(tmp_path / "runs"))
    assert names(cells) == NAMES
    assert files(results) == sorted(f"{name}.json" for name in NAMES)
    result = json.loads((results / "GD_1_c1_seed0.json").read_text())
    assert result["runs_dir"] == str(tmp_path / "runs" / "smoke")
    assert result["dataset_dir"] == str(Path("data").resolve())

    (results / "GD_1_c1_seed0.json").unlink()
    del cells[:]
    reproduce("data", **FEW, runs_dir=str(tmp_path / "runs"))
    assert names(cells) == ["GD_1_c1_seed0"]


def test_a_whole_table(tmp_path, cells):
    reproduce("data", 7, "acdc", "smoke", runs_dir=str(tmp_path), seeds=(0, 1))
    assert len(cells) == 2 * 10 * 5  # seeds, draws of one and two volumes, rows
    assert {cell.seed for cell in cells} == {0, 1}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--rows", "GD,GD+LR", "--num_labelled", "1", "--draws", "c1"], ["GD_1_c1", "GD+LR_1_c1"]),
        (["--rows", "GD, GR", "--num_labelled", "1", "--draws", "c2"], ["GR_1_c2", "GD_1_c2"]),
        (["--rows", "GD,GR,GD", "--num_labelled", "1", "--draws", "c2"], ["GR_1_c2", "GD_1_c2"]),
        (["--rows=GD+LR.d2", "--num-labelled", "1,2", "--draws", "c5"], ["GD+LR.d2_1_c5", "GD+LR.d2_2_c5"]),
        (["--rows", "random", "--num_labelled", "all"], ["random_all_c1"]),
        (
            ["--rows", "random", "--num_labelled", "8,all"],
            ["random_8_c1", "random_8_c2", "random_8_c3", "random_all_c1"],
        ),
        (["--rows", "[GD]", "--num_labelled", "[2]", "--draws", "c1,c2"], ["GD_2_c1", "GD_2_c2"]),
    ],
    ids=["names", "space", "twice", "numbers", "all", "8 and all", "brackets"],
)
def test_lists_on_the_command_line(tmp_path, cells, options, expected):
    shared = ["reproduce", "data", "--schedule", "smoke", "--runs_dir", str(tmp_path)]
    fire.Fire({"reproduce": reproduce}, command=[*shared, *options])
    assert names(cells) == [f"{name}_seed0" for name in expected]


@pytest.mark.parametrize(("option", "seeds"), [("2", [2]), ("0,1", [0, 1])])
def test_seeds_on_the_command_line(tmp_path, cells, option, seeds):
    command = ["reproduce", "data", "--schedule=smoke", "--rows=GD", "--num_labelled=1", "--draws=c1"]
    fire.Fire({"reproduce": reproduce}, command=[*command, f"--seeds={option}", f"--runs_dir={tmp_path}"])
    assert [cell.seed for cell in cells] == seeds


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--starts=GD", "--starts is called --rows now: use that name"),
        ("--combinations=c1", "--combinations is called --draws now: use that name"),
        ("--drawz=c1", "reproduce has no option --drawz: see `python -m experiments reproduce --help`"),
    ],
    ids=["starts", "combinations", "unknown"],
)
def test_old_and_unknown_options_are_refused(tmp_path, cells, option, message):
    command = ["reproduce", "data", "--schedule=smoke", option, f"--runs_dir={tmp_path}"]
    with pytest.raises(TypeError, match=message):
        fire.Fire({"reproduce": reproduce}, command=command)
    assert not cells


def test_recipes_beyond_the_paper(tmp_path, results, cells):
    reproduce(
        "data",
        table="beyond",
        schedule="smoke",
        rows="GD,GD+beyond,GD+recommended",
        num_labelled=1,
        runs_dir=str(tmp_path),
    )
    assert [cell.row for cell in cells] == ["GD", "GD+recommended"] * 5
    assert all(cell.recipe == RECIPES["recommended"] for cell in cells[1::2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"table": 9}, "table must be one of 2, 3, 4, 5, 6, 7, 8, streets, beyond, got 9"),
        ({"dataset": "brain"}, "dataset must be one of acdc.* got 'brain'"),
        ({"table": 5}, "dataset must be one of prostate, mmwhs for table 5, got 'acdc'"),
        ({"schedule": "short"}, "schedule must be one of full, reduced, smoke, got 'short'"),
        ({"rows": ("GD", "LD")}, r"rows must be among random, GR, .*GD\+LD\.d4, got LD"),
        ({"num_labelled": 3}, "num_labelled must be among 1, 2, 8, all, got 3"),
        ({"draws": ("c1", "c9")}, "draws must be among c1, c2, c3, c4, c5, got c9"),
        ({"num_labelled": 8, "draws": "c5"}, "draws must be among c1, c2, c3, got c5"),
        ({"seeds": (0, -1)}, "seeds must be whole numbers from 0, got -1"),
        ({"seeds": "a"}, "seeds must be whole numbers from 0, got 'a'"),
        ({"engine": "slurm"}, "engine must be one of local, ray, got 'slurm'"),
        ({"address": "auto"}, "address, gpus_per_cell and cpus_per_cell must be left out unless engine is 'ray'"),
        ({"gpus_per_cell": 1}, "address, gpus_per_cell and cpus_per_cell must be left out unless engine is 'ray'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_mistakes_are_found_before_anything_is_run(tmp_path, results, cells, options, message):
    with pytest.raises(ValueError, match=message):
        reproduce("data", **{"schedule": "smoke", "runs_dir": str(tmp_path / "runs"), **options})
    assert cells == [] and not results.exists() and not (tmp_path / "runs").exists()


def test_ray_is_asked_for_where_it_is_missing(tmp_path, cells, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "experiments.ray_engine", raising=False)
    with pytest.raises(ImportError, match=r"engine 'ray' needs Ray, .*: pip install .*\[ray\]"):
        reproduce("data", **FEW, runs_dir=str(tmp_path), engine="ray")
    assert cells == []


# What is shown


def test_list_runs_nothing(tmp_path, results, cells, capsys):
    runs = tmp_path / "runs" / "smoke"
    reproduce("data", **{**FEW, "rows": "random"}, runs_dir=str(tmp_path / "runs"))
    del cells[:]
    local_stage = stages_of(Cell("acdc", Pretraining("GD", "LR"), 1, "c1", 0, SCHEDULES["smoke"]), runs)[1]
    (results / "GR_1_c1_seed0.json").write_text("{")
    local_stage.folder.mkdir(parents=True)
    with FileLock(local_stage.folder / ".lock"):
        reproduce("data", **{**FEW, "rows": "random,GR,GD,GD+LR"}, runs_dir=str(tmp_path / "runs"), list=True)
    done, unusable, missing, running = capsys.readouterr().out.splitlines()
    assert done == "done     smoke random_1_c1_seed0"
    assert unusable.startswith(f"unusable smoke GR_1_c1_seed0  {results / 'GR_1_c1_seed0.json'} is damaged")
    assert missing == "missing  smoke GD_1_c1_seed0  cost not known yet"
    assert running == "running  smoke GD+LR_1_c1_seed0  cost not known yet"
    assert cells == [] and files(results) == ["GR_1_c1_seed0.json", "random_1_c1_seed0.json"]


def test_list_estimates_what_is_missing_and_counts_a_shared_pretraining_once(tmp_path, cells, capsys):
    runs = tmp_path / "runs" / "smoke"
    other_seed = Cell("acdc", Pretraining("GD", "LR"), 1, "c1", 1, SCHEDULES["smoke"])
    for stage, minutes in zip(stages_of(other_seed, runs), (100, 30, 7), strict=True):
        record = {"config": stage.config, "seconds": 60 * minutes, "finished": True, "images": stage.images}
        write_record(stage.folder / "record.json", record)
    reproduce("data", **FEW, runs_dir=str(tmp_path / "runs"), list=True)
    assert capsys.readouterr().out.splitlines() == [
        "missing  smoke random_1_c1_seed0  about 7 min",
        "missing  smoke GD_1_c1_seed0  about 107 min",
        "missing  smoke GD+LR_1_c1_seed0  about 37 min",
        "About 151 minutes to go.",
    ]
    (tmp_path / "runs" / "smoke" / stages_of(other_seed, runs)[1].folder.name / "record.json").unlink()
    reproduce("data", **FEW, runs_dir=str(tmp_path / "runs"), list=True)
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "missing  smoke GD+LR_1_c1_seed0  cost not known yet",
        "At least 114 minutes to go.",
    ]


def test_list_names_a_damaged_record(tmp_path, cells, capsys):
    cell = Cell("acdc", Pretraining("GD", "LR"), 1, "c1", 0, SCHEDULES["smoke"])
    record = stages_of(cell, tmp_path / "smoke")[1].folder / "record.json"
    record.parent.mkdir(parents=True)
    record.write_text("{")
    reproduce("data", **FEW, runs_dir=str(tmp_path), list=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["missing", "missing", "unusable"]
    assert f"{record} is damaged" in lines[2]


# What goes wrong


def test_the_other_cells_go_on(tmp_path, results, cells, monkeypatch):
    remember = module.run_cell

    def fail_for_gd(cell, *arguments):
        if cell.row == "GD":
            try:
                raise ValueError("num_partitions must be less")
            except ValueError as error:
                raise RuntimeError("Failed to instantiate") from error  # as MONAI does
        return remember(cell, *arguments)

    monkeypatch.setattr(module, "run_cell", fail_for_gd)
    with pytest.raises(SystemExit) as stopped:
        reproduce("data", **FEW, runs_dir=str(tmp_path))
    assert stopped.value.code == (  # a text is printed, and the status is 1
        "1 of 3 cells could not be run:\nGD_1_c1_seed0: ValueError: num_partitions must be less"
    )
    assert files(results) == ["GD+LR_1_c1_seed0.json", "random_1_c1_seed0.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is damaged"),
        ('{"key": "01', "is damaged"),
        ('{"key": "0123"}', "is damaged, was edited or is no record .it has no entry 'sha256'"),
    ],
    ids=["empty", "half-written", "a key only"],
)
def test_a_result_file_that_is_not_one_is_left_alone(tmp_path, results, cells, content, message):
    results.mkdir(parents=True)
    path = results / "GD_1_c1_seed0.json"
    path.write_text(content)
    with pytest.raises(
        SystemExit, match=f"1 of 3 cells could not be run:\nGD_1_c1_seed0: ResultError: {path} {message}"
    ):
        reproduce("data", **FEW, runs_dir=str(tmp_path))
    assert path.read_text() == content
    assert names(cells) == ["random_1_c1_seed0", "GD+LR_1_c1_seed0"]
    assert files(results) == sorted(f"{name}.json" for name in NAMES)


def test_a_full_disk_leaves_no_half_result(tmp_path, results, cells, monkeypatch):
    write_bytes = Path.write_bytes

    def run_full(path, data):
        if path.name == "GD_1_c1_seed0.json":
            write_bytes(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", run_full)
    with pytest.raises(SystemExit, match=r"1 of 3 .*\nGD_1_c1_seed0: WriteError: .* its disk is full"):
        reproduce("data", **FEW, runs_dir=str(tmp_path))
    assert files(results) == ["GD+LR_1_c1_seed0.json", "random_1_c1_seed0.json"]
    assert sorted(path.name for path in results.iterdir()) == files(results)  # no folder is left either


def test_a_stage_in_use_is_named(tmp_path, results):
    (stage,) = stages_of(Cell("acdc", Pretraining(), 1, "c1", 0, SCHEDULES["smoke"]), tmp_path / "smoke")
    stage.folder.mkdir(parents=True)
    with (
        FileLock(stage.folder / ".lock"),
        pytest.raises(SystemExit, match=f"random_1_c1_seed0: Busy: {stage.folder} is in use by another process"),
    ):
        reproduce("data", **{**FEW, "rows": "random"}, runs_dir=str(tmp_path))


# The time


def test_no_cell_is_begun_after_the_time(tmp_path, results, cells, capsys):
    reproduce("data", **FEW, runs_dir=str(tmp_path), max_minutes=0)
    assert cells == [] and not results.exists()
    assert capsys.readouterr().out == "Stopped after 0 minutes; the same command goes on from there.\n"


def test_a_running_stage_is_stopped_in_good_order(tmp_path, results, monkeypatch, capsys):
    monkeypatch.setattr(cells_module, "run_config", lambda *_, **__: time.sleep(30))
    started = time.monotonic()
    reproduce("data", **FEW, runs_dir=str(tmp_path / "runs"), max_minutes=0.4 / 60)
    assert 0.4 <= time.monotonic() - started < 1.4
    assert "Stopped after" in capsys.readouterr().out
    assert not results.exists()
    (stage,) = stages_of(Cell("acdc", Pretraining(), 1, "c1", 0, SCHEDULES["smoke"]), tmp_path / "runs" / "smoke")
    assert files(tmp_path / "runs") == [f"smoke/{stage.folder.name}/{name}" for name in (".lock", "record.json")]
    assert not stage.record["finished"]
    assert 0.1 <= stage.record["seconds"] < 1.4


def test_what_was_finished_in_time_is_kept(tmp_path, results, cells, monkeypatch):
    remember = module.run_cell

    def take_long_for_gd(cell, *arguments):
        if cell.row == "GD":
            time.sleep(30)
        return remember(cell, *arguments)

    monkeypatch.setattr(module, "run_cell", take_long_for_gd)
    reproduce("data", **FEW, runs_dir=str(tmp_path), max_minutes=0.4 / 60)
    assert files(results) == ["random_1_c1_seed0.json"]
    monkeypatch.setattr(module, "run_cell", remember)
    reproduce("data", **FEW, runs_dir=str(tmp_path), max_minutes=1)
    assert names(cells) == NAMES


# The committed results


def committed():
    return sorted(RESULTS.glob("*/*/*_seed*.json"))


@pytest.mark.parametrize("path", committed(), ids=lambda path: path.stem)
def test_committed_results_are_where_the_command_looks_for_them(path):
    cell = cell_of(read_any_result(path))
    assert result_path(cell) == path
    assert read_result(path, cell)
