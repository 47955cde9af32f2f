"""A made-up repository with a bundle that has weights and a result, and what is needed to change it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import torch

from common.checkpoints import content_hash, save_atomically
from common.networks import UNet2d
from common.records import write_record
from experiments.grid import SCHEDULES, Cell, Pretraining
from experiments.ship import model_card
from release.results import metrics_of
from tests.experiments.made_up import make_result
from tests.places import REPOSITORY

NAME = "bundle_acdc"
PARTS = {
    "pretrained_encoder.pt": ("encoder.",),
    "pretrained_encoder_decoder.pt": ("encoder.", "decoder.blocks.0.", "decoder.blocks.1.", "decoder.blocks.2."),
    "model.pt": ("",),
    "model_all_labels.pt": ("",),
}
CELL = Cell("acdc", Pretraining("GD"), 1, "c1", 0, SCHEDULES["smoke"])
DICE = {"RV": 0.5, "Myo": 0.25, "LV": 0.75, "mean": 0.5}
RESULT = make_result(CELL, DICE)


def git(root: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True)


def edit(path: Path, **changes: object) -> None:
    """Change entries of a JSON file; None removes one."""
    content = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}), encoding="utf-8")


def write_weights(bundle: Path) -> None:
    """Give a bundle random weights, described as those of a run are."""
    torch.manual_seed(0)
    state = UNet2d(num_classes=4).state_dict()
    entries = {}
    for name, parts in PARTS.items():
        path = bundle / "models" / name
        save_atomically({key: value for key, value in state.items() if key.startswith(parts)}, path)
        entries[name] = {
            "cell": CELL.name,
            "schedule": CELL.schedule.name,
            "pretraining": CELL.pretraining.name,
            "sha256": content_hash(path),
        }
    entries["model.pt"] |= {"largest_component": False, "result": "results/cell.json"}
    path = bundle / "configs" / "metadata.json"
    edit(path, weights=entries, eval_metrics=metrics_of(RESULT))
    card = model_card(bundle, json.loads(path.read_text(encoding="utf-8")), RESULT, CELL)
    (bundle / "models" / "README.md").write_text(card, encoding="utf-8")


def copy_bundle(root: Path, name: str = NAME) -> Path:
    """Copy the sources of a bundle without its weights and without what is said of them."""
    bundle = root / name
    for part in ("configs", "docs"):
        shutil.copytree(REPOSITORY / NAME / part, bundle / part)
    shutil.copyfile(REPOSITORY / NAME / "LICENSE", bundle / "LICENSE")
    edit(bundle / "configs" / "metadata.json", weights={}, eval_metrics={})
    return bundle


def make_repository(root: Path) -> None:
    """Make a bundle with weights and its committed result."""
    write_weights(copy_bundle(root))
    write_record(root / "results" / "cell.json", RESULT)
    git(root, "init", "-q")
    git(root, "add", "results")
    git(root, "commit", "-qm", "results")
