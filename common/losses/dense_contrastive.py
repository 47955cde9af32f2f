"""Dense contrastive loss: pre-training of decoder blocks with one vector per sampled pixel of moved views.

The two views of a slice differ in place as well as in intensities, and most negatives are pixels of other images. So
neither the position in the image nor the image itself solves the task, unlike in the local loss of regions. Which
places of the two views are the same is known from how they were moved, and comes with each batch as its targets.

The form is that of "Pix2Rep", MIDL 2024, arXiv 2407.20395: the map of a moved image, moved back, must
agree with the map of the image. Here both are read at sampled places only.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..strategies import DenseStrategy, Layout, pixels_per_slice
from .info_nce import check_temperature, info_nce, log_sum_of_negatives, similarities, unit_vectors


class DenseContrastiveLoss(nn.Module):
    """Contrastive loss of sampled pixels of N feature maps.

    Letters: N images, K sampled pixels of a slice, D features of a map, h rows, w columns.

    Every sampled pixel of every image is an anchor. Its partners and negatives are sampled pixels too:

    | strategy | partners                                                            | negatives                    |
    |----------|---------------------------------------------------------------------|------------------------------|
    | LE       | the same place in the other view                                    | all others of the batch      |
    | LX       | the same, weight 2; the most similar pixel of the same partition in | other places of the slice;   |
    |          | the same view of the next and the previous volume, weight 1         | all of other partitions      |

    The value is the weighted mean of the terms. Memory grows with the square of N K.

    Args:
        layout: Of the batches: a strategy of this loss ("LE" or "LX") and its numbers.
        num_pixels: Sampled pixels of a batch, those of one view; K is their share of a slice, rounded down.
        temperature: τ > 0, the divisor of the cosine similarities.

    Raises:
        ValueError: If the strategy is not one of this loss, there are fewer pixels than slices, or the temperature is
            not positive.
    """

    anchors: Tensor
    partners: Tensor
    weights: Tensor
    negatives: Tensor
    same_place: Tensor

    def __init__(self, layout: Layout, num_pixels: int = 1000, temperature: float = 0.1) -> None:
        super().__init__()
        of_images = layout.strategy_as(DenseStrategy).negatives(layout)
        check_temperature(temperature)
        self.temperature = temperature
        self.shape = (layout.num_images, pixels_per_slice(layout, num_pixels))
        slices = layout.slices
        places = torch.arange(self.shape[1])
        same = (slices[:, None] == slices)[:, None, :, None] & (places[:, None] == places)[None, :, None, :]
        negatives = (of_images[:, None, :, None] & ~same).flatten(2).flatten(0, 1)
        rows, weights = layout.pairs
        self.register_buffer("anchors", rows[0], persistent=False)
        self.register_buffer("partners", rows[1:], persistent=False)
        self.register_buffer("weights", weights / weights.sum(), persistent=False)
        self.register_buffer("negatives", negatives, persistent=False)
        self.register_buffer("same_place", slices[rows[1:]] == slices[rows[0]], persistent=False)

    def forward(self, maps: Tensor, points: Tensor) -> Tensor:
        """Return the loss of a batch.

        Args:
            maps: Shape (N, D, h, w), any floating dtype and length, in the order of the layout; the vectors are
                normalised here, and everything is computed in float32, under autocast too.
            points: Shape (N, K, 2), the targets of the batch: the sampled places of each image, see `DenseViews`.

        Returns:
            Loss ≥ 0, float32 scalar.

        Raises:
            ValueError: If the maps are not 4-D or not those of N images, or there are not K points in each.
        """
        if maps.ndim != 4 or len(maps) != self.shape[0]:
            raise ValueError(
                f"maps must have the shape ({self.shape[0]}, features, height, width) for the images of the layout, "
                f"got {tuple(maps.shape)}; give the maps of the whole batch"
            )
        if points.shape != (*self.shape, 2):
            raise ValueError(
                f"points must have the shape {(*self.shape, 2)} for the layout and num_pixels, got "
                f"{tuple(points.shape)}; give views and loss the same num_pixels"
            )
        if maps.device != self.negatives.device:
            self.to(maps.device)  # once: to copy the tables in every step would make the host wait
        vectors = unit_vectors(sample_maps(maps, points))
        pixels = vectors.flatten(0, 1)
        log_negatives = log_sum_of_negatives(similarities(pixels, pixels, self.temperature), self.negatives)
        # Once more for the few images that are compared: the gradient of taking them out of all would cost more.
        compared = similarities(vectors[self.anchors], vectors[self.partners], self.temperature)
        same = compared.diagonal(dim1=2, dim2=3)  # (partners, anchors, K)
        positive = torch.where(self.same_place[..., None], same, compared.amax(dim=3))
        terms = info_nce(positive, log_negatives.unflatten(0, self.shape)[self.anchors])
        return (self.weights[:, None, None] * terms).sum() / terms[0].numel()


def sample_maps(maps: Tensor, points: Tensor) -> Tensor:
    """Read feature maps at places between their pixels, linearly interpolated.

    Args:
        maps: (N, D, h, w), any floating dtype.
        points: (N, K, 2), (column, row) as `grid_sample` takes them: -1 and 1 are the outer edges.

    Returns:
        (N, K, D) float32.
    """
    with torch.autocast(maps.device.type, enabled=False):
        sampled = F.grid_sample(maps.float(), points[:, :, None].float(), padding_mode="border", align_corners=False)
    return sampled[..., 0].mT
