"""Batch-normalisation statistics for evaluation: running averages, as in the paper, or recomputed ones.

Running averages with momentum 0.01 lag behind weights that move fast. Those of one labelled patient do not fit others.
Recomputed statistics come from a fixed set of slices that are passed through the network once; no labels are used. With
self-training half of each batch are slices of labelled volumes, and a network that learnt from such batches wants
them in its statistics as well: "mixed".
"""

from __future__ import annotations

import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from ..data.slices import Slices
from ..sync_batch_norm import own_statistics
from .precision import resolve_precision

STATISTICS = ("recomputed", "mixed", "running_average")


def recompute_batch_norm(
    network: nn.Module,
    slices: Slices,
    num_slices: int = 200,
    batch_size: int = 20,
    precision: str = "auto",
    labelled: Slices | None = None,
) -> None:
    """Replace the running statistics by averages over a fixed pass in training mode; parameters stay as they are.

    Args:
        network: changed in place; its mode and momenta are restored.
        slices: the slices that are passed through; their labels are not used.
        num_slices: how many are drawn, without replacement, the same ones at every call; all if there are fewer.
        batch_size: slices of one forward pass.
        precision: see `resolve_precision`.
        labelled: slices that make up half of each batch, drawn like the others; each again and again if there are few.
    """
    share = 1 if labelled is None else 2
    order = _shuffled(slices)[: num_slices // share]
    device = slices.device
    # Equal batches: the average over batches then weighs every slice alike.
    batches = order.tensor_split(max(1, round(share * len(order) / batch_size)))
    dtype = resolve_precision(precision, device)
    autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)

    images = (slices.take(batch)[0] for batch in batches)
    if labelled is not None:
        others = _shuffled(labelled).repeat(-(-len(order) // len(labelled)))[: len(order)].tensor_split(len(batches))
        images = (torch.cat([labelled.take(other)[0], image]) for other, image in zip(others, images, strict=True))
    # Each of several processes makes the whole pass for itself, so that its result is that of one process.
    with autocast, own_statistics(network):
        update_bn(images, network)


def _shuffled(slices: Slices) -> Tensor:
    return torch.randperm(len(slices), generator=torch.Generator().manual_seed(0))


class BatchNormStatistics:
    """Handler of an evaluator: evaluate with recomputed statistics, then put the running averages back.

    Put it last among the evaluator's handlers, so that those which save weights see the recomputed statistics.

    Args:
        network: the network that is evaluated.
        slices: see `recompute_batch_norm`.
        statistics: "recomputed", "mixed" (recomputed, half of the slices labelled) or "running_average" (leave the
            network as it is).
        num_slices: see `recompute_batch_norm`.
        batch_size: see `recompute_batch_norm`.
        precision: see `resolve_precision`.
        labelled: the labelled slices, for "mixed".

    Raises:
        ValueError: if `statistics` is unknown, or "mixed" without labelled slices.
    """

    def __init__(
        self,
        network: nn.Module,
        slices: Slices,
        statistics: str = "recomputed",
        num_slices: int = 200,
        batch_size: int = 20,
        precision: str = "auto",
        labelled: Slices | None = None,
    ) -> None:
        if statistics not in STATISTICS:
            raise ValueError(f"statistics must be one of {STATISTICS}, got {statistics!r}.")
        if statistics == "mixed" and labelled is None:
            raise ValueError("labelled must be given for the statistics 'mixed', got None: give the labelled slices.")
        self.network = network
        self.slices = slices
        self.statistics = statistics
        self.num_slices = num_slices
        self.batch_size = batch_size
        self.precision = precision
        self.labelled = labelled if statistics == "mixed" else None
        self._running: dict[str, Tensor] = {}

    def attach(self, engine: Engine) -> None:
        """Exchange the statistics for the time of the engine's run."""
        engine.add_event_handler(Events.STARTED, self.exchange)
        engine.add_event_handler(Events.COMPLETED, self.restore)

    def exchange(self) -> None:
        """Keep the running averages aside and recompute the statistics."""
        if self.statistics != "running_average":
            self._running = {name: buffer.clone() for name, buffer in self.network.named_buffers()}
            recompute_batch_norm(
                self.network, self.slices, self.num_slices, self.batch_size, self.precision, self.labelled
            )

    def restore(self) -> None:
        """Put the running averages back."""
        buffers = dict(self.network.named_buffers())
        for name, value in self._running.items():
            buffers[name].copy_(value)
        self._running = {}

    def state_dict(self) -> dict[str, Tensor]:
        """Return the network's weights with its running averages, whichever statistics are in use."""
        return {**self.network.state_dict(), **self._running}
