"""Two processes on the CPU make the steps of one."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed.nn.functional as deprecated
from monai.losses import DiceLoss
from torch import Tensor, nn

from common import distributed
from common.collectives import all_gather, all_reduce
from common.data.loader import BatchLoader
from common.data.samplers import UniformSampler, contrastive_sampler
from common.data.slices import Slices
from common.engines import BatchNormStatistics
from common.losses import GlobalContrastiveLoss, local_loss
from common.networks import GlobalPretrainingNet, LocalPretrainingNet, UNet2d
from common.strategies import make_layout
from common.transforms.intensity_views import RandomIntensity
from common.transforms.spatial_views import RandomCropResize, RandomSpatial
from common.transforms.views import Augmentations, ContrastiveViews, FineTuningViews, local_views

NUM_PROCESSES = 2
NUM_STEPS = 3
SIDE, DEPTH, NUM_CLASSES = 64, 6, 4
BATCH_SIZES = {"GD": 16, "LR": 8, "LD": 24, "LE": 8, "fine-tuning": 6}


def make_stage(name: str) -> tuple[nn.Module, Any, Callable[..., Any], nn.Module, Slices]:
    torch.manual_seed(0)
    images = torch.rand(5 * DEPTH, 1, SIDE, SIDE)
    labels = torch.randint(NUM_CLASSES, (len(images), SIDE, SIDE), dtype=torch.uint8)
    starts = torch.arange(6) * DEPTH
    unet, batch_size = UNet2d(NUM_CLASSES), BATCH_SIZES[name]
    if name == "fine-tuning":
        slices = Slices(images, labels, starts)
        loss = DiceLoss(softmax=True, smooth_nr=0.0, smooth_dr=1e-10)
        return unet, UniformSampler(slices, batch_size), FineTuningViews(NUM_CLASSES, RandomSpatial()), loss, slices
    slices = Slices(images, None, starts)
    layout = make_layout(name, batch_size)
    sampler = contrastive_sampler(layout, slices)
    if name[0] == "L":
        loss = local_loss(layout, num_pixels=80)
        return LocalPretrainingNet(unet, strategy=name), sampler, local_views(layout, 80), loss, slices
    views = ContrastiveViews(name, Augmentations([RandomCropResize(32, (2, 20)), RandomIntensity()]))
    return GlobalPretrainingNet(unet, (SIDE, SIDE), 16), sampler, views, GlobalContrastiveLoss(layout), slices


def train(name: str, processes: int) -> dict[str, Any]:
    """Make three steps of gradient descent.

    In double precision: in single precision the network blows the rounding of another order of summation up to a per
    cent of a gradient, with one process as well (channels last or not, say).
    """
    network, sampler, views, loss, slices = make_stage(name)
    network.double().train()
    called = network
    if processes > 1:
        called = distributed.distribute(network, torch.device("cpu"))
        views = distributed.RankViews(views)
        loss = distributed.MeanLoss(loss) if name == "fine-tuning" else distributed.GatheredLoss(loss)
    # Not Adam, which divides by a gradient: where that is next to zero, the rounding of a sum decides on a whole step.
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    loader = BatchLoader(slices, sampler, views, NUM_STEPS, seed=1)
    losses, gradients = [], []
    for step in range(NUM_STEPS):
        images, targets = loader.batch(step)
        assert len(images) == BATCH_SIZES[name] // processes
        value = loss(called(images.double()), targets.double() if isinstance(targets, Tensor) else targets)
        optimizer.zero_grad()
        value.backward()
        gradients.append({key: p.grad.clone() for key, p in network.named_parameters() if p.grad is not None})
        optimizer.step()
        losses.append(value.item())
    recomputed = None
    if name == "fine-tuning":
        batch_norm = BatchNormStatistics(network, Slices(slices.images.double(), None, slices.starts), num_slices=10)
        batch_norm.exchange()
        recomputed = {key: value.clone() for key, value in network.named_buffers()}
        batch_norm.restore()
    return {
        "losses": losses,
        "gradients": gradients,
        "state": {key: value.clone() for key, value in network.state_dict().items()},
        "recomputed": recomputed,
    }


def collect(rank: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Return value and gradient of each collective, and of torch's deprecated one beside it."""
    collectives = {
        "gather": all_gather,
        "gather of torch": lambda rows: torch.cat(deprecated.all_gather(rows)),
        "reduce": all_reduce,
        "reduce of torch": deprecated.all_reduce,
    }
    results = {}
    for name, collective in collectives.items():
        rows = (torch.arange(6.0).view(3, 2) + 10 * rank).requires_grad_()
        value = collective(rows)
        ((1 + rank) * value.pow(3).sum()).backward()
        results[name] = (value.detach(), rows.grad)
    return results


def work(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(NUM_PROCESSES),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        CUDA_VISIBLE_DEVICES="",  # as many GPUs as processes are needed otherwise
    )
    distributed.join()
    results: dict[str, Any] = {name: train(name, NUM_PROCESSES) for name in BATCH_SIZES}
    results["collectives"] = collect(rank)
    torch.save({**results, "silent": logging.root.manager.disable >= logging.INFO}, f"{folder}/{rank}.pt")
    distributed.leave()


