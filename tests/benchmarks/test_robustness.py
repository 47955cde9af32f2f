from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from benchmarks import harness
from benchmarks.robustness import campaign, headers, process, verdicts
from benchmarks.robustness.leaks import PAIRS, put_under
from benchmarks.robustness.process import Ending, last_message
from benchmarks.robustness.verdicts import CLEAR, CRASH, LOST, RIGHT, SILENT, UNCLEAR, WARNED, Verdict, is_clear, judge
from benchmarks.robustness.weights import DAMAGES, break_bytes
from benchmarks.robustness.world import World, tensors
from phantom import write_acdc_phantom
from tests.places import REPOSITORY

RECORD = "2026-01-01 12:00:00,000 - common.segmentation - {} - {}\n"
REFUSED = "CheckpointError: /models/model.pt: its checksums are wrong. Copy it again."

# --- what an ending counts as ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "same", "verdict"),
    [
        (Ending(0), True, RIGHT),
        (Ending(0), False, SILENT),  # a product that ignores damage
        (Ending(0, stdout=RECORD.format("WARNING", "model.pt is damaged.")), False, WARNED),
        (Ending(0, stdout=RECORD.format("WARNING", "the room is cold.")), False, SILENT),
        (Ending(0, stdout=RECORD.format("INFO", "model.pt is damaged.")), False, SILENT),
        (Ending(0, stderr="x.py:3: UserWarning: model.pt is damaged.\n"), False, WARNED),
        (Ending(1, message=REFUSED), False, CLEAR),
        (Ending(1, message=REFUSED), True, CLEAR),  # the answer is that of an earlier run
        (Ending(1, message="CheckpointError: the file is damaged. Copy it again."), False, UNCLEAR),
        (Ending(1, message="ValueError: model.pt is damaged.", by_product=True), False, UNCLEAR),
        (Ending(1, message="ValueError: model.pt is damaged."), False, CRASH),
        (Ending(1, message="RuntimeError: PytorchStreamReader failed reading model.pt. Copy it."), False, CRASH),
        (Ending(1, message=""), False, CRASH),
        (Ending(None, signal=11), False, CRASH),
        (Ending(None, signal=9, timed_out=True), False, CRASH),
    ],
)
def test_judge(ending, same, verdict):
    assert judge(ending, same, ["model.pt"], "something").verdict == verdict


def test_a_warning_that_is_always_there_says_nothing():
    ending = Ending(0, stdout=RECORD.format("WARNING", "/a/model.pt has 3 parts."))
    known = Ending(0, stdout=RECORD.format("WARNING", "/b/c/model.pt has 14 parts.")).warnings
    assert judge(ending, False, ["model.pt"], "something", known).verdict == SILENT


@pytest.mark.parametrize(
    ("message", "option", "clear"),
    [
        ("VolumeError: /a/model.pt has no voxels. Replace the file.", False, True),
        ("VolumeError: /a/model.pt has no voxels.", False, False),
        ("VolumeError: /a/model.pt: there is no such file; run the stage that writes it.", False, True),
        ("VolumeError: there is no such file; run the stage that writes it.", False, False),
        ("OSError: [Errno 28] /a/model.pt must have room: 3 MiB needed. Make room, or choose another.", False, True),
        ("OSError: unable to write /a/model.pt.", False, False),
        ("ValueError: model.pt must be at least 1, got 0.", False, False),
        ("ValueError: model.pt must be at least 1, got 0.", True, True),
        ("model.pt: [enforce fail at inline_container.cc:137]. Copy it again.", False, False),
        ("OSError: [Errno 28] No space left on device: '/a/model.pt'. Make room.", False, False),
    ],
)
def test_is_clear(message, option, clear):
    assert is_clear(message, ["model.pt"], option) == clear


def test_last_message():
    trace = "Traceback (most recent call last):\n  File ...\nValueError: one\n\nTraceback ...\nRuntimeError: two\n"
    assert last_message("", trace) == "RuntimeError: two"
    assert last_message("", f"{trace}\nCause: ValueError: one\nover two lines\n") == "ValueError: one\nover two lines"
    log = RECORD.format("ERROR", "1 of 1:\n/a/b cannot be read.") + RECORD.format("INFO", "done")
    assert last_message(log, "bar: 100%") == "1 of 1:\n/a/b cannot be read."


