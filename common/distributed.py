"""Several processes, one step: each computes its share of the batch, and the step is that of one process.

Every process draws the whole batch from the same seed and keeps its rows of it. So the batch does not depend on the
number of processes. Batch normalisation takes its statistics over all shares, a contrastive loss sees the embeddings of
all of them, and gradients are averaged. Loss, gradients and weights are those of one process but for the order of
summation.

Only the first process writes files and shows progress. All of them validate, each for itself, and all read the state of
an interrupted run: `output_dir` must be the same folder for all, also on several machines.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

import ignite.distributed as idist
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .collectives import all_gather, all_reduce
from .sync_batch_norm import synchronise_batch_norm

_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


# --------------------------------------------------------------------------------------------- the processes


def local_device() -> torch.device:
    """Return the device of this process: the GPU of its number on this machine, or the CPU where there is none.

    Raises:
        RuntimeError: if the process was not started by `torchrun`.
        ValueError: if this machine runs more processes than it has GPUs.
    """
    if missing := [name for name in _VARIABLES if name not in os.environ]:
        raise RuntimeError(
            f"Several processes must be started by torchrun, but {', '.join(missing)} is not set: run "
            "`torchrun --nproc_per_node=2 -m monai.bundle run ...`, or leave the multi_gpu config out."
        )
    if not torch.cuda.is_available():
        return torch.device("cpu")
    rank = int(os.environ["LOCAL_RANK"])
    if rank >= torch.cuda.device_count():
        raise ValueError(
            f"nproc_per_node must be at most {torch.cuda.device_count()}, the GPUs of this machine, "
            f"got process number {rank + 1}: start fewer processes."
        )
    return torch.device("cuda", rank)


def join() -> None:
    """Join the process group that `torchrun` describes; only the first process goes on reporting to the log."""
    idist.initialize("nccl" if local_device().type == "cuda" else "gloo")
    if idist.get_rank() > 0:
        logging.disable(logging.INFO)


def leave() -> None:
    """Leave the process group once all processes are through: the first one may still be writing."""
    idist.barrier()
    idist.finalize()


# ------------------------------------------------------------------------------------------ batch and loss


class RankViews:
    """Make the whole batch and keep the rows of this process.

    Making all of it costs little beside the network, and needs no other random numbers than one process would draw.

    Args:
        views: makes (inputs (N, ...), targets) of a batch, see `common.transforms.views`.
    """

    def __init__(self, views: Callable[..., tuple[Tensor, Any]]) -> None:
        self.views = views

    def __call__(self, *batch: Any) -> tuple[Tensor, Any]:
        """Return N / R rows of the inputs and of the targets, where there are any.

        Raises:
            ValueError: if R, the number of processes, does not divide N.
        """
        inputs, targets = self.views(*batch)
        processes, rank = dist.get_world_size(), dist.get_rank()
        share = len(inputs) // processes
        if share * processes != len(inputs):
            raise ValueError(
                f"The number of processes must divide the images of a batch, got {processes} processes for "
                f"{len(inputs)} images: start fewer processes or choose another batch_size."
            )
        rows = slice(rank * share, (rank + 1) * share)
        return inputs[rows], None if targets is None else targets[rows]


class GatheredLoss(nn.Module):
    """A loss of the whole batch, the same in every process.

    Args:
        loss: maps the embeddings of all N images (N, ...) and their targets to a scalar, see `common.losses`.
    """

    def __init__(self, loss: Callable[[Tensor, Tensor | None], Tensor]) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, embeddings: Tensor, targets: Tensor | None = None) -> Tensor:
        """Return the loss of all N images, of which this process has embeddings and targets (N / R, ...), if any."""
        return self.loss(all_gather(embeddings), None if targets is None else all_gather(targets))


class MeanLoss(nn.Module):
    """The mean over processes of a loss that is itself a mean over images, the same in every process.

    Args:
        loss: maps predictions and targets of equally many images to their mean loss.
    """

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of all images, of which this process has its share."""
        return all_reduce(self.loss(predictions, targets)) / dist.get_world_size()


# ------------------------------------------------------------------------------------------------- network


def distribute(network: nn.Module, device: torch.device) -> DistributedDataParallel:
    """Let a network normalise over all shares and average its gradients over the processes.

    Args:
        network: changed in place: moved to the device, its batch normalisations synchronised. Names and
            parameters stay, so that it is saved and loaded as before.
        device: of this process.

    Returns:
        What is called in training; it holds the network.
    """
    synchronise_batch_norm(network, device)
    network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as in `UNet2d`
    return DistributedDataParallel(network, device_ids=[device] if device.type == "cuda" else None)


class ShareSlices(nn.Module):
    """A network for evaluation, of whose batch every process computes its share; the output is that of one process.

    All processes must give it the same batches.

    Args:
        network: maps slices (N, C, H, W) to (N, K, H, W), each by itself.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, slices: Tensor) -> Tensor:
        """Return the output for all N slices; where R processes do not divide N, some slices are computed twice."""
        processes, rank = dist.get_world_size(), dist.get_rank()
        share = -(-len(slices) // processes)
        rows = torch.arange(rank * share, (rank + 1) * share).clamp(max=len(slices) - 1)
        return all_gather(self.network(slices[rows.to(slices.device)]))[: len(slices)]
