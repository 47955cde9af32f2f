"""Cells on a real Ray cluster of this machine; its workers run stand-ins of the stages, which can be killed.

`python -m pytest -n 0 -m ray` runs these tests; they take about a minute and need the extra `ray`.
"""

from __future__ import annotations

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock

import experiments.cells as cells_module
import experiments.reproduce as reproduce_module
from experiments.cells import stages_of
from experiments.grid import SCHEDULES, Cell, Pretraining
from experiments.reproduce import reproduce

from .made_up import DICE

pytestmark = pytest.mark.ray

CELL = Cell("acdc", Pretraining("GD", "LR"), 1, "c1", 0, SCHEDULES["smoke"])
OPTIONS = {"schedule": "smoke", "num_labelled": 1, "draws": "c1", "engine": "ray"}
STEPS = 4


# What the workers run: they import it from here.


def run_fake_config(bundle, name, **overrides):
    """Count steps in a file as a stage would train; the file "kill" or "fail" or "wait" in the folder interferes."""
    folder = overrides["output_dir"]
    folder.mkdir(parents=True, exist_ok=True)
    if name == "evaluate":
        summary = {
            "mean_dice": DICE,
            "volumes": [{"id": "patient007", **DICE}],
            "settings": {"device": "cpu", "precision": "torch.float32"},
            "versions": {"torch": "2"},
        }
        (folder / "evaluation.json").write_text(json.dumps(summary))
        return
    state = folder / "steps"
    first = len(state.read_text().splitlines()) if state.is_file() else 0
    with (folder / "attempts").open("a") as attempts:
        attempts.write(f"{os.getpid()} from {first}\n")
    for step in range(first, STEPS):
        if step == 2:
            interfere(folder)
        with state.open("a") as steps:
            steps.write(f"{step}\n")
    for weights in cells_module.OUTPUTS[name.partition("+")[0]]:  # without the config that is laid over it
        (folder / weights).touch()


def interfere(folder):
    if (folder / "kill").is_file():
        (folder / "kill").unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    if (folder / "kill always").is_file():
        os.kill(os.getpid(), signal.SIGKILL)
    if (folder / "fail").is_file():
        try:
            raise OSError(28, "No space left on device")
        except OSError as error:
            raise RuntimeError("Failed to run") from error
    while (folder / "wait").is_file():
        time.sleep(0.05)


def run_fake_stage(*arguments):
    cells_module.run_config = run_fake_config  # the process is a worker of these tests only
    return cells_module.run_stage(*arguments)


def run_fake_cell(*arguments):
    cells_module.run_config = run_fake_config
    return cells_module.run_cell(*arguments)


