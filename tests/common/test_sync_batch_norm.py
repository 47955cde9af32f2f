"""Batch normalisation over processes on the CPU: of one process beside torch. Of several: `test_distributed`."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import nn

from common.sync_batch_norm import CpuSyncBatchNorm, _Normalise, synchronise_batch_norm


@pytest.fixture
def alone(tmp_path):
    """A group of this process."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def layers(channels=6):
    torch.manual_seed(0)
    ours, theirs = (nn.Sequential(nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)) for _ in range(2))
    for layer in (ours[0], theirs[0]):
        with torch.no_grad():
            layer.weight.copy_(torch.linspace(0.5, 2, channels))
            layer.bias.copy_(torch.linspace(-1, 1, channels))
    synchronise_batch_norm(ours, torch.device("cpu"))
    assert isinstance(ours[0], CpuSyncBatchNorm)
    return ours, theirs


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)], ids=str)
def test_values_gradients_and_averages_are_those_of_torch(alone, layout, dtype, tolerance):
    ours, theirs = layers()
    images = (2 * torch.randn(4, 6, 10, 12) + torch.linspace(-2, 2, 6)[:, None, None]).to(dtype)
    gradient = torch.randn(4, 6, 10, 12).to(dtype)
    results = []
    for layer in (ours, theirs):
        given = images.clone(memory_format=layout).requires_grad_()
        output = layer(given)
        output.backward(gradient)
        assert output.dtype == dtype and output.is_contiguous(memory_format=layout)
        results.append((output, given.grad, layer[0].weight.grad, layer[0].bias.grad, *layer.state_dict().values()))
    for mine, other in zip(*results, strict=True):
        torch.testing.assert_close(mine, other, rtol=tolerance, atol=tolerance)


def test_gradient_is_that_of_differences(alone):
    torch.manual_seed(0)
    given = [torch.randn(*size, dtype=torch.float64, requires_grad=True) for size in ((3, 2, 4, 5), (2,), (2,))]
    assert torch.autograd.gradcheck(lambda *values: _Normalise.apply(*values, 1e-3)[0], given)


def test_what_is_no_batch_is_not_counted(alone):
    ours, theirs = layers()
    images = torch.randn(2, 6, 4, 4)
    torch.testing.assert_close(ours.eval()(images), theirs.eval()(images))
    assert ours[0].num_batches_tracked == 0
