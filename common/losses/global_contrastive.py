"""Global contrastive loss: pre-training of the encoder with one embedding per image.

Section 3.1 of the paper: equation 1 with the sets of similar and dissimilar images of the strategies G^R, G^D- and
G^D. Augmenting the images and embedding them are not done here.

Chaitanya, Erdil, Karani, Konukoglu, "Contrastive learning of global and local features for medical image segmentation
with limited annotations", NeurIPS 2020, arXiv 2006.10511.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .info_nce import check_negatives, info_nce, log_sum_of_negatives, similarities, unit_vectors
from .layout import BatchLayout, LayoutTables, rows_by_partition, rows_by_slice

NUM_VIEWS = {"GR": 2, "GD-": 3, "GD": 2}
GD_PAIRS = ("ring", "all")


class GlobalContrastiveLoss(nn.Module):
    """Contrastive loss of N image embeddings (equation 1 of the paper).

    Letters: N images, D embedding size, V volumes, S partitions per volume.

    | strategy | positives of an image                                            | negatives of an image  |
    |----------|------------------------------------------------------------------|------------------------|
    | GR       | the other view of the slice                                      | all other slices       |
    | GD-      | the two other views of the slice                                 | other partitions       |
    | GD       | the other view of the slice, weight 2; the same partition in the | other partitions       |
    |          | same view of other volumes, weight 1                             |                        |

    Positives other than the one of a term are not in its denominator. The weighted terms are summed and divided by N.
    This is the sum that the authors' program forms for S = 4: the mean over the terms of GR, twice the mean of GD- and,
    with `gd_pairs="ring"`, four times the mean of GD. For other S the program keeps the divisor of S = 4; here it is
    N for every S.

    Args:
        strategy: "GR", "GD-" or "GD".
        temperature: τ > 0, the divisor of the cosine similarities; 0.1 in the paper.
        gd_pairs: Which other volumes GD takes positives from: the "ring" neighbours (the next and the previous volume
            of the batch, cyclic), as in the authors' program, or "all". Both are the same for V = 3; for V = 2 the
            ring meets the other volume twice. The other strategies do not use it.

    Raises:
        ValueError: If an argument is not one of the above.
    """

    def __init__(self, strategy: str, temperature: float = 0.1, gd_pairs: str = "ring") -> None:
        super().__init__()
        if strategy not in NUM_VIEWS:
            raise ValueError(f"strategy must be one of {', '.join(NUM_VIEWS)}, got {strategy!r}; choose one of them")
        if not temperature > 0:
            raise ValueError(f"temperature must be > 0, got {temperature!r}; the paper uses 0.1")
        if gd_pairs not in GD_PAIRS:
            raise ValueError(f"gd_pairs must be one of {', '.join(GD_PAIRS)}, got {gd_pairs!r}; choose one of them")
        self.strategy = strategy
        self.temperature = temperature
        self.gd_pairs = gd_pairs
        self._tables = LayoutTables(self._make_tables)

    def forward(self, embeddings: Tensor, layout: BatchLayout) -> Tensor:
        """Return the loss of a batch.

        Args:
            embeddings: Shape (N, D), any floating dtype and length; they are normalised here, and everything is
                computed in float32, under autocast too.
            layout: What each of the N images is. The rows may be in any order.

        Returns:
            Loss ≥ 0, float32 scalar.

        Raises:
            ValueError: If the embeddings are not 2-D, the layout is not that of N images, the number of views does
                not fit the strategy (GR and GD 2, GD- 3), a slice is not there once per view, an image has no
                negative, the views of a slice are in different partitions (GD-), or, for GD, not every one of V ≥ 2
                volumes has one slice per partition.
        """
        if embeddings.ndim != 2:
            raise ValueError(
                f"embeddings must have 2 dimensions (images, features), got shape {tuple(embeddings.shape)}; "
                "flatten the features of each image"
            )
        positives, weights, negatives = self._tables(layout, len(embeddings), embeddings.device)
        vectors = unit_vectors(embeddings)
        similarity = similarities(vectors, vectors, self.temperature)
        log_negatives = log_sum_of_negatives(similarity, negatives)
        terms = info_nce(similarity.gather(1, positives), log_negatives[:, None])
        return (weights * terms).sum() / len(embeddings)

    def _make_tables(self, layout: BatchLayout) -> tuple[Tensor, Tensor, Tensor]:
        """Return positives (N, Q) as rows, their weights (Q,) and the mask of negatives (N, N).

        Every image has the same number Q of positives, so a gather from the similarities takes the place of N × N
        weights, of which nearly all would be 0.
        """
        num_views = NUM_VIEWS[self.strategy]
        if self.strategy == "GD":
            rows = rows_by_partition(layout, num_views, min_volumes=2)
            shifts = (1, -1) if self.gd_pairs == "ring" else range(1, rows.shape[1])
            partners = [rows.flip(0), *(rows.roll(shift, dims=1) for shift in shifts)]
            weights = torch.tensor([2.0] + [1.0] * len(shifts))
        else:
            rows = rows_by_slice(layout, num_views)
            partners = [rows.roll(shift, dims=0) for shift in range(1, num_views)]
            weights = torch.ones(len(partners))
        positives = torch.empty(rows.numel(), len(partners), dtype=torch.int64)
        positives[rows] = torch.stack(partners, dim=-1)

        groups = layout.slices if self.strategy == "GR" else layout.partitions
        if not groups[positives].eq(groups[:, None]).all():
            raise ValueError(
                "layout.partitions must be the same for all views of a slice, got "
                f"{groups[rows].tolist()} (one list per view); repeat the partitions for each view"
            )
        negatives = groups[:, None] != groups
        check_negatives(negatives)
        return positives, weights, negatives
