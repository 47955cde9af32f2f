"""Batch normalisation over the shares of all processes: torch's on the GPU, and an own one on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional
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
        count = dist.get_world_size() * input.numel() // input.shape[1]
        output, mean, variance = _Normalise.apply(input, self.weight, self.bias, self.eps)
        with torch.no_grad():
            running = dict(self.named_buffers())
            running["num_batches_tracked"].add_(1)
            running["running_mean"].lerp_(mean, float(self.momentum or 0.0))
            running["running_var"].lerp_(variance * (count / (count - 1)), float(self.momentum or 0.0))
        return output


class _Normalise(Function):
    """Normalise (N, C, ...) by mean and variance (C,) over all processes, and return these as well.

    All work on images is done by torch's kernels for one process: that of statistics, and those that normalise with
    given statistics and differentiate that, where statistics count as constants. What these then lack, the gradient by
    way of the statistics, is a x + b for each channel: once more a normalisation, by mean 0 and variance 1.
    """

    @staticmethod
    def forward(context: Any, input: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        # Running averages are given to have the statistics in their type; with momentum 0 they do not change.
        unused = torch.zeros_like(weight), torch.ones_like(weight)
        own_mean, own_variance = torch.batch_norm_update_stats(input, *unused, 0.0)
        processes = dist.get_world_size()
        mean = all_reduce(own_mean) / processes
        variance = all_reduce(own_variance + (own_mean - mean).square()) / processes
        context.save_for_backward(input, weight, mean, variance)
        context.eps = eps
        output = functional.batch_norm(input, mean, variance, weight, bias, training=False, eps=eps)
        context.mark_non_differentiable(mean, variance)
        return output, mean, variance

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        input, weight, mean, variance = context.saved_tensors
        by_input, by_weight, by_bias = torch.ops.aten.native_batch_norm_backward(
            gradients[0], input, weight, mean, variance, None, None, False, context.eps, [True] * 3
        )
        count = dist.get_world_size() * input.numel() // input.shape[1]
        of_weight, of_bias = all_reduce(torch.stack([by_weight, by_bias])) / count
        inverse = torch.rsqrt(variance + context.eps)
        slope = -weight * inverse.square() * of_weight
        shift = -weight * inverse * of_bias - slope * mean
        zero, one = torch.zeros_like(mean), torch.ones_like(mean)
        by_statistics = functional.batch_norm(input, zero, one, slope, shift, training=False, eps=0.0)
        return by_input.add_(by_statistics), by_weight, by_bias, None


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
