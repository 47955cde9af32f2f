"""The kit for a lent GPU, on phantoms and with stages that only pretend to train."""

from __future__ import annotations

import json
import multiprocessing
import os
import shlex
import signal
import subprocess
import time
import zipfile
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

import experiments.cells as cells_module
import experiments.gpu.cells as gpu_cells
import experiments.gpu.outcome as outcome_module
import experiments.gpu.pack as pack_module
import experiments.gpu.scheduler as scheduler
import experiments.reproduce as reproduce_module
from common.data.datalists import acdc
from common.data.splits import draws_of
from experiments.cells import bundle_of, stages_of
from experiments.gpu.__main__ import main
from experiments.gpu.cells import ROWS, headline_cells, recipe_cells, run_chosen
from experiments.gpu.kit import KitError, code_hashes, commit_of, describe, install, read_manifest, require_device
from experiments.gpu.outcome import Outcome, collect, restore
from experiments.gpu.pack import LIMIT, SPARSE, check_size
from experiments.gpu.scheduler import Progress, Task, fewest_good, next_task, run_cells
from experiments.gpu.slices import (
    needed_ids,
    pack_slices,
    preprocessing_of,
    restore_values,
    round_values,
    select_needed,
    unpack_slices,
)
from experiments.grid import SCHEDULES, Cell, Pretraining
from experiments.recipes import RECIPES
from phantom import write_acdc_phantom
from tests.phantoms import PREPROCESSING
from tests.places import REPOSITORY

BUNDLE = bundle_of("acdc")
SPLITS = BUNDLE / "configs" / "splits.json"
SMOKE = SCHEDULES["smoke"]


# --- what travels ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [8, 10, 16])
def test_rounding_errs_by_half_a_step_at_most(bits):
    volume = np.random.default_rng(bits).normal(0.3, 0.4, (1, 20, 30, 4)).astype(np.float32)
    numbers, lowest, size = round_values(volume, bits)
    assert size == pytest.approx(float(np.ptp(volume)) / (2**bits - 1), rel=1e-6) and numbers.max() == 2**bits - 1
    error = np.abs(restore_values(numbers, lowest, size) - volume).max()
    assert 0.45 * size < error <= 0.5 * size + 2e-7  # a cruder rounding, or a truncation, would err by more


def test_a_constant_volume_is_kept():
    volume = np.full((1, 2, 2, 2), 0.7, np.float32)
    assert np.array_equal(restore_values(*round_values(volume, 8)), volume)


@pytest.mark.parametrize("bits", [7, 17])
def test_other_numbers_of_bits_are_refused(bits):
    with pytest.raises(ValueError, match="bits must be 8 to 16"):
        round_values(np.zeros((2, 2), np.float32), bits)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """An archive of two phantoms, what was measured, where they are from, and the cache that they are from."""
    root = tmp_path_factory.mktemp("packed")
    write_acdc_phantom(root / "data", 2, size=(40, 44))
    cached = preprocessing_of(BUNDLE, cache_dir=str(root / "cache"), **PREPROCESSING)
    measured = pack_slices(root / "slices.zip", root / "data", acdc(root / "data"), cached, 10)
    return root / "slices.zip", measured, root / "data", cached


def test_volumes_arrive_in_the_cache_of_the_other_machine(packed, tmp_path):
    archive, measured, data, cached = packed
    there = preprocessing_of(BUNDLE, cache_dir=str(tmp_path / "cache"), **PREPROCESSING)
    unpack_slices(archive, tmp_path / "data", there)
    assert measured["volumes"] == 2 and 0 < measured["rms_error"] < measured["greatest_error"] < 0.01
    worst = 0.0
    for before, after in zip(acdc(data), acdc(tmp_path / "data"), strict=True):
        assert Path(after["label"]).read_bytes() == Path(before["label"]).read_bytes()
        first, second = nibabel.load(before["image"]), nibabel.load(after["image"])
        assert first.shape == second.shape and np.allclose(first.affine, second.affine, atol=1e-5)
        assert there.entry_path(after["image"]).is_file()
        volume, expected = there({"image": after["image"]})["image"], cached({"image": before["image"]})["image"]
        worst = max(worst, float((volume.as_tensor() - expected.as_tensor()).abs().max()))
        assert repr(volume.applied_operations) == repr(expected.applied_operations)
        assert set(volume.meta) == set(expected.meta)
    assert worst == pytest.approx(measured["greatest_error"], rel=1e-3)
    assert len({path.name for path in (tmp_path / "cache").iterdir()}) == 2  # stand-ins differ


def test_an_archive_is_unpacked_once(packed, tmp_path):
    cached = preprocessing_of(BUNDLE, cache_dir=str(tmp_path / "cache"), **PREPROCESSING)
    unpack_slices(packed[0], tmp_path / "data", cached)
    changed = next((tmp_path / "data").rglob("*_gt.nii.gz"))
    changed.write_bytes(b"")
    unpack_slices(packed[0], tmp_path / "data", cached)
    assert changed.read_bytes() == b""
    with pytest.raises(KitError, match="none.zip is not here: carry it"):
        unpack_slices(tmp_path / "none.zip", tmp_path / "data", cached)


def test_the_volumes_of_all_draws_are_packed():
    ids = needed_ids(SPLITS)
    split = json.loads(SPLITS.read_text())
    assert {*split["pretrain"], *split["test"]} < set(ids)
    for number in ("1", "2", "8"):
        for draw in split["draws"][number].values():
            assert {*draw["labelled"], *draw["validation"]} <= set(ids)
    assert len(ids) < 80  # not the hundred of the benchmark with all labels


def test_labels_are_packed(acdc_dir):
    items = select_needed(BUNDLE, acdc_dir, SPLITS)
    assert [item["id"] for item in items] == needed_ids(SPLITS)
    assert all(Path(item["label"]).is_file() for item in items)


@pytest.fixture
def kit(tmp_path):
    folder = tmp_path / "kit"
    folder.mkdir()
    (folder / "slices.zip").write_bytes(b"slices")
    (folder / "itk.zip").write_bytes(bytes(2000))
    (folder / "state").mkdir()
    (folder / "state" / "state-0.zip").write_bytes(bytes(300))
    describe(folder, commit="0123456789ab", code=code_hashes(["common/files.py"]))
    return folder


def test_a_file_that_is_not_the_packed_one_is_refused(kit):
    assert set(read_manifest(kit)["files"]) == {"slices.zip", "itk.zip"}
    (kit / "itk.zip").unlink()  # did not travel with this command
    read_manifest(kit)
    (kit / "slices.zip").write_bytes(b"sliceS")
    with pytest.raises(KitError, match=r"slices.zip is not the file that was packed"):
        read_manifest(kit)


@pytest.mark.parametrize("text", [None, "{", "{}"])
def test_a_kit_without_manifest_is_refused(kit, text):
    (kit / "manifest.json").unlink() if text is None else (kit / "manifest.json").write_text(text)
    with pytest.raises(KitError, match="manifest.json cannot be read"):
        read_manifest(kit)


def test_the_commit_is_dirty_if_its_code_is(kit):
    manifest = read_manifest(kit)
    assert commit_of(manifest) == "0123456789ab"
    manifest["code"]["common/files.py"] = "0" * 64
    assert commit_of(manifest) == "0123456789ab-dirty"
    manifest["commit"] = "0123456789ab-dirty"
    assert commit_of(manifest) == "0123456789ab-dirty"


def test_more_than_may_travel_is_refused(kit, monkeypatch, capsys):
    monkeypatch.setattr(pack_module, "_travelling", lambda: ["LICENSE"])
    tree = (pack_module.REPOSITORY / "LICENSE").stat().st_size
    manifest = (kit / "manifest.json").stat().st_size
    check_size(kit, tree + manifest + 2000)
    assert "carry kit/manifest.json" in capsys.readouterr().out
    with pytest.raises(KitError, match=r"what travels must be at most .* got test, benchmarks .* MiB: take fewer bits"):
        check_size(kit, tree + manifest + 1999)
    with pytest.raises(KitError, match="cells, recipe"):
        check_size(kit, tree + manifest + 305)


