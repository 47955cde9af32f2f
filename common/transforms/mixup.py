"""Mixup: a batch replaced by mixtures of pairs of its images and of their labels.

Zhang, Cisse, Dauphin, Lopez-Paz, "mixup: Beyond Empirical Risk Minimization", ICLR 2018, arXiv 1710.09412. The paper
(Chaitanya et al., NeurIPS 2020, arXiv 2006.10511) fine-tunes with it on top of its own initialisation.

Letters: B images, C channels, H rows, W columns.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


def mix(values: Tensor, pairs: Tensor, weights: Tensor) -> Tensor:
    """Mix pairs of the entries of a batch linearly.

    Args:
        values: (B, C, H, W) float32, images or soft labels.
        pairs: (2, B) int64 on the CPU, the two entries that make each entry of the result.
        weights: (B,) float32 on the CPU, share of the first of the two, 0 to 1.

    Returns:
        (B, C, H, W) float32 on the device of the values, new memory.
    """
    first, second = pairs.to(values.device, non_blocking=True)
    return values[second].lerp(values[first], weights.to(values.device, non_blocking=True).view(-1, 1, 1, 1))


class Mixup:
    """Replace every image of a batch by a random mixture of two of its images, and its soft label likewise.

    The share of the first image is drawn from Beta(alpha, alpha), the two images uniformly and with replacement, for
    every place in the batch anew. So one and the same image can be drawn twice, and then comes out unmixed.

    Args:
        alpha: strength, above 0. Shares are nearly all close to 0 or 1 for the paper's 0.1, uniform for 1, and close
            to 1/2 for large values.

    Raises:
        ValueError: ``alpha`` is not a positive number.
    """

    def __init__(self, alpha: float = 0.1) -> None:
        if not 0 < alpha < math.inf:
            raise ValueError(
                f"mixup_alpha must be a positive number, got {alpha!r}. Give 0.1 as in the paper, or 0 for no Mixup."
            )
        self.alpha = alpha

    def draw(self, num_images: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw the pairs (2, B) int64 and the shares (B,) float32 of the first ones from a CPU generator."""
        pairs = torch.randint(num_images, (2, num_images), generator=generator)
        # Torch's Beta distribution takes no generator, NumPy's does.
        seed = torch.randint(2**63 - 1, (), generator=generator).item()
        shares = np.random.default_rng(int(seed)).beta(self.alpha, self.alpha, num_images)
        return pairs, torch.from_numpy(shares).float()

    def __call__(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return mixed images (B, C, H, W) and soft labels (B, K, H, W), K classes, both float32."""
        pairs, weights = self.draw(len(images), generator)
        return mix(images, pairs, weights), mix(labels, pairs, weights)
