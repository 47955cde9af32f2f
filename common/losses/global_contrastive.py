"""Global contrastive loss: pre-training of the encoder with one embedding per image.

Section 3.1 of the paper: equation 1 with the sets of similar and dissimilar images of the strategies G^R, G^D- and
G^D, which `common.strategies` describes. Augmenting the images and embedding them are not done here.

Chaitanya, Erdil, Karani, Konukoglu, "Contrastive learning of global and local features for medical image segmentation
with limited annotations", NeurIPS 2020, arXiv 2006.10511.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..strategies import GlobalStrategy, Layout
from .info_nce import check_temperature, info_nce, log_sum_of_negatives, similarities, unit_vectors


class GlobalContrastiveLoss(nn.Module):
    """Contrastive loss of N image embeddings (equation 1 of the paper).

    Letters: N images, D embedding size, Q positives of an image, S partitions per volume.

    | strategy | positives of an image                                            | negatives of an image  |
    |----------|------------------------------------------------------------------|------------------------|
    | GR       | the other view of the slice                                      | all other slices       |
    | GD-      | the two other views of the slice                                 | other partitions       |
    | GD       | the other view of the slice, weight 2; the same partition in the | other partitions       |
    |          | same view of other volumes, weight 1                             |                        |

    Positives other than the one of a term are not in its denominator. The weighted terms are summed and divided by N.
    This is the sum that the authors' program forms for S = 4: the mean over the terms of GR, twice the mean of GD- and,
    with the ring of volumes, four times the mean of GD. For other S the program keeps the divisor of S = 4; here it is
    N for every S.

    Args:
        layout: Of the batches: a strategy of this loss ("GR", "GD-" or "GD") and its numbers.
        temperature: τ > 0, the divisor of the cosine similarities; 0.1 in the paper.

    Raises:
        ValueError: If the strategy is not one of this loss, or the temperature is not positive.
    """

    positives: Tensor
    weights: Tensor
    negatives: Tensor

    def __init__(self, layout: Layout, temperature: float = 0.1) -> None:
        super().__init__()
        check_temperature(temperature)
        self.temperature = temperature
        rows, weights = layout.pairs
        # Every image has the same number Q of positives, so a gather from the similarities takes the place of N × N
        # weights, of which nearly all would be 0.
        self.register_buffer("positives", rows[1:].T.contiguous(), persistent=False)
        self.register_buffer("weights", weights, persistent=False)
        self.register_buffer("negatives", layout.strategy_as(GlobalStrategy).negatives(layout), persistent=False)

    def forward(self, embeddings: Tensor, _: None = None) -> Tensor:
        """Return the loss of a batch.

        Args:
            embeddings: Shape (N, D), any floating dtype and length, in the order of the layout; they are normalised
                here, and everything is computed in float32, under autocast too.
            _: The targets of the batch, of which there are none.

        Returns:
            Loss ≥ 0, float32 scalar.

        Raises:
            ValueError: If the embeddings are not 2-D or not those of N images.
        """
        if embeddings.ndim != 2 or len(embeddings) != len(self.positives):
            raise ValueError(
                f"embeddings must have the shape ({len(self.positives)}, features) for the images of the layout, got "
                f"{tuple(embeddings.shape)}; flatten the features of each image, and give the whole batch"
            )
        if embeddings.device != self.negatives.device:
            self.to(embeddings.device)  # once: to copy the tables in every step would make the host wait
        vectors = unit_vectors(embeddings)
        similarity = similarities(vectors, vectors, self.temperature)
        log_negatives = log_sum_of_negatives(similarity, self.negatives)
        terms = info_nce(similarity.gather(1, self.positives), log_negatives[:, None])
        return (self.weights * terms).sum() / len(embeddings)
