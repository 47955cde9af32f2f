"""How far the surfaces of prediction and label are apart, in mm: MONAI's distances on the grid of the file."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from monai.data import MetaTensor
from monai.metrics.utils import get_edge_surface_distance
from monai.transforms.utils import generate_spatial_bounding_box
from torch import Tensor

from .transforms.volume import voxel_spacing

HAUSDORFF, MEAN = "hausdorff95_mm", "mean_surface_distance_mm"
_QUANTILE = 0.95


def surface_distances(
    prediction: Tensor, label: MetaTensor, class_names: Sequence[str]
) -> dict[str, tuple[float | None, float | None]]:
    """Compute two distances between the surfaces of each structure.

    The surface of a structure are its voxels that have a neighbour outside of it. The 95 % Hausdorff distance is the
    larger of the two 95th percentiles, from prediction to label and the other way; the mean surface distance is the
    mean over both ways together.

    A volume of one slice is compared in the slice: in space every voxel of it would be surface.

    Args:
        prediction: class indices (1, X, Y, Z).
        label: the truth on the same grid, with its affine.
        class_names: names by class index, the background's first.

    Returns:
        95 % Hausdorff distance and mean surface distance in mm by name; None where the structure is missing in one of
        the two, since nothing can then be measured.
    """
    spacing = voxel_spacing(label)
    maps = torch.stack([torch.as_tensor(values).as_subclass(Tensor).cpu()[0] for values in (prediction, label)])
    axes = [axis for axis, length in enumerate(maps.shape[1:]) if length > 1]
    if len(axes) == 2:
        spacing = spacing[axes]
        maps = maps.squeeze(1 + next(axis for axis in range(3) if axis not in axes))
    found: dict[str, tuple[float | None, float | None]] = {}
    for value, name in enumerate(class_names[1:], start=1):
        masks = maps == value
        if not masks.flatten(1).any(dim=1).all():
            found[name] = None, None
            continue
        # The functions work on float copies of what they are given, so they get no more than the structure's box.
        low, high = generate_spatial_bounding_box(masks, lambda voxels: voxels > 0)
        box = (slice(None), *(slice(start, end) for start, end in zip(low, high, strict=True)))
        pair = masks[box].float()
        with warnings.catch_warnings():
            # MONAI warns of its own use of an argument that it is to lose.
            warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)
            # Its metrics find the same distances, each of them anew.
            _, both_ways, _ = get_edge_surface_distance(*pair, spacing=spacing.tolist(), symmetric=True)
        farthest = max(float(distances.quantile(_QUANTILE)) for distances in both_ways)
        found[name] = farthest, float(torch.cat(both_ways).mean())
    return found
