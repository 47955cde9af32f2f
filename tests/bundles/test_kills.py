"""A run that is killed, whenever that is, and started again gives what one gives that was left alone, bit by bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter

import pytest
import torch

from common.checkpoints import save_atomically
from common.networks import UNet2d
from tests.conftest import REPOSITORY

from .conftest import as_text

STAGES = ("pretrain_global", "pretrain_local", "pretrain_joint", "train")


def kill(phantom, folder, stages, seed, **extent):
    """Return what came out of each kill."""
    torch.manual_seed(0)
    weights = {name: value for name, value in UNet2d(4).state_dict().items() if name.startswith("encoder.")}
    save_atomically(weights, folder / "start" / "pretrained_encoder.pt")
    settings = {}
    for config in stages:
        options = {"steps": 3, "batch_size": 16}
        if config == "pretrain_local":
            options["pretrained_path"] = folder / "start" / "pretrained_encoder.pt"
        if config == "train":
            options.update(pretrained_dir=folder / "start", initialisation="encoder")
        position = 6 if config in ("pretrain_joint", "train") else 5
        options[f"train#handlers#{position}#interval_seconds"] = 0.0  # the state is saved at the end of every epoch
        values = phantom.settings(config, folder, **options)
        settings[config] = {key: as_text(value) for key, value in values.items()}
    task = {"bundle": str(phantom.bundle), "folder": str(folder), "settings": settings, "seed": seed, **extent}
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.bundles.kills", json.dumps(task)]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def check(outcomes):
    for outcome in outcomes:
        assert outcome["errors"] == [None, None] and outcome["differences"] == [], outcome
    return Counter(outcome["config"] for outcome in outcomes)


def test_killed_runs_end_where_others_do(phantom, tmp_path):
    """At the writing of the output, of the mark that it is finished, and of a state or the best weights before."""
    stages = ("train",)
    outcomes = kill(phantom, tmp_path, stages, seed=0, all_writes=False, moments=0)
    assert check(outcomes) == {stage: 3 for stage in stages}


@pytest.mark.slow
def test_runs_killed_at_every_write_end_where_others_do(phantom, tmp_path):
    counts = check(kill(phantom, tmp_path, STAGES, seed=1, all_writes=True, moments=4))
    print(dict(counts))
    assert set(counts) == set(STAGES) and sum(counts.values()) > 40
