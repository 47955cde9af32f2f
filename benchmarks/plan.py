"""Pre-training on 50,000 subjects: what it would take, computed from what was measured."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SUBJECTS = 50_000
"""How many volumes the plan is for."""
SLICES_OF_SUBJECT = 10
SOURCES = ("prepare", "scale", "ddp")
ABOUT = (
    "What pre-training on so many volumes of 10 slices would take on CPUs, computed from the results above. It was not "
    "run: the rates are as they were measured, and that they last is assumed."
)
_CONFIG = Path(__file__).resolve().parents[1] / "bundle_acdc" / "configs" / "pretrain_global.json"

Row = dict[str, Any]


def plan(outcomes: Sequence[dict[str, Any]]) -> list[Row]:
    """Compute the parts of the plan from result files of the CPU.

    Args:
        outcomes: results as `run` writes them; of `SOURCES` those that there are.

    Returns:
        A row for each part: what was measured, in which benchmark, and what follows for all subjects; for a benchmark
        that has no result a row that says so.
    """
    found = {entry["benchmark"]: entry for entry in outcomes if entry["device"].startswith("CPU")}
    compute = {"prepare": _preprocessing, "scale": _store, "ddp": _steps}
    rows: list[Row] = []
    for name in SOURCES:
        if name in found:
            rows += compute[name](found[name]["rows"])
        else:
            rows.append(_row(f"what `{name}` measures", "not measured", name, "–"))
    return rows


def _row(part: str, measured: str, source: str, needed: str) -> Row:
    return {"part": part, "measured": measured, "by": source, f"for {SUBJECTS:,} subjects": needed}


def _preprocessing(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    row = next(row for row in rows if str(row["volumes"]).endswith("start excluded"))
    counted = re.search(r"(\d+) process", row["contender"])
    processes = int(counted[1]) if counted else 1
    hours = SUBJECTS / row["volumes a minute"] / 60
    return [
        _row(
            "N4 with loading and scaling, once",
            f"{row['volumes a minute'] / processes:.3g} volumes a minute and core",
            "prepare",
            f"{hours * processes:,.0f} hours of a core: {hours:,.0f} hours with {processes}, "
            f"{hours * processes / 64:.1f} hours with 64 on any number of machines",
        )
    ]


def _store(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    number = SUBJECTS * SLICES_OF_SUBJECT
    row = min(rows, key=lambda row: abs(row["slices"] - number))
    (times,) = (value for key, value in row.items() if key.startswith("step, times"))
    gib = row["GiB"] * number / row["slices"]
    return [
        _row(
            "memory-mapped store of all slices",
            f"{row['slices']:,} slices: {row['GiB']:.3g} GiB, {row['resident MiB']:,.0f} MiB in memory",
            "scale",
            f"{gib:.3g} GiB on the disk of each machine",
        ),
        _row(
            "a step with that store",
            f"{times:.3g} times that with {min(row['slices'] for row in rows):,} slices",
            "scale",
            f"{times:.3g} times the hours below",
        ),
    ]


def _steps(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    config = json.loads(_CONFIG.read_text(encoding="utf-8"))
    images = config["steps"] * config["batch_size"]
    own = {row["contender"]: row for row in rows if row["stage"] == "global"}
    shared = own["one step"]
    return [
        _row(
            f"{config['steps']:,} steps of {config['batch_size']} images, {row['processes']} "
            f"process{'es' if row['processes'] > 1 else ''} of one core",
            f"{row['images/s']:.3g} images a second"
            + (f", efficiency {row['efficiency']:.2f}" if row is shared else ""),
            "ddp",
            f"{images / row['images/s'] / 3600:.1f} hours",
        )
        for row in (own["one process"], shared)
    ]
