"""Losses with their gradients, and how far values are apart."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def loss_and_gradient(loss: Callable[..., Tensor], inputs: Tensor, *args: object) -> tuple[float, Tensor]:
    """Return the value of a loss, and its gradient with respect to the inputs."""
    leaf = inputs.detach().clone().requires_grad_()
    value = loss(leaf, *args)
    value.backward()
    assert leaf.grad is not None
    return value.item(), leaf.grad


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference as a share of the largest value."""
    return ((found - expected).abs().max() / expected.abs().max()).item()


def cuda_steps(loss: Callable[..., Tensor], inputs: Tensor, *args: Tensor) -> Tensor:
    """Return the loss of a second step on CUDA, during which the host must not wait for the device."""
    leaf, args = inputs.cuda().requires_grad_(), tuple(value.cuda() for value in args)
    loss(leaf, *args).backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        value = loss(leaf, *args)
        value.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return value.cpu()
