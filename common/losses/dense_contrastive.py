"""Dense contrastive loss: pre-training of decoder blocks with one vector per sampled pixel of moved views.

The two views of a slice differ in place as well as in intensities, and most negatives are pixels of other images. So
neither the position in the image nor the image itself solves the task, unlike in the local loss of regions. Which
places of the two views are the same is known from how they were moved, and comes with each batch as its targets.

The form is that of "Pix2Rep", MIDL 2024, arXiv 2407.20395: the map of a moved image, moved back, must
agree with the map of the image. Here both are read at sampled places only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..strategies import DenseStrategy, Layout, pixels_per_slice
from .info_nce import check_temperature, info_nce, similarities, unit_vectors


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
    left_out: Tensor
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
        left_out = torch.zeros(negatives.shape).masked_fill_(~negatives, -torch.inf)
        self.register_buffer("left_out", left_out, persistent=False)
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
        if maps.device != self.left_out.device:
            self.to(maps.device)  # once: to copy the tables in every step would make the host wait
        vectors = unit_vectors(sample_maps(maps, points))
        pixels = vectors.flatten(0, 1)
        log_negatives = _LogSumOfNegatives.apply(pixels, self.left_out, self.temperature)
        compared = similarities(vectors[self.anchors], vectors[self.partners], self.temperature)
        same = compared.diagonal(dim1=2, dim2=3)  # (partners, anchors, K)
        positive = torch.where(self.same_place[..., None], same, compared.amax(dim=3))
        terms = info_nce(positive, log_negatives.unflatten(0, self.shape)[self.anchors])
        return (self.weights[:, None, None] * terms).sum() / terms[0].numel()


def sample_maps(maps: Tensor, points: Tensor) -> Tensor:
    """Read feature maps at places between their pixels, linearly interpolated; outside, the edge goes on.

    The values are those of `grid_sample`, which would copy the whole maps into float32, forward and backward, for the
    few places that are read.

    Args:
        maps: (N, D, h, w), any floating dtype.
        points: (N, K, 2), (column, row) as `grid_sample` takes them: -1 and 1 are the outer edges.

    Returns:
        (N, K, D) float32.
    """
    height, width = maps.shape[2:]
    columns, column_shares = _neighbours(points[..., 0], width)
    rows, row_shares = _neighbours(points[..., 1], height)
    first = height * width * torch.arange(len(maps), device=maps.device)
    corners = first[:, None] + width * rows[:, None] + columns  # (2, 2, N, K)
    shares = row_shares[:, None] * column_shares
    pixels = maps.permute(0, 2, 3, 1).flatten(0, 2)  # no copy: the networks' maps are channels-last
    read = pixels.index_select(0, corners.flatten()).float().unflatten(0, corners.shape)
    return (shares[..., None] * read).sum((0, 1))


def _neighbours(positions: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return the two pixels that positions lie between, and the share of each; both of shape (2, *positions.shape)."""
    at = (((positions.float() + 1) * size - 1) / 2).clamp(0, size - 1)
    before = at.floor()
    share = at - before
    pixels = before.long()
    return torch.stack([pixels, (pixels + 1).clamp(max=size - 1)]), torch.stack([1 - share, share])


class _LogSumOfNegatives(torch.autograd.Function):
    """`log_sum_of_negatives` of the `similarities` of vectors among themselves, and its gradient, with one matrix.

    Taken step by step, seven matrices would be made, and to make them costs more than to compute them: of 2,000
    vectors one has 16 MB. The gradient needs no matrix of its own: with P_ik = exp(s_ik - max_k s_ik), 0 for what is no
    negative, and w_i the incoming gradient over τ Σ_k P_ik, that of the vectors V is diag(w) P V + Pᵀ diag(w) V.
    """

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, left_out: Tensor, temperature: float) -> Tensor:
        """Take unit vectors (R, D), and (R, R): 0 for a negative, -inf for what is none; return (R)."""
        with torch.autocast(vectors.device.type, enabled=False):
            similarity = torch.addmm(left_out, vectors / temperature, vectors.mT)
        largest = similarity.amax(-1, keepdim=True)
        exponentials = similarity.sub_(largest).exp_()
        sums = exponentials.sum(-1, keepdim=True)
        ctx.save_for_backward(vectors, exponentials, sums)
        ctx.temperature = temperature
        return (sums.log() + largest)[:, 0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        vectors, exponentials, sums = ctx.saved_tensors
        weights = gradient[:, None] / (ctx.temperature * sums)
        return weights * (exponentials @ vectors) + exponentials.mT @ (weights * vectors), None, None