@pytest.fixture
def engine(monkeypatch, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: pip install -c constraints.txt -e '.[ray]'")
    import experiments.ray_engine as module

    monkeypatch.setattr(module, "run_stage", run_fake_stage)
    monkeypatch.setattr(module, "run_cell", run_fake_cell)
    monkeypatch.setattr(reproduce_module, "RESULTS", tmp_path / "results")
    return module


@pytest.fixture(scope="module")
def address():
    """A cluster with room for two cells at once."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install -c constraints.txt -e '.[ray]'")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    yield cluster.address
    cluster.shutdown()


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


def folder_of(runs, row, config):
    pretraining = {"random": Pretraining(), "GD": Pretraining("GD"), "GD+LR": Pretraining("GD", "LR")}[row]
    cell = Cell("acdc", pretraining, 1, "c1", 0, SCHEDULES["smoke"])
    (stage,) = (stage for stage in stages_of(cell, runs / "smoke") if stage.config == config)
    stage.folder.mkdir(parents=True, exist_ok=True)
    return stage.folder


def attempts(folder):
    """Return the processes that were at work in a folder, and the steps they began with."""
    lines = [line.split(" from ") for line in (folder / "attempts").read_text().splitlines()]
    return [int(process) for process, _ in lines], [int(step) for _, step in lines]


def finished(tmp_path):
    return sorted(path.stem.removesuffix("_1_c1_seed0") for path in (tmp_path / "results").rglob("*.json"))


def wait_for(path: Path):
    until = time.monotonic() + 50
    while not path.is_file():
        assert time.monotonic() < until, path
        time.sleep(0.05)


def test_a_killed_worker_costs_its_unfinished_steps_only(tmp_path, runs, engine, address):
    folders = {config: folder_of(runs, "GD+LR", config) for config in ("pretrain_global", "pretrain_local", "train")}
    (folders["pretrain_local"] / "kill").touch()
    (folders["train"] / "kill").touch()
    reproduce("data", **OPTIONS, rows="random,GD,GD+LR", runs_dir=str(runs), address=address)
    assert finished(tmp_path) == ["GD", "GD+LR", "random"]
    assert attempts(folders["pretrain_global"])[1] == [0]  # for both cells, and not again
    for config in ("pretrain_local", "train"):
        processes, first_steps = attempts(folders[config])
        assert first_steps == [0, 2]
        assert len(set(processes)) == 2
        assert (folders[config] / "steps").read_text().split() == ["0", "1", "2", "3"]
        with FileLock(folders[config] / ".lock").acquire(timeout=0):
            pass  # the killed process has left none
    result = json.loads((tmp_path / "results" / "acdc" / "smoke" / "GD+LR_1_c1_seed0.json").read_text())
    assert result["key"] == CELL.key
    assert list(result["seconds"]) == ["pretrain_global", "pretrain_local", "train"]


def test_two_cells_run_at_once(tmp_path, runs, engine, address):
    folders = [folder_of(runs, "random", "train"), folder_of(runs, "GD", "pretrain_global")]
    for folder in folders:
        (folder / "wait").touch()

    def release():
        for folder in folders:
            wait_for(folder / "steps")  # both workers are in the middle of a stage
        for folder in folders:
            (folder / "wait").unlink()

    with ThreadPoolExecutor() as threads:
        released = threads.submit(release)
        reproduce("data", **OPTIONS, rows="random,GD", runs_dir=str(runs), address=address, max_minutes=1)
        released.result()
    assert finished(tmp_path) == ["GD", "random"]
    assert attempts(folders[0])[0] != attempts(folders[1])[0]


def test_a_mistake_is_not_tried_again_and_the_other_cells_go_on(tmp_path, runs, engine, address):
    folder = folder_of(runs, "GD", "pretrain_global")
    (folder / "fail").touch()
    with pytest.raises(SystemExit) as stopped:
        reproduce("data", **OPTIONS, rows="random,GD,GD+LR", runs_dir=str(runs), address=address)
    first, *listed = stopped.value.code.splitlines()
    assert first == "2 of 3 cells could not be run:"
    assert sorted(listed) == [
        f"{name}_1_c1_seed0: OSError: [Errno 28] No space left on device" for name in ("GD+LR", "GD")
    ]
    assert finished(tmp_path) == ["random"]
    assert attempts(folder)[1] == [0]


def test_a_worker_that_is_lost_every_time(tmp_path, runs, engine, address):
    folder = folder_of(runs, "GD", "train")
    (folder / "kill always").touch()
    with pytest.raises(SystemExit, match="1 of 2 cells could not be run:\nGD_1_c1_seed0: WorkerCrashedError: "):
        reproduce("data", **OPTIONS, rows="random,GD", runs_dir=str(runs), address=address)
    assert finished(tmp_path) == ["random"]
    assert attempts(folder)[1] == [0, 2, 2, 2]


def test_the_time_is_kept_and_the_rest_is_done_later(tmp_path, runs, engine, address, capsys):
    folder = folder_of(runs, "GD", "train")
    (folder / "wait").touch()

    def end_of_time():
        wait_for(tmp_path / "results" / "acdc" / "smoke" / "random_1_c1_seed0.json")
        wait_for(folder / "steps")
        signal.setitimer(signal.ITIMER_REAL, 0.1)

    with ThreadPoolExecutor() as threads:
        watching = threads.submit(end_of_time)
        reproduce("data", **OPTIONS, rows="random,GD", runs_dir=str(runs), address=address, max_minutes=1)
        watching.result()
    assert "Stopped after 1 minutes" in capsys.readouterr().out
    assert finished(tmp_path) == ["random"]
    record = json.loads((folder / "record.json").read_text())  # it was interrupted, not killed
    assert not record["finished"] and record["seconds"] > 0
    (folder / "wait").unlink()
    reproduce("data", **OPTIONS, rows="random,GD", runs_dir=str(runs), address=address)
    assert finished(tmp_path) == ["GD", "random"]
    assert attempts(folder)[1] == [0, 2]


def test_a_cluster_of_its_own(tmp_path, runs, engine):
    reproduce("data", **OPTIONS, rows="GD", runs_dir=str(runs), cpus_per_cell=0.5)
    assert finished(tmp_path) == ["GD"]
    reproduce("data", **OPTIONS, rows="GD", runs_dir=str(runs))  # nothing is missing: no cluster either


def test_more_than_a_machine_has(runs, engine):
    message = "gpus_per_cell and cpus_per_cell must not exceed .* got 0 and 10000, but the machines have: GPU 0, CPU"
    with pytest.raises(ValueError, match=message):
        reproduce("data", **OPTIONS, rows="GD", runs_dir=str(runs), cpus_per_cell=10_000)
