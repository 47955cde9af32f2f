"""Run by `test_kills`: kill runs at their writes, start them again, and compare what comes out.

Every run is a process of its own that is forked from this one, which has imported everything and computed nothing: that
saves the seconds of importing. Prints a JSON object for each kill.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

# What the configs name is imported here, once.
import common.data.cache
import common.engines
import common.evaluation
import common.fine_tuning
import common.preprocessing  # noqa: F401
from bundles.run import run_config
from common.checkpoints import read_checkpoint


def arm(kill):
    """Let this process be killed "before" or "after" the n-th file is put in its place."""
    kind, number = kill
    replace, calls = os.replace, []

    def counted(source, target):
        calls.append(target)
        if kind == "before" and len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)
        if kind == "after" and len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "count":
            Path(number).write_text(str(len(calls)))

    os.replace = counted


def run(bundle, config, settings, kill=None):
    """Run a config in a process of its own; return None, or what it said if it failed by itself."""
    report = Path(settings["output_dir"] + ".log")
    report.parent.mkdir(parents=True, exist_ok=True)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.dup2(os.open(report, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
            os.dup2(1, 2)
            if kill is not None:
                arm(kill)
            run_config(bundle, config, quiet=True, **settings)
            status = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(status)
    status = os.waitpid(child, 0)[1]
    return None if status == 0 or os.WIFSIGNALED(status) else report.read_text()[-2000:]


def equal(one, other):
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and list(one) == list(other) and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


def curves(folder):
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def differences(whole, part):
    """Say in what two finished runs differ: weights and states bit by bit, files, curves."""
    found = []
    names = [
        {path.relative_to(root).as_posix() for path in root.rglob("*") if "tfevents" not in path.name}
        for root in (whole, part)
    ]
    if names[0] != names[1]:
        found.append(f"files {sorted(names[0] ^ names[1])}")
    for name in sorted(name for name in names[0] & names[1] if name.endswith(".pt")):
        one, other = (read_checkpoint(root / name) for root in (whole, part))
        for state in (one, other):
            state.pop("event_files", None)
        if not equal(one, other):
            found.append(name)
    if curves(whole / "output") != curves(part / "output"):
        found.append("curves")
    return found


def main(task):
    bundle, root, config = Path(task["bundle"]), Path(task["folder"]), task["config"]

    def at(name):
        folder = root / config / name
        return {**task["settings"], "output_dir": str(folder / "output"), "ckpt_dir": str(folder / "models")}

    count = root / "count"
    if error := run(bundle, config, at("whole"), ("count", str(count))):
        raise SystemExit(error)
    writes = int(count.read_text())
    (root / config / "whole" / "output.log").unlink()
    for number, kill in enumerate((("before", writes), ("before", writes - 1), ("after", writes // 2))):
        part = at(str(number))
        errors = [run(bundle, config, part, kill), run(bundle, config, part)]
        folder = root / config / str(number)
        (folder / "output.log").unlink()
        found = differences(root / config / "whole", folder) if not any(errors) else []
        print(json.dumps({"kill": kill, "errors": errors, "differences": found}), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(json.loads(sys.argv[1]))
