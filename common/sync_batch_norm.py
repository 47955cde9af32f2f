"""Batch normalisation over the shares of all processes: torch's on the GPU, and an own one on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .collectives import all_reduce


class CpuSyncBatchNorm(_BatchNorm):
    """Batch normalisation over the shares of all processes, which are of one size.

    Own version, since `torch.nn.SyncBatchNorm` refuses tensors on the CPU, and `DistributedDataParallel` refuses
    networks on the CPU that have it.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Take inputs of any number of axes: the layers that this replaces have checked theirs."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, C, ...)."""
        if not self.training:
            return super().forward(input)
        values = input.float() if input.dtype == torch.bfloat16 else input
        others = [axis for axis in range(input.ndim) if axis != 1]
        per_channel = (-1,) + (1,) * (input.ndim - 2)
        processes = dist.get_world_size()
        mean = all_reduce(values.mean(others)) / processes
        deviations = values - mean.view(per_channel)
        variance = all_reduce(deviations.square().mean(others)) / processes
        with torch.no_grad():
            count = processes * input.numel() // input.shape[1]
            running = dict(self.named_buffers())
            running["num_batches_tracked"].add_(1)
            running["running_mean"].lerp_(mean, float(self.momentum or 0.0))
            running["running_var"].lerp_(variance * (count / (count - 1)), float(self.momentum or 0.0))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (deviations * scale.view(per_channel) + self.bias.view(per_channel)).to(input.dtype)


def synchronise_batch_norm(module: nn.Module, device: torch.device) -> None:
    """Replace the batch normalisations within a module; parameters and buffers stay the same tensors.

    Args:
        module: changed in place; not a batch normalisation itself.
        device: where it will be.
    """
    if device.type != "cpu":
        nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            layer = CpuSyncBatchNorm(child.num_features, child.eps, child.momentum)
            layer.weight, layer.bias = child.weight, child.bias
            for buffer, value in child.named_buffers():
                setattr(layer, buffer, value)
            setattr(module, name, layer.train(child.training))
        else:
            synchronise_batch_norm(child, device)


@contextmanager
def own_statistics(network: nn.Module) -> Iterator[None]:
    """Let a network normalise with the statistics of this process alone for a while."""
    layers = [layer for layer in network.modules() if isinstance(layer, (nn.SyncBatchNorm, CpuSyncBatchNorm))]
    for layer in layers:
        layer.forward = MethodType(_BatchNorm.forward, layer)  # type: ignore[method-assign]  # of this layer alone
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward
