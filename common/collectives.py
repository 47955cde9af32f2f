"""Sums and concatenations over processes that can be differentiated.

Each has the gradient of the sum of what the processes compute. That is what averaging the gradients expects.

Own versions, since torch has none to stay with: `torch.distributed.nn.functional` is deprecated, and what it points to,
`torch.distributed._functional_collectives`, is private and renames its functions from version to version.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function


def all_reduce(values: Tensor) -> Tensor:
    """Return the sum over processes, the same in each; the gradient is summed over them likewise."""
    return _AllReduce.apply(values)


def all_gather(rows: Tensor) -> Tensor:
    """Join the rows of all processes in the order of their ranks.

    Args:
        rows: (N, ...), the same shape in every process.

    Returns:
        (R N, ...) for R processes. A process gets the summed gradient of its own rows.
    """
    return _AllGather.apply(rows)


class _AllReduce(Function):
    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:
        values = values.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(values)
        return values

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        return all_reduce(gradients[0])


class _AllGather(Function):
    @staticmethod
    def forward(context: Any, rows: Tensor) -> Tensor:
        context.num_rows = len(rows)
        shares = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size())]
        dist.all_gather(shares, rows.contiguous())
        return torch.cat(shares)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        gradient = all_reduce(gradients[0])
        return gradient[dist.get_rank() * context.num_rows :][: context.num_rows]
