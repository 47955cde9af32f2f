"""The configs for several processes: that they fit what they are laid over, and, slowly, that they run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from common.checkpoints import save_atomically
from common.networks import UNet2d
from tests.places import BUNDLE, CONFIGS, REPOSITORY

STAGES = ("pretrain_global", "pretrain_local", "train")
OVERLAYS = {name: json.loads((CONFIGS / f"multi_gpu_{name}.json").read_text(encoding="utf-8")) for name in STAGES}


def merged(name):
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / f"{name}.json"), str(CONFIGS / f"multi_gpu_{name}.json")])
    return parser


@pytest.mark.parametrize("name", STAGES)
def test_overlay_changes_what_it_means_to(name):
    base, config = ConfigParser(), merged(name)
    base.read_config(str(CONFIGS / f"{name}.json"))
    assert config["imports"][: len(base["imports"])] == base["imports"]
    assert config["train#dataloader#views"] == "@train#rank_views"
    assert base["train#dataloader#views"] == "@train#views"
    assert config["train#rank_views#views"] == "@train#views"
    wrapper = config["train#trainer#loss_function"].removeprefix("@")
    assert config[wrapper]["loss"] == base["train#trainer#loss_function"] == "@train#loss"
    assert "distributed.distribute(@network, @device)" in config[config["train#trainer#network"].removeprefix("@")]
    assert config["run"] == "%training" and config["training"][-2:] == base["training"][-2:]
    assert config["training"][0] == "$distributed.join()" and config["finalize"] == ["$distributed.leave()"]


@pytest.mark.parametrize("name", STAGES)
def test_every_handler_that_writes_is_ours(name):
    """Ours ask for the rank; MONAI's that write to a folder do not."""
    config = merged(name)
    sections = ("train", "validate") if name == "train" else ("train",)
    handlers = [handler for section in sections for handler in config[f"{section}#handlers"]]
    writers = [handler for handler in handlers if isinstance(handler, dict) and "log_dir" in handler]
    assert len(writers) >= 2 and all(handler["_target_"].startswith("common.") for handler in writers)


def test_contrastive_overlays_are_alike():
    assert OVERLAYS["pretrain_global"] == OVERLAYS["pretrain_local"]


def start(phantom, name, run_id, folder, processes, **overrides):
    """Run a config through monai.bundle, and through torchrun if there are several processes."""
    settings = phantom.settings(name, folder, **overrides)
    command = [sys.executable]
    files = str(CONFIGS / f"{name}.json")
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        files = f"['{files}','{CONFIGS / f'multi_gpu_{name}.json'}']"
        del settings["device"]
    command += ["-m", "monai.bundle", "run", run_id, "--config_file", files, "--bundle_root", str(BUNDLE)]
    for key, value in settings.items():
        command += [f"--{key}", str(value) if isinstance(value, (str, Path)) else repr(value)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]


def run(phantom, name, folder, processes, **overrides):
    """Run a stage through monai.bundle, and through torchrun if there are several processes; return its state."""
    torch.manual_seed(0)
    weights = UNet2d(num_classes=4).state_dict()
    for file in ("pretrained_encoder.pt", "pretrained_encoder_decoder.pt"):
        parts = ("encoder.",) if file == "pretrained_encoder.pt" else ("encoder.", "decoder.")
        save_atomically({k: v for k, v in weights.items() if k.startswith(parts)}, folder / "models" / file)
    start(phantom, name, "training", folder, processes, **overrides)
    assert len(list((folder / name).glob("events*"))) > 0
    return torch.load(folder / name / "resume.pt", weights_only=True)["objects"]


def test_evaluation_shares_the_network_only():
    base, config = ConfigParser(), merged("evaluate")
    base.read_config(str(CONFIGS / "evaluate.json"))
    assert config["evaluator#network"] == "@shared_network" and base["evaluator#network"] == "@model"
    assert config["shared_network"] == {"_target_": "common.distributed.ShareSlices", "network": "@model"}
    assert config["run"] == ["$distributed.join()", *base["run"]] and config["finalize"] == ["$distributed.leave()"]
    assert config["handlers"] == base["handlers"]  # those ask for the rank


@pytest.mark.slow
def test_evaluation_is_that_of_one_process(phantom, tmp_path):
    """Through torchrun and monai.bundle: the same tables, written once, and the pictures."""
    found = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        torch.manual_seed(0)
        save_atomically(UNet2d(num_classes=4).state_dict(), folder / "models" / "model.pt")
        start(phantom, "evaluate", "run", folder, processes, checkpoint=folder / "models" / "model.pt")
        found.append(json.loads((folder / "evaluate" / "evaluation.json").read_text(encoding="utf-8")))
        assert {path.name for path in (folder / "evaluate" / "pictures").iterdir()} == {
            f"{volume['id']}.png" for volume in found[-1]["volumes"]
        }
    alone, together = found
    assert [volume["id"] for volume in alone["volumes"]] == [volume["id"] for volume in together["volumes"]]
    for one, other in zip(alone["volumes"], together["volumes"], strict=True):
        assert one["mean"] == pytest.approx(other["mean"], abs=1e-3)
    assert alone["mean_dice"]["mean"] == pytest.approx(together["mean_dice"]["mean"], abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_first_update_is_that_of_one_process(phantom, tmp_path, name):
    """Through torchrun and monai.bundle; the same weights, one step, then Adam's first moment is the gradient."""
    moments = []
    for processes in (1, 2):
        state = run(phantom, name, tmp_path / str(processes), processes, steps=1)["optimizer"]["state"]
        moments.append(torch.cat([entry["exp_avg"].flatten() for entry in state.values()]))
    alone, together = moments
    assert alone.norm() > 0
    # In single precision rounding in another order comes out of this network as some per cent of its gradient, with one
    # process too; tests/common/test_distributed.py compares in double precision. A missing average would make 1.
    assert (together - alone).norm() < 0.2 * alone.norm()


@pytest.mark.slow
def test_all_processes_learn_from_the_same_predicted_labels(phantom, tmp_path):
    """Labels are predicted before the second step, by one process for all, and half of that step is pasted."""
    maps = []
    for processes in (1, 2):
        options = {"steps": 2, "self_training_rounds": 1, "copy_paste": 1.0, "learning_rate": 1e-4}
        options["train#self_training#least_fit"] = 0.0
        state = run(phantom, "train", tmp_path / str(processes), processes, **options)["self_training"]
        assert state["round"] == 1
        maps.append(np.frombuffer(zlib.decompress(state["maps"].numpy().data), dtype=np.uint8))
    assert len(maps[0]) == len(maps[1]) > 0
    assert (maps[0] == maps[1]).mean() > 0.9  # rounding in another order, see above
