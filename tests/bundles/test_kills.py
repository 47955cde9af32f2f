"""A run that is killed, whenever that is, and started again gives what one gives that was left alone, bit by bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

from common.checkpoints import save_atomically
from common.networks import UNet2d
from tests.phantoms import as_text
from tests.places import REPOSITORY


def kill(phantom, folder):
    """Return what came out of each kill of a fine-tuning."""
    torch.manual_seed(0)
    weights = {name: value for name, value in UNet2d(4).state_dict().items() if name.startswith("encoder.")}
    save_atomically(weights, folder / "start" / "pretrained_encoder.pt")
    options = {"steps": 2, "self_training_rounds": 1, "weight_averaging": 0.5, "learning_rate_decay": "cosine"}
    options |= {"pretrained_dir": folder / "start", "initialisation": "encoder"}
    options["train#self_training#least_fit"] = 0.0  # or it would not teach itself in two steps
    options["train#handlers#7#interval_seconds"] = 0.0  # the state is saved at the end of every epoch
    settings = {key: as_text(value) for key, value in phantom.settings("train", folder, **options).items()}
    task = {"bundle": str(phantom.bundle), "folder": str(folder), "config": "train", "settings": settings}
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.bundles.kills", json.dumps(task)]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.mark.slow
def test_killed_runs_end_where_others_do(phantom, tmp_path):
    """At the writing of the output, of the mark that it is finished, and of a state or the best weights before.

    `python -m benchmarks run robustness --only kills` does the same with all stages, at more writes and moments.
    """
    outcomes = kill(phantom, tmp_path)
    assert len(outcomes) == 3
    for outcome in outcomes:
        assert outcome["errors"] == [None, None] and outcome["differences"] == [], outcome
