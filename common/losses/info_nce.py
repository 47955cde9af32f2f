"""The contrastive term that the global and the local loss share, in log space.

Equations 1 and 3 of the paper (Chaitanya et al., NeurIPS 2020, arXiv 2006.10511) sum terms of one form: for an anchor
with similarity s to its positive and s_k to its negatives,

    -log(exp(s) / (exp(s) + Σ_k exp(s_k))) = softplus(log Σ_k exp(s_k) - s).

The right side needs no exponential of a similarity, so neither a small temperature nor half precision overflows.
Which images are positives and negatives is decided by the strategy.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def unit_vectors(vectors: Tensor) -> Tensor:
    """Scale vectors to length 1, in float32.

    Args:
        vectors: Shape (..., D), any floating dtype. A zero vector stays zero.

    Returns:
        Shape (..., D), float32.
    """
    return F.normalize(vectors.float(), dim=-1, eps=1e-6)


def similarities(anchors: Tensor, others: Tensor, temperature: float) -> Tensor:
    """Return cosine similarities divided by the temperature, in float32 also under autocast.

    Args:
        anchors: Unit vectors, float32 of shape (..., R, D).
        others: Unit vectors, float32 of shape (..., C, D).
        temperature: τ > 0.

    Returns:
        Similarities within ±1/τ, float32 of shape (..., R, C).
    """
    # Autocast would round the vectors to half precision here: an error of some 0.03 in a similarity at τ = 0.1.
    with torch.autocast(anchors.device.type, enabled=False):
        return (anchors / temperature) @ others.mT


def log_sum_of_negatives(similarity: Tensor, negatives: Tensor) -> Tensor:
    """Return the log of the sum of exp(similarity) over the negatives of each anchor.

    Args:
        similarity: Shape (..., C).
        negatives: True where the entry is a negative of the anchor; bool, broadcastable to `similarity`. Every anchor
            needs one: without, its term would be 0 and its gradient undefined.

    Returns:
        Shape (...).
    """
    return similarity.masked_fill(~negatives, -torch.inf).logsumexp(-1)


def info_nce(positive: Tensor, log_negatives: Tensor) -> Tensor:
    """Return the contrastive term of each pair of an anchor and a positive.

    Args:
        positive: Similarity of the pair.
        log_negatives: Log of the sum over the anchor's negatives; broadcastable with `positive`.

    Returns:
        Terms ≥ 0, of the broadcast shape.
    """
    return F.softplus(log_negatives - positive)


def check_temperature(temperature: float) -> None:
    """Check that a temperature is one.

    Raises:
        ValueError: If it is not > 0.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0, got {temperature!r}; the paper uses 0.1")