@pytest.fixture(scope="module")
def processes(tmp_path_factory) -> list[dict[str, Any]]:
    """What each of two processes has got, by stage."""
    folder = tmp_path_factory.mktemp("distributed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(work, (port, str(folder)), nprocs=NUM_PROCESSES)
    return [torch.load(folder / f"{rank}.pt") for rank in range(NUM_PROCESSES)]


@pytest.fixture(scope="module", params=BATCH_SIZES)
def stage(request, processes) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    return train(request.param, 1), [results[request.param] for results in processes]


def test_loss_is_that_of_one_process_in_every_process(stage):
    alone, together = stage
    for results in together:
        assert results["losses"] == pytest.approx(alone["losses"], rel=1e-5)
    assert alone["losses"][0] != pytest.approx(alone["losses"][-1], rel=1e-3)


def test_gradients_are_those_of_one_process(stage):
    alone, together = stage
    for results in together:
        for expected, gradients in zip(alone["gradients"], results["gradients"], strict=True):
            assert gradients.keys() == expected.keys()
            for key, value in expected.items():
                assert torch.allclose(gradients[key], value, rtol=1e-5, atol=1e-5), key
    assert max(value.abs().max() for value in alone["gradients"][0].values()) > 1e-3


def test_weights_and_statistics_are_those_of_one_process(stage):
    alone, together = stage
    for results in together:
        assert results["state"].keys() == alone["state"].keys()
        for key, value in alone["state"].items():
            assert torch.allclose(results["state"][key].double(), value.double(), rtol=1e-5, atol=1e-5), key


def test_recomputed_statistics_are_those_of_one_process(processes):
    expected = train("fine-tuning", 1)["recomputed"]
    for results in processes:
        for key, value in results["fine-tuning"]["recomputed"].items():
            assert torch.allclose(value.double(), expected[key].double(), rtol=1e-4, atol=1e-5), key


@pytest.mark.parametrize("name", ["gather", "reduce"])
def test_collectives_are_those_of_torch(processes, name):
    rows = [torch.arange(6.0).view(3, 2) + 10 * rank for rank in range(NUM_PROCESSES)]
    for rank, results in enumerate(processes):
        value, gradient = results["collectives"][name]
        assert torch.equal(value, torch.cat(rows) if name == "gather" else rows[0] + rows[1])
        assert torch.equal(gradient, 9 * (rows[rank] if name == "gather" else value).square())  # 3 (1 + 2) x^2
        for own, theirs in zip((value, gradient), results["collectives"][f"{name} of torch"], strict=True):
            assert torch.equal(own, theirs)


def test_only_the_first_process_reports(processes):
    assert [results["silent"] for results in processes] == [False, True]


# ----------------------------------------------------------------------------------------- one process at a time


@pytest.fixture
def three_processes(monkeypatch):
    """Let this process believe to be the second of three."""
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 3)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)


def test_rows_of_a_process(three_processes):
    inputs, targets = torch.arange(6), torch.arange(6) * 10
    assert distributed.RankViews(lambda: (inputs, targets))()[0].tolist() == [2, 3]
    assert distributed.RankViews(lambda: (inputs, targets))()[1].tolist() == [20, 30]
    assert distributed.RankViews(lambda: (inputs, None))()[1] is None


def test_batch_that_cannot_be_divided(three_processes):
    views = distributed.RankViews(lambda: (torch.zeros(40, 1), torch.zeros(40)))
    with pytest.raises(ValueError, match="must divide the images of a batch, got 3 processes for 40 images: start"):
        views()


def test_device_needs_torchrun(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    for name in ("LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(RuntimeError, match="by torchrun, but LOCAL_RANK, WORLD_SIZE, .* not set: run `torchrun"):
        distributed.local_device()


@pytest.mark.parametrize(("num_gpus", "expected"), [(0, "cpu"), (2, "cuda:1")])
def test_device_of_a_process(monkeypatch, num_gpus, expected):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: num_gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
    assert str(distributed.local_device()) == expected


def test_more_processes_than_gpus(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="nproc_per_node must be at most 2, .* got process number 3: start fewer"):
        distributed.local_device()


@pytest.mark.parametrize("number", [1, 4, 5])
def test_slices_of_an_evaluation_are_shared(number, monkeypatch):
    """Every process computes a share; here one after the other, the second with what the first has computed."""
    seen, outputs = [], []

    class Network(nn.Module):
        def forward(self, slices):
            seen.append(len(slices))
            return slices * 2

    slices = torch.rand(number, 1, 2, 2)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: NUM_PROCESSES)
    monkeypatch.setattr(distributed, "all_gather", lambda rows: outputs.append(rows) or torch.cat(outputs))
    for rank in range(NUM_PROCESSES):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        found = distributed.ShareSlices(Network())(slices)
    torch.testing.assert_close(found, slices * 2)
    assert seen == [-(-number // NUM_PROCESSES)] * NUM_PROCESSES