# --- trouble ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", sorted(set(DAMAGES)))
def test_every_damage_damages(tmp_path, damage):
    path = tmp_path / "weights.pt"
    torch.save({"a": torch.arange(9000.0)}, path)
    before = path.read_bytes()
    what = break_bytes(path, damage, np.random.default_rng(3))
    after = path.read_bytes()
    assert after != before and len(after) <= len(before) and f"{len(before):,}" in what


def test_tensors_are_read_without_the_product(tmp_path):
    paths = [tmp_path / f"{name}.pt" for name in "abc"]
    for path, value in zip(paths, (1.0, 1.0, 2.0), strict=True):
        torch.save({"network": {"weight": torch.full((3,), value)}, "steps": 2}, path)
    assert tensors(paths[0]) == tensors(paths[1]) != tensors(paths[2])
    paths[1].write_bytes(paths[0].read_bytes()[:100])
    assert set(tensors(paths[1])) == {"unreadable"}


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    folder = tmp_path_factory.mktemp("image")
    write_acdc_phantom(folder, 1, size=(24, 28))
    return folder / "training" / "patient001" / "patient001_frame01.nii.gz"


@pytest.mark.parametrize(("field", "values"), headers.FIELDS, ids=[field for field, _ in headers.FIELDS])
def test_every_mutation_is_one_of_the_header(image, tmp_path, field, values):
    raw = bytearray(nibabel.load(image).header.binaryblock) + bytes(4)
    changed = 0
    for number in range(6):
        mutated = bytearray(raw)
        headers.mutate(mutated, field, values, np.random.default_rng(number))
        assert mutated[348:] == raw[348:] and len(mutated) == len(raw)
        changed += mutated != raw
    assert changed


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"descrip": b"changed"}, None),
        ({"xyzt_units": 1}, "a field of view of|voxels of"),  # metres
        ({"sform_code": 0, "qform_code": 0}, None),
        ({"scl_slope": 2.0, "scl_inter": 0.0}, None),
        ({"scl_slope": 2.0, "scl_inter": np.nan}, ""),
        ({"datatype": 128, "bitpix": 24}, ""),
        ({"magic": b"no"}, "in nibabel"),
    ],
)
def test_what_is_said(image, tmp_path, fields, said):
    loaded = nibabel.load(image)
    raw = bytearray(loaded.header.binaryblock) + bytes(4) + np.asanyarray(loaded.dataobj).tobytes(order="F")
    header = nibabel.Nifti1Header(bytes(raw[:348]), check=False)
    header["vox_offset"] = 352
    for name, value in fields.items():
        header[name] = value
    path = tmp_path / "mutated.nii"
    path.write_bytes(header.binaryblock + raw[348:])
    found = headers.what_is_said(path)
    if said is not None:
        assert isinstance(found, str) and any(part in found for part in said.split("|"))
    else:
        assert np.allclose(found.affine, nibabel.load(path).affine)
        factor = fields.get("scl_slope", 1.0)
        assert np.array_equal(np.asanyarray(found.dataobj), factor * np.asanyarray(loaded.dataobj))


def test_agree():
    labels = np.arange(1000).reshape(10, 10, 10) % 4
    one = {"affine": np.eye(4).tolist(), "voxels": labels.tolist()}
    nearly, other = labels.copy(), labels.copy()
    nearly.flat[:10] += 1
    other.flat[:100] += 1
    assert headers.agree(one, {**one, "voxels": nearly.tolist()})
    assert not headers.agree(one, {**one, "voxels": other.tolist()})
    assert not headers.agree(one, {**one, "voxels": labels[:9].tolist()})
    assert not headers.agree(one, {**one, "affine": np.diag([1, 1, 2, 1]).tolist()})


