"""Local contrastive loss: pre-training of decoder blocks with one vector per region of a feature map.

Section 3.2 of the paper: equation 3 with the strategies L^R and L^D, which `common.strategies` describes. Cutting the
regions out of the feature map and projecting them to vectors are not done here; this module only says which regions
are negatives of each other.

Chaitanya, Erdil, Karani, Konukoglu, "Contrastive learning of global and local features for medical image segmentation
with limited annotations", NeurIPS 2020, arXiv 2006.10511.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..strategies import Layout, LocalStrategy
from .info_nce import check_temperature, info_nce, log_sum_of_negatives, similarities, unit_vectors

NUM_REGIONS = 13
NUM_POSITIONS = {1: 13, 3: 17}

# By region size: for each region R0..R12 the positions of one feature map that are its negatives. The positions are
#
#     R0           R1           R2
#           R9     A     R10
#     R3    Bx     R4    Dx     R5
#           R11    Ex    R12
#     R6           R7           R8
#
# with 0..12 for R0..R12 and 13..16 for A, Bx, Dx, Ex, which occur as negatives of the 3 × 3 regions only. The tables
# are those of the authors' program, also where they are not symmetric.
NEGATIVE_POSITIONS: dict[int, tuple[tuple[int, ...], ...]] = {
    1: (
        (1, 3, 4, 9, 10),
        (0, 2, 4, 9, 10),
        (1, 4, 5, 11, 10),
        (0, 4, 6, 9, 11),
        (9, 10, 11, 12, 3),
        (2, 4, 8, 10, 12),
        (3, 4, 7, 11, 9),
        (4, 6, 8, 11, 12),
        (4, 5, 7, 12, 11),
        (0, 1, 3, 4, 10),
        (1, 2, 4, 5, 12),
        (3, 4, 6, 1, 9),
        (4, 5, 7, 8, 10),
    ),
    3: (
        (1, 9, 13, 3, 14),
        (0, 2, 9, 10, 4),
        (1, 13, 10, 15, 5),
        (0, 9, 4, 6, 11),
        (9, 10, 11, 12, 3),
        (2, 4, 8, 10, 12),
        (3, 14, 7, 11, 16),
        (4, 6, 8, 11, 12),
        (15, 5, 7, 12, 16),
        (0, 1, 3, 4, 10),
        (1, 2, 9, 4, 5),
        (3, 4, 6, 7, 12),
        (4, 5, 7, 8, 11),
    ),
}


class LocalContrastiveLoss(nn.Module):
    """Contrastive loss of the regions of N feature maps (equation 3 of the paper).

    Letters: N images, P positions per feature map, D vector size.

    A term compares region r of an anchor image with region r of a partner image; its negatives are the positions
    `NEGATIVE_POSITIONS` of r in both of these images and in no other.

    | strategy | anchors          | partners of an anchor                                     | negatives per image |
    |----------|------------------|-----------------------------------------------------------|---------------------|
    | LR       | all images       | the other view of the slice                               | 5                   |
    | LD       | images of view 0 | view 1 of the slice; the same partition of the next and   | 4                   |
    |          |                  | the next but one volume of the batch (cyclic) in view 0   |                     |

    The terms are summed and divided by 13 N: their mean for LR, 1.5 times their mean for LD, as in the authors'
    program. That program has batches of 3 volumes, where the two partners are the two other volumes; the ring keeps
    the number of partners for more volumes.

    Args:
        layout: Of the batches: a strategy of this loss ("LR" or "LD") and its numbers.
        region_size: Side K of the regions in pixels of the feature map, 1 or 3; it selects the table of negatives.
        temperature: τ > 0, the divisor of the cosine similarities; 0.1 in the paper.

    Raises:
        ValueError: If an argument is not one of the above.
    """

    rows: Tensor
    weights: Tensor
    negatives: Tensor

    def __init__(self, layout: Layout, region_size: int = 3, temperature: float = 0.1) -> None:
        super().__init__()
        num_negatives = layout.strategy_as(LocalStrategy).num_negatives
        if region_size not in NEGATIVE_POSITIONS:
            raise ValueError(f"region_size must be 1 or 3, got {region_size!r}; choose one of them")
        check_temperature(temperature)
        self.region_size = region_size
        self.temperature = temperature
        self.num_images = layout.num_images
        rows, weights = layout.pairs
        table = torch.tensor(NEGATIVE_POSITIONS[region_size])[:, :num_negatives]
        negatives = torch.zeros(NUM_REGIONS, NUM_POSITIONS[region_size], dtype=torch.bool).scatter_(1, table, True)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("weights", weights, persistent=False)
        self.register_buffer("negatives", negatives, persistent=False)

    def forward(self, regions: Tensor, _: None = None) -> Tensor:
        """Return the loss of a batch.

        Args:
            regions: Shape (N, P, D), any floating dtype and length; the vectors are normalised here, and everything
                is computed in float32, under autocast too. P is 17 for 3 × 3 regions (R0..R12, A, Bx, Dx, Ex) and
                13 for single pixels (R0..R12). The images are in the order of the layout.
            _: The targets of the batch, of which there are none.

        Returns:
            Loss ≥ 0, float32 scalar.

        Raises:
            ValueError: If the regions are not 3-D with P positions, or not those of N images.
        """
        num_positions = NUM_POSITIONS[self.region_size]
        if regions.ndim != 3 or regions.shape[:2] != (self.num_images, num_positions):
            raise ValueError(
                f"regions must have the shape ({self.num_images}, {num_positions}, features) for the images of the "
                f"layout and region_size {self.region_size}, got {tuple(regions.shape)}; give the vectors of all "
                "positions in the documented order, and the whole batch"
            )
        if regions.device != self.negatives.device:
            self.to(regions.device)  # once: to copy the tables in every step would make the host wait
        vectors = unit_vectors(regions)
        # One gather per row of the table: with no image twice in a gather its gradient is the same in every run.
        compared = torch.stack([vectors[images] for images in self.rows], dim=1)
        # (anchors, 13, 1 + partners, P): each region of an anchor against all positions of itself and of its partners.
        similarity = similarities(compared[:, 0, :NUM_REGIONS], compared.flatten(1, 2), self.temperature)
        similarity = similarity.unflatten(-1, compared.shape[1:3])
        log_negatives = log_sum_of_negatives(similarity, self.negatives[:, None])
        positive = similarity[:, :, 1:, :NUM_REGIONS].diagonal(dim1=1, dim2=3).mT
        terms = info_nce(positive, torch.logaddexp(log_negatives[..., :1], log_negatives[..., 1:]))
        return (self.weights * terms).sum() / (NUM_REGIONS * len(regions))
