"""The plan for many subjects: what is computed from which results, and what it says where one is missing."""

from __future__ import annotations

import json

from benchmarks.plan import SOURCES, SUBJECTS, plan
from benchmarks.report import report
from common.records import write_record
from tests.places import REPOSITORY

from .test_report import make_outcome

PREPARE = make_outcome(
    "prepare",
    rows=[
        {"volumes": "these 4", "contender": "full resolution", "volumes a minute": 1.0},
        {"volumes": "any number, start excluded", "contender": "ours, 2 processes", "volumes a minute": 20.0},
    ],
)
SCALE = make_outcome(
    "scale",
    rows=[
        {"slices": 500, "GiB": 0.05, "resident MiB": 100.0, "step, times 500 slices": 1.0},
        {"slices": 250_000, "GiB": 30.0, "resident MiB": 1300.0, "step, times 500 slices": 1.2},
    ],
)
DDP = make_outcome(
    "ddp",
    rows=[
        {"stage": "global", "contender": "one process", "processes": 1, "images/s": 10.0, "efficiency": 1.0},
        {"stage": "global", "contender": "one step", "processes": 2, "images/s": 16.0, "efficiency": 0.8},
        {"stage": "fine-tuning", "contender": "one step", "processes": 2, "images/s": 99.0, "efficiency": 0.1},
    ],
)


def test_every_part_follows_from_its_result():
    rows = {row["part"]: (row["measured"], row[f"for {SUBJECTS:,} subjects"]) for row in plan([PREPARE, SCALE, DDP])}
    # 50,000 volumes at 20 a minute with 2 processes.
    assert rows["N4 with loading and scaling, once"] == (
        "10 volumes a minute and core",
        "83 hours of a core: 42 hours with 2, 1.3 hours with 64 on any number of machines",
    )
    # 10 slices each, at 30 GiB for 250,000.
    assert rows["memory-mapped store of all slices"] == (
        "250,000 slices: 30 GiB, 1,300 MiB in memory",
        "60 GiB on the disk of each machine",
    )
    assert rows["a step with that store"][0] == "1.2 times that with 500 slices"
    config = json.loads((REPOSITORY / "bundle_acdc" / "configs" / "pretrain_global.json").read_text())
    images = config["steps"] * config["batch_size"]
    (one, both) = (value for part, value in rows.items() if "steps of" in part)
    assert one == ("10 images a second", f"{images / 10 / 3600:.1f} hours")
    assert both == ("16 images a second, efficiency 0.80", f"{images / 16 / 3600:.1f} hours")


def test_what_was_not_measured_is_said():
    on_gpu = DDP | {"device": "NVIDIA Example"}
    assert [(row["by"], row["measured"]) for row in plan([on_gpu])] == [(name, "not measured") for name in SOURCES]


def test_the_report_ends_with_it(tmp_path):
    write_record(tmp_path / "prepare.json", PREPARE)
    report(str(tmp_path))
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "10 volumes a minute and core" in text.partition(f"## {SUBJECTS:,} subjects")[2]