@pytest.mark.parametrize("form", ["copied", "recompressed", "linked", "of another data type"])
def test_leaked_voxels_are_the_same(tmp_path, form):
    world = object.__new__(World)
    world.data = tmp_path
    write_acdc_phantom(tmp_path, 2, size=(16, 20))
    source, target = (world.image(name) for name in ("patient001", "patient002"))
    old = source.read_bytes()
    put_under(world, tmp_path, "patient001", "patient002", form)
    one, two = nibabel.load(source), nibabel.load(target)
    assert np.array_equal(one.affine, two.affine)
    assert np.array_equal(np.asarray(one.dataobj), np.asarray(two.dataobj))
    assert (target.read_bytes() == old) == (form in ("copied", "linked")) and target.is_symlink() == (form == "linked")


# --- the campaign ----------------------------------------------------------------------------------------------------


def test_full_size():
    sizes = {kind: module.FULL for kind, module in campaign.KINDS.items()}
    assert sizes == {
        "weights": 200,
        "volumes": 100,
        "headers": 150,
        "kills": 60,
        "disk": 20,
        "leaks": 25,
        "options": 40,
    }
    assert campaign.chosen(200, 1.0) == list(range(200)) and campaign.chosen(200, 0.01) == [0, 199]
    assert campaign.chosen(25, 0.01) == [0] and len(PAIRS) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 0}, "scale must be above 0 and at most 1, got 0"),
        ({"only": "weight"}, "only must be among weights, volumes, .* got weight; choose"),
        ({"case": 3}, "case must come with one kind, got weights, volumes"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        campaign.measure(**options)


def test_result_counts_and_says_what_repeats_a_failure():
    tallies = {
        "weights": campaign.Tally({3: Verdict(RIGHT, "one"), 9: Verdict(SILENT, "two", "was used")}),
        "kills": campaign.Tally({0: Verdict(LOST, "three", "gone"), 1: Verdict(CLEAR, "four")}, {2: "no right"}),
    }
    outcome = campaign._result(tallies, seed=7)
    assert [row["tried"] for row in outcome["rows"]] == [2, 2, 4]
    assert outcome["rows"][0]["silent"] == 1 and outcome["rows"][2]["lost"] == 1
    assert [(found["kind"], found["case"], found["repeat"]) for found in outcome["failures"]] == [
        ("weights", 9, "--only weights --case 9 --seed 7"),
        ("kills", 0, "--only kills --case 0 --seed 7"),
    ]
    met = {target["rule"]: target["met"] for target in outcome["targets"]}
    assert met == {
        "cases: silent": False,
        "cases: crash": True,
        "cases: lost": False,
        "cases: unclear error": True,
        "of 2 killed runs, those that ended bit-identical after a restart": False,
    }
    assert outcome["notes"] == ["kills: 1 cases were not tried: no right."]
    assert set(verdicts.VERDICTS) < set(outcome["rows"][0])


def run_robustness(tmp_path: Path, *options: str) -> dict:
    """Run the campaign in a process of its own: this one has threads, which do not survive a fork."""
    output = tmp_path / "result.json"
    command = [sys.executable, "-m", "benchmarks", "measure", "robustness", *options, "--output", str(output)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return json.loads(output.read_text())


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="children are forked and waited for as on Linux")
def test_a_wrong_option_is_tried_in_a_child(tmp_path):
    """An id instead of a list, of the stage that needs no other to have been run."""
    number = [wrong.stage for wrong in campaign.options.WRONG].index("pretrain_global")
    outcome = run_robustness(tmp_path, "--only", "options", "--case", str(number))
    assert [(row["tried"], row["clear error"]) for row in outcome["rows"]] == [(1, 1)]
    assert outcome["command"] == f"python -m benchmarks run robustness --only options --case {number}"
    assert outcome["failures"] == []


@pytest.mark.slow
def test_all_kinds_at_a_small_scale(tmp_path):
    outcome = run_robustness(tmp_path, "--scale", "0.05")
    assert [row["kind"] for row in outcome["rows"]] == [*campaign.KINDS, "all"]
    bad = [found for found in outcome["failures"] if found["verdict"] in (SILENT, CRASH, LOST, UNCLEAR)]
    assert bad == [], json.dumps(bad, indent=1)


def test_the_forked_child_is_told_apart(tmp_path):
    assert process.TIMEOUT_SECONDS > 60 and harness.source("robustness").name == "__init__.py"
    assert harness.source("step").name == "step.py"
