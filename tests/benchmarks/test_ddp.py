"""The benchmark of several processes: its arithmetic, what trainers share, and, slowly, the processes themselves."""

from __future__ import annotations

import os
import subprocess

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from benchmarks import ddp, step
from benchmarks.ddp import GRADIENTS, ONE, ONE_STEP, SIDE_BY_SIDE, compare, measure, observe
from common.distributed import GatheredLoss, MeanLoss, RankViews
from common.sync_batch_norm import CpuSyncBatchNorm

CONTENDERS = [ONE, SIDE_BY_SIDE, GRADIENTS, ONE_STEP]
TINY = {"repetitions": 2, "steps": 1, "side": 64}


@pytest.fixture
def group(tmp_path):
    """A group of this process alone."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_efficiency_is_the_rate_of_all_by_that_of_one_by_their_number():
    seconds = {ONE: [1.0, 2.0, 4.0], ONE_STEP: [2.0, 2.5, 4.0]}
    one, both = compare("global", seconds, num_images=40, processes=2)
    assert (one["processes"], both["processes"]) == (1, 2)
    assert one["images/s"] == 20 and both["images/s"] == 2 * 40 / 2.5
    assert one["efficiency"] == one["low"] == one["high"] == 1
    assert both["efficiency"] == both["images/s"] / one["images/s"] / 2 == 0.8
    assert (both["low"], both["high"]) == (0.5, 1.0)


@pytest.mark.parametrize(("stage", "loss"), [("global", GatheredLoss), ("fine-tuning", MeanLoss)])
def test_trainers_share_what_the_overlays_say(group, stage, loss):
    trainer = step.make_trainer(stage, step.random_slices(stage == "fine-tuning", 64, torch.device("cpu")), 16)
    ddp.share(trainer, stage)
    assert isinstance(trainer.network, DistributedDataParallel)
    assert any(isinstance(module, CpuSyncBatchNorm) for module in trainer.network.modules())
    assert isinstance(trainer.data_loader.views, RankViews) and isinstance(trainer.loss_function, loss)
    optimised = {id(value) for group in trainer.optimizer.param_groups for value in group["params"]}
    assert optimised == {id(value) for value in trainer.network.parameters() if value.requires_grad}


def test_every_contender_makes_as_many_steps(group, monkeypatch):
    trainers = []
    make_trainer = step.make_trainer

    def watched(*arguments, **options):
        trainers.append(make_trainer(*arguments, **options))
        return trainers[-1]

    monkeypatch.setattr(step, "make_trainer", watched)
    found = observe("fine-tuning", 4, **TINY)
    assert {name: len(values) for name, values in found["seconds"].items()} == dict.fromkeys(CONTENDERS, 2)
    assert all(value > 0 for values in found["seconds"].values() for value in values)
    assert [trainer.state.iteration for trainer in trainers] == [6, 3, 3]  # one by itself and side by side
    number = sum(value.numel() for value in trainers[0].network.parameters())
    assert found["images"] == 4 and found["gradients MiB"] == 4 * number / 2**20


def test_result(monkeypatch):
    seconds = {ONE: [2.0], SIDE_BY_SIDE: [2.5], GRADIENTS: [4.0], ONE_STEP: [5.0]}
    found = {"seconds": seconds, "images": 40, "gradients MiB": 11.25}
    monkeypatch.setattr(ddp, "_start", lambda *_: found)
    monkeypatch.setattr(ddp, "num_cores", lambda: 1)
    outcome = measure(steps=2, batch_sizes={"global": 40})
    assert [row["contender"] for row in outcome["rows"]] == CONTENDERS
    assert outcome["rows"][0]["images/s"] == 40  # two steps a run
    (target,) = outcome["targets"]
    assert target["measured"] == 0.4 and target["at_least"] == 0.9 and not target["met"]
    losses, cores, _ = outcome["notes"]
    assert "averages 11.2 MiB" in losses and "0.20 is lost side by side" in losses
    assert "0.30 more by averaging" in losses and "0.10 by batch normalisation" in losses
    assert cores == "2 processes shared 1 core: this says nothing of more."


def test_a_process_that_fails_is_shown(monkeypatch):
    failed = subprocess.CompletedProcess([], returncode=1, stderr="before\nOut of luck")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(RuntimeError, match="global: the processes must end well, got\nbefore\nOut of luck"):
        measure(batch_sizes={"global": 40})


@pytest.mark.slow
def test_two_processes():
    """Through torchrun."""
    affinity = os.sched_getaffinity(0)
    outcome = measure(batch_sizes={"fine-tuning": 4}, **TINY)
    assert [row["processes"] for row in outcome["rows"]] == [1, 2, 2, 2]
    assert all(0.01 < row["low"] <= row["efficiency"] <= row["high"] for row in outcome["rows"])
    assert os.sched_getaffinity(0) == affinity
