"""Both contrastive losses at once: encoder and decoder pre-trained together instead of one after the other.

The ablation of the supplement that trains with L = Lg + λ Ll, to which the paper's two stages are compared.

Chaitanya, Erdil, Karani, Konukoglu, "Contrastive learning of global and local features for medical image segmentation
with limited annotations", NeurIPS 2020, arXiv 2006.10511.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn


class JointLoss(nn.Module):
    """Global loss plus λ times the local loss, each of a batch of its own.

    Args:
        global_loss: Maps embeddings and the targets of their batch to a scalar, see `GlobalContrastiveLoss`.
        local_loss: Maps regions and the targets of their batch to a scalar, see `LocalContrastiveLoss`.
        weight: λ > 0; 1, 10, 100 and 1000 in the paper. It multiplies the losses as they are normalised here.

    Raises:
        ValueError: If the weight is not a positive number.
    """

    def __init__(self, global_loss: nn.Module, local_loss: nn.Module, weight: float = 1.0) -> None:
        super().__init__()
        if not 0 < weight < math.inf:
            raise ValueError(f"weight must be a positive number, got {weight!r}; the paper has 1, 10, 100 and 1000")
        self.global_loss = global_loss
        self.local_loss = local_loss
        self.weight = weight

    def forward(self, predictions: tuple[Tensor, Tensor], targets: tuple[Any, Any]) -> Tensor:
        """Return the loss of a step.

        Args:
            predictions: Embeddings (N, D) of the global batch and regions (M, P, E) of the local one, see
                `JointPretrainingNet`.
            targets: Of the two batches, see `PairLoader`.

        Returns:
            Loss ≥ 0, float32 scalar.
        """
        embeddings, regions = predictions
        of_global, of_local = targets
        return self.global_loss(embeddings, of_global) + self.weight * self.local_loss(regions, of_local)
