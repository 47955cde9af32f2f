"""What an encoder sees of volumes: one vector for each, in which the levels of the body stay apart."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .data.slices import Slices
from .engines import AutocastInferer, recompute_batch_norm
from .networks import UNet2d

_SLICES_AT_ONCE = 20


class _Embedder(nn.Module):
    """The encoder's last map, averaged over the image."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> Tensor:
        return self.encoder(images)[-1].mean(dim=(2, 3))


@torch.no_grad()
def embed_slices(network: UNet2d, slices: Slices, precision: str = "auto") -> Tensor:
    """Embed slices as unit vectors.

    The encoder normalises with statistics of these slices: those of a pre-training are not kept.

    Args:
        network: its encoder is used, and its statistics of batch normalisation change.
        slices: M slices.
        precision: see `resolve_precision`.

    Returns:
        float32 (M, C) on the CPU.
    """
    embedder = _Embedder(network.encoder)
    recompute_batch_norm(embedder, slices, precision=precision)
    embedder.eval()
    inferer = AutocastInferer(precision=precision)
    batches = torch.arange(len(slices)).split(_SLICES_AT_ONCE)
    vectors = [inferer(slices.take(batch)[0], embedder).cpu() for batch in batches]
    return F.normalize(torch.cat(vectors), dim=1)


def volume_embeddings(vectors: Tensor, starts: Tensor, num_partitions: int) -> Tensor:
    """Put the vectors of a volume's slices together: the mean of each partition, one after another.

    Args:
        vectors: (M, C), of slices that lie volume by volume.
        starts: int64 (V + 1,), see `Slices`.
        num_partitions: S. A partition of a volume with fewer slices than that is its nearest slice.

    Returns:
        (V, S C).
    """
    rows = []
    for first, end in pairwise(starts.tolist()):
        edges = [first + (end - first) * index // num_partitions for index in range(num_partitions + 1)]
        parts = [vectors[low : max(high, low + 1)].mean(dim=0) for low, high in pairwise(edges)]
        rows.append(torch.cat(parts))
    return torch.stack(rows)
