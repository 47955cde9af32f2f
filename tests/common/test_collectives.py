"""Why the collectives and the batch normalisation of several processes are not torch's; their values are tested in
`test_distributed`, by two processes."""

from __future__ import annotations

import importlib.util
import warnings
from contextlib import nullcontext

import pytest
import torch
import torch.distributed as dist
import torch.distributed.nn.functional as deprecated
from torch import nn

from common.collectives import all_gather, all_reduce
from common.sync_batch_norm import CpuSyncBatchNorm, own_statistics, synchronise_batch_norm


@pytest.fixture(scope="module", autouse=True)
def one_process():
    """A process group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("collective", [all_gather, all_reduce])
def test_ours_are_not_deprecated(collective):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert collective(torch.arange(3.0)).tolist() == [0, 1, 2]


@pytest.mark.parametrize("collective", [deprecated.all_gather, deprecated.all_reduce])
@pytest.mark.skipif(torch.__version__ < "2.13", reason="deprecated since torch 2.13")
def test_those_of_torch_are_deprecated_without_a_public_successor(collective):
    with pytest.warns(FutureWarning, match=r"deprecated, use torch\.distributed\._functional_collectives"):
        collective(torch.arange(3.0))
    if importlib.util.find_spec("torch.distributed.functional_collectives"):
        pytest.fail("torch has public differentiable collectives now: use them instead of common.collectives.")


def test_batch_norm_of_torch_refuses_the_cpu():
    layer = nn.SyncBatchNorm(3)
    with pytest.raises(ValueError, match="expected input tensor to be on GPU"):
        layer(torch.rand(4, 3))
    with pytest.raises(ValueError, match="only work with GPU modules"):
        nn.parallel.DistributedDataParallel(nn.Sequential(layer))
    with own_statistics(nn.Sequential(layer)):  # needs no other process, and so no GPU
        assert layer(torch.rand(4, 3)).mean().abs() < 1e-6
    with pytest.raises(ValueError, match="expected input tensor to be on GPU"):
        layer(torch.rand(4, 3))


@pytest.mark.parametrize(("device", "kind"), [("cpu", CpuSyncBatchNorm), ("cuda:0", nn.SyncBatchNorm)])
def test_batch_norm_is_ours_on_the_cpu_only(device, kind):
    network = nn.Sequential(nn.Sequential(nn.BatchNorm1d(3, eps=1e-3, momentum=0.01)), nn.BatchNorm2d(2)).eval()
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    synchronise_batch_norm(network, torch.device(device))
    for layer in (network[0][0], network[1]):
        assert type(layer) is kind and not layer.training
    assert (network[0][0].eps, network[0][0].momentum) == (1e-3, 0.01)
    for name, value in {**dict(network.named_parameters()), **dict(network.named_buffers())}.items():
        assert value is tensors.pop(name), name
    assert not tensors


@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 5), (6, 3, 5, 4)], ids=str)
@pytest.mark.parametrize("own", [False, True], ids=["synchronised", "own statistics"])
def test_batch_norm_of_one_process_is_the_usual_one(shape, own):
    usual = nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d
    expected, network = (nn.Sequential(usual(3, eps=1e-3, momentum=0.01)).double() for _ in range(2))
    synchronise_batch_norm(network, torch.device("cpu"))
    values = torch.rand(shape, dtype=torch.float64)
    with own_statistics(network) if own else nullcontext():
        assert torch.allclose(network(values), expected(values))
    for name, value in expected.state_dict().items():
        assert torch.allclose(network.state_dict()[name], value), name
    assert torch.allclose(network.eval()(values), expected.eval()(values))