def test_what_travels_of_the_working_tree_leaves_room_for_the_kit():
    """The committed files, without those that the README's first command takes away."""
    assert f"    {SPARSE}\n" in (Path(pack_module.__file__).parent / "README.md").read_text(encoding="utf-8")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if tracked.returncode != 0:
        pytest.skip("not a git repository")
    left_out = [word.removeprefix("!/").rstrip("/") for word in shlex.split(SPARSE) if word.startswith("!/")]
    paths = [path for path in map(Path, filter(None, tracked.stdout.split("\0"))) if (REPOSITORY / path).is_file()]
    kept = [path for path in paths if not any(fnmatch(str(path), f"{pattern}*") for pattern in left_out)]
    assert sum((REPOSITORY / path).stat().st_size for path in kept) < LIMIT / 3


def test_the_version_of_python_is_taken_as_it_is_written(tmp_path, monkeypatch):
    asked = []

    def download(packages, folder, python):
        asked.append(python)
        raise KitError("no network")

    monkeypatch.setattr(pack_module, "download", download)
    with pytest.raises(KitError, match="no network"):
        main(["pack", "--dataset_dir", "data", "--kit", str(tmp_path), "--python", "3.10"])
    assert asked == ["3.10"]


def test_a_wheel_is_installed_without_a_network(kit, tmp_path, monkeypatch):
    name = "carried_for_a_test"
    wheel = kit / "wheels" / f"{name}-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{name}.py", "answer = 42\n")
        archive.writestr(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{name}-1.0.dist-info/RECORD", "")
    (kit / "itk.zip").unlink()
    describe(kit, commit="", code={})
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    install(kit, tmp_path / "work")
    assert __import__(name).answer == 42
    assert os.environ["PYTHONPATH"].split(os.pathsep)[0] == str(tmp_path / "work" / "site")
    wheel.unlink()
    with pytest.raises(KitError, match=r"carry kit/wheels as well"):
        install(kit, tmp_path / "work")


# --- what runs there -------------------------------------------------------------------------------------------------


def test_without_a_gpu_nothing_runs_unless_it_is_a_rehearsal(kit, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert require_device("cpu") == "CPU, a rehearsal"
    with pytest.raises(KitError, match="device must be 'cuda', or 'cpu' to rehearse, got 'tpu'"):
        require_device("tpu")
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    monkeypatch.setenv("PYTHONPATH", "")
    (kit / "itk.zip").unlink()
    places = [f"--kit={kit}", f"--work={tmp_path / 'work'}"]
    for command in (["test"], ["benchmarks"], ["cells"], ["recipe", "--name=recommended"]):
        with pytest.raises(KitError) as caught:
            main([*command, f"--out={tmp_path / 'out'}", *places])
        assert str(caught.value).startswith("no GPU that torch can use") and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_rehearsal_is_refused_where_there_is_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(KitError, match="leave it out"):
        require_device("cpu")


def test_cells_come_in_the_order_of_the_headline():
    cells = headline_cells(SCHEDULES["full"], draws_of(SPLITS))
    assert [cell.row for cell in cells[:5]] == list(ROWS) == ["random", "GD", "GD+LR", "GR", "GD+LD"]
    assert [cell.num_labelled for cell in cells] == [1] * 25 + [2] * 25 + [8] * 15
    assert [cell.draw for cell in cells[:25:5]] == ["c1", "c2", "c3", "c4", "c5"]
    assert len({cell.key for cell in cells}) == 65 and {cell.schedule.fine_tuning_steps for cell in cells} == {10_000}


def test_cells_of_a_recipe_come_in_the_order_of_what_they_settle():
    cells = recipe_cells("recommended", SMOKE, draws_of(SPLITS))
    rows = [cell.row for cell in cells]
    assert rows[:26] == ["GD+recommended"] * 13 + ["random+recommended"] * 13
    assert Counter(rows[26:]) == {f"GD+{local}+recommended": 10 for local in ("LR", "LE", "LX")}
    assert {cell.recipe for cell in cells} == {RECIPES["recommended"]}
    with pytest.raises(KitError, match="name must be one of paper, .*got 'unknown'"):
        recipe_cells("unknown", SMOKE, draws_of(SPLITS))


@pytest.mark.parametrize("schedule", ["reduced", "short"])
def test_schedules_whose_cells_were_not_prepared_are_refused(tmp_path, schedule):
    with pytest.raises(KitError, match=f"schedule must be full or smoke, .* got '{schedule}'"):
        gpu_cells.cells(str(tmp_path), device="cpu", schedule=schedule)


def test_the_fewest_processes_that_are_nearly_as_fast_are_taken():
    assert fewest_good({1: 50.0, 2: 97.0, 4: 100.0, 8: 60.0}) == 2
    assert fewest_good({1: 50.0, 2: 94.0, 4: 100.0}) == 4


def make_cells(*rows, draws=("c1",)):
    known = {"random": Pretraining(), "GD": Pretraining("GD"), "GD+LR": Pretraining("GD", "LR")}
    return [Cell("acdc", known[row], 1, draw, 0, SMOKE) for draw in draws for row in rows]


def finish(stage):
    stage.folder.mkdir(parents=True, exist_ok=True)
    for name in cells_module.OUTPUTS[stage.config]:
        (stage.folder / name).write_bytes(os.urandom(2500))
    cells_module.run_stage(stage, Path())  # with a config that does nothing: writes the record


@pytest.fixture
def no_training(monkeypatch):
    monkeypatch.setattr(cells_module, "run_config", lambda *_, **__: None)


def test_a_stage_that_is_running_is_waited_for_and_overtaken(tmp_path, no_training):
    cells = make_cells("GD", "GD+LR", "random")
    gd, gd_lr, random = (stages_of(cell, tmp_path) for cell in cells)
    assert gd[0].folder == gd_lr[0].folder
    running: list[Task] = []
    for expected in (gd[0], random[0]):  # not GD+LR, which waits for the same pre-training
        running.append(next_task(cells, tmp_path, Progress(), running))
        assert running[-1].stage.folder == expected.folder
    assert next_task(cells, tmp_path, Progress(), running) is None
    finish(gd[0])
    assert next_task(cells, tmp_path, Progress(), running[1:]).stage.folder == gd[1].folder
    finish(gd[1])
    assert next_task(cells, tmp_path, Progress(), []) == Task(cells[0], None)  # is to be evaluated
    progress = Progress(results={cells[0].name: {}})
    assert next_task(cells, tmp_path, progress, []).stage.folder == gd_lr[1].folder


def test_a_stage_that_failed_fails_the_cells_that_need_it(tmp_path):
    cells = make_cells("GD", "GD+LR", "random")
    progress = Progress(failures={stages_of(cells[0], tmp_path)[0].folder.name: "no room"})
    assert next_task(cells, tmp_path, progress, []).cell.name == "random_1_c1_seed0"
    assert {"GD_1_c1_seed0", "GD+LR_1_c1_seed0"} < set(progress.failures)


def pretend(bundle, name, **overrides):
    """Count steps in a file, as a stage trains; files in the folder's parent, named after the stage, interfere."""
    folder = Path(overrides["output_dir"])
    folder.mkdir(parents=True, exist_ok=True)
    if name == "evaluate":
        summary = {"mean_dice": {}, "volumes": [], "settings": {"device": "cpu", "precision": ""}, "versions": {}}
        (folder / "evaluation.json").write_text(json.dumps(summary))
        return
    with (folder / "attempts").open("a") as file:
        file.write(f"{os.getpid()}\n")
    for what in ("kill", "fail", "wait"):
        sign = folder.parent / f"{what} {folder.name.rpartition('_')[0]}"
        if sign.is_file():
            (folder / "resume.pt").write_text("state")
            if what == "kill":
                sign.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
            if what == "fail":
                raise OSError(28, "No space left on device")
            time.sleep(60)
    for file in cells_module.OUTPUTS[name.removesuffix("+paper")]:
        (folder / file).touch()


def run(cells, tmp_path, seconds, workers=2):
    changes = []
    started = time.monotonic()
    progress = run_cells(
        cells, tmp_path, tmp_path / "runs", started + seconds, workers, tmp_path / "logs",
        lambda progress, task: changes.append(task and task.name),
    )  # fmt: skip
    return progress, changes, time.monotonic() - started


@pytest.fixture
def pretended(monkeypatch, tmp_path):
    monkeypatch.setattr(scheduler, "_CONTEXT", multiprocessing.get_context("fork"))  # they know what is pretended
    monkeypatch.setattr(cells_module, "run_config", pretend)
    (tmp_path / "runs").mkdir()
    return tmp_path


def test_cells_stop_in_time_and_go_on_from_there(pretended):
    cells = make_cells("random", "GD", "GD+LR")
    (pretended / "runs" / "wait GD+LR").touch()
    progress, changes, seconds = run(cells, pretended, 3)
    assert 2.5 < seconds < 10
    assert set(progress.results) == {"random_1_c1_seed0", "GD_1_c1_seed0"} and not progress.failures
    stage = stages_of(cells[2], pretended / "runs")[1]
    assert changes[-1] == stage.folder.name and (stage.folder / "resume.pt").is_file()
    assert not stage.record["finished"] and stage.record["seconds"] > 1
    (pretended / "runs" / "wait GD+LR").unlink()
    progress, changes, seconds = run(cells[2:], pretended, 30)
    assert set(progress.results) == {"GD+LR_1_c1_seed0"} and seconds < 10
    assert len((stage.folder / "attempts").read_text().splitlines()) == 2
    assert len((stages_of(cells[2], pretended / "runs")[0].folder / "attempts").read_text().splitlines()) == 1


def test_a_process_that_dies_is_replaced_and_a_failure_is_told(pretended):
    cells = make_cells("random", "GD", "GD+LR")
    (pretended / "runs" / "kill random_1_c1_seed0").touch()
    (pretended / "runs" / "fail GD+LR").touch()
    progress, _, _ = run(cells, pretended, 30)
    assert set(progress.results) == {"random_1_c1_seed0", "GD_1_c1_seed0"}
    failed = stages_of(cells[2], pretended / "runs")[1].folder.name
    assert progress.failures == {
        failed: "OSError: [Errno 28] No space left on device",
        "GD+LR_1_c1_seed0": f"its stage {failed} failed",
    }
    assert "No space left" in "".join(path.read_text() for path in (pretended / "logs").iterdir())


def test_results_and_pretrainings_are_written_as_they_come(pretended, monkeypatch):
    cells = make_cells("random", "GD")
    (pretended / "runs" / "smoke").mkdir()
    monkeypatch.setattr(gpu_cells, "REPOSITORY", pretended)
    monkeypatch.setattr(reproduce_module, "RESULTS", pretended / "experiments" / "results")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    outcome = Outcome(pretended / "out", {"commit": "0123456789ab"})
    runs = pretended / "runs" / "smoke"
    run_chosen(cells, pretended, runs, time.monotonic() + 30, 1, outcome, pretended / "logs")
    report = json.loads((pretended / "out" / "report.json").read_text())
    assert report["done"] == ["GD_1_c1_seed0", "random_1_c1_seed0"]
    assert not report["missing"] and not report["failures"]
    with zipfile.ZipFile(pretended / "out" / "results.zip") as archive:
        results = [json.loads(archive.read(name)) for name in archive.namelist()]
    assert {result["commit"] for result in results} == {"0123456789ab"}
    assert restore(pretended / "out", pretended / "there") == [f"smoke/{stages_of(cells[1], runs)[0].folder.name}"]
    damaged = reproduce_module.result_path(cells[0])
    damaged.write_text("{")
    run_chosen(cells, pretended, runs, time.monotonic() + 30, 1, outcome, pretended / "logs")
    assert cells[0].name in outcome.facts["failures"] and damaged.read_text() == "{"  # and is left alone


# --- what comes back -------------------------------------------------------------------------------------------------


@pytest.fixture
def stages(tmp_path, no_training, monkeypatch):
    """Stages of GD, which is finished, and of GD+LR, which is not; two pieces to a file."""
    monkeypatch.setattr(outcome_module, "_PART_BYTES", 2000)
    gd, gd_lr, train = stages_of(make_cells("GD+LR")[0], tmp_path / "runs" / "smoke")
    finish(gd)
    gd_lr.folder.mkdir()
    (gd_lr.folder / "resume.pt").write_bytes(os.urandom(3000))
    return [gd, gd_lr, train]


def names(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_stages_go_on_where_they_came_back(stages, tmp_path):
    outcome = Outcome(tmp_path / "out", {})
    assert outcome.keep(stages, tmp_path / "runs") == []
    assert len(list((tmp_path / "out").glob("state-*.zip"))) > 1
    there = tmp_path / "there"
    assert sorted(restore(tmp_path / "out", there)) == sorted(
        stage.folder.relative_to(tmp_path / "runs").as_posix() for stage in stages[:2]
    )
    for stage in stages[:2]:
        target = there / stage.folder.relative_to(tmp_path / "runs")
        assert names(target) == names(stage.folder)
        assert all((target / name).read_bytes() == (stage.folder / name).read_bytes() for name in names(target))
    assert restore(tmp_path / "out", there) == []  # what is there already stays


def test_a_stage_with_a_lost_piece_is_begun_anew(stages, tmp_path):
    Outcome(tmp_path / "out", {}).keep(stages[1:2], tmp_path / "runs")
    max((tmp_path / "out").glob("state-*.zip")).unlink()
    assert restore(tmp_path / "out", tmp_path / "there") == []
    assert not (tmp_path / "there").exists()


def test_finished_stages_come_back_first_where_there_is_little_room(stages, tmp_path):
    outcome = Outcome(tmp_path / "out", {}, state_mib=4000 / 2**20)
    assert outcome.keep(reversed(stages), tmp_path / "runs") == [stages[1].folder.name]
    assert restore(tmp_path / "out", tmp_path / "there") == [f"smoke/{stages[0].folder.name}"]


def test_an_archive_is_written_again_only_if_it_changes(stages, tmp_path):
    outcome = Outcome(tmp_path / "out", {})
    outcome.keep(stages[:1], tmp_path / "runs")
    before = {path.name: path.stat().st_ino for path in (tmp_path / "out").glob("state-*.zip")}
    outcome.keep(stages[:1], tmp_path / "runs")
    assert {path.name: path.stat().st_ino for path in (tmp_path / "out").glob("state-*.zip")} == before


def test_results_are_collected_to_their_places(tmp_path, capsys):
    name = "experiments/results/acdc/smoke/random_1_c1_seed0.json"
    outcome = Outcome(tmp_path / "out", {"command": "cells"})
    outcome.add(name, b"{}")
    outcome.add("benchmarks/results/step_gpu.json", b"{}")
    outcome.add("logs/process_0.log", b"a log")
    outcome.add("experiments/results/../../../outside.json", b"{}")
    (tmp_path / "out" / "state-0.zip").write_bytes(b"state")
    collect(str(tmp_path / "out"), str(tmp_path / "repository"), str(tmp_path / "kit"))
    found = {path.relative_to(tmp_path / "repository").as_posix() for path in (tmp_path / "repository").rglob("*.json")}
    assert found == {name, "benchmarks/results/step_gpu.json"} and not (tmp_path / "outside.json").exists()
    assert names(tmp_path / "kit" / "state") == ["state-0.zip"]
    (tmp_path / "repository" / name).write_text("{ }")
    with pytest.raises(KitError, match="random_1_c1_seed0.json: there is another result"):
        collect(str(tmp_path / "out"), str(tmp_path / "repository"), str(tmp_path / "kit"))
    assert (tmp_path / "repository" / name).read_text() == "{ }"
    with pytest.raises(KitError, match="has no report.json"):
        collect(str(tmp_path / "kit"))


def test_what_comes_back_is_few_files(stages, tmp_path):
    outcome = Outcome(tmp_path / "out", {})
    outcome.add("logs/process_0.log", b"a log")
    outcome.keep(stages, tmp_path / "runs")
    assert len(names(tmp_path / "out")) <= 8 and all(path.is_file() for path in (tmp_path / "out").iterdir())
