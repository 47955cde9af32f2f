"""Which draw, volume, partition and view each image of a contrastive batch is.

The global and the local contrastive loss (sections 3.1 and 3.2 of the paper) take their pairs from this description
and not from the order of the rows. Drawing the batch is not done here.

Chaitanya, Erdil, Karani, Konukoglu, "Contrastive learning of global and local features for medical image segmentation
with limited annotations", NeurIPS 2020, arXiv 2006.10511.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class BatchLayout(NamedTuple):
    """What each of the N images of a batch is; every field is an int64 tensor of shape (N,) on the CPU.

    The fields stay on the CPU so that comparing two layouts, done in every training step, does not wait for the GPU.

    Attributes:
        slices: Number of the draw. All views of a drawn slice share it; a slice drawn twice has two numbers.
        volumes: Position in the batch of the volume that the slice is from, 0..V-1; ignored by GR, GD- and LR.
        partitions: Partition of the volume that the slice is from, 0..S-1; ignored by GR and LR.
        views: Which view of the slice the image is, from 0. In GD- and GD view 0 is the image as it is and the others
            are augmented; in GR, LR and LD every view is augmented.
    """

    slices: Tensor
    volumes: Tensor
    partitions: Tensor
    views: Tensor


class LayoutTables:
    """Index tables of a loss, remade only when the layout or the device differs from the last call.

    A training run mostly repeats one layout. Keeping the tables spares each step their construction and a copy to the
    device, which would make the host wait.

    Args:
        make: Builds the tables from a layout, on the CPU.
    """

    def __init__(self, make: Callable[[BatchLayout], tuple[Tensor, ...]]) -> None:
        self._make = make
        self._layout: BatchLayout | None = None
        self._device: torch.device | None = None
        self._tables: tuple[Tensor, ...] = ()

    def __call__(self, layout: BatchLayout, num_images: int, device: torch.device) -> tuple[Tensor, ...]:
        """Return the tables of `layout` on `device`.

        Args:
            layout: What each of the N images is.
            num_images: N, the number of images the loss was given.
            device: Where the tables are needed.

        Returns:
            The tables in the order in which `make` returns them.

        Raises:
            ValueError: If a field of the layout is not a CPU tensor of shape (num_images,) or not of int64.
        """
        _check_fields(layout, num_images)
        known = self._layout is not None and all(map(torch.equal, self._layout, layout))
        if not known or device != self._device:
            self._tables = tuple(table.to(device) for table in self._make(layout))
            # Clones, as the caller may write the next batch into the same tensors.
            self._layout = BatchLayout(*(field.clone() for field in layout))
            self._device = device
        return self._tables


def rows_by_slice(layout: BatchLayout, num_views: int) -> Tensor:
    """Return the row of each view of each drawn slice.

    Args:
        layout: What each of the N images is.
        num_views: W, the number of views the loss compares.

    Returns:
        Rows, int64 of shape (W, B) for B = N / W drawn slices.

    Raises:
        ValueError: If the views are not 0..W-1 or a slice is missing from a view or repeated in it.
    """
    views = layout.views.unique()
    if not torch.equal(views, torch.arange(num_views)):
        raise ValueError(
            f"layout.views must hold exactly {num_views} views, numbered from 0, got {views.tolist()}; "
            f"give every drawn slice in {num_views} views"
        )
    rows = _row_table(layout.views, layout.slices)
    if rows is None:
        raise ValueError(
            "layout.slices must hold each slice exactly once per view, got "
            f"{[layout.slices[layout.views == view].tolist() for view in views]}; number the draws, not the images"
        )
    return rows


def rows_by_partition(layout: BatchLayout, num_views: int, min_volumes: int) -> Tensor:
    """Return the row of each view of each partition of each volume.

    Args:
        layout: What each of the N images is.
        num_views: W, the number of views the loss compares.
        min_volumes: Smallest number of volumes with which the loss has pairs of different volumes.

    Returns:
        Rows, int64 of shape (W, V, S) for V volumes, in the order of their positions, and S partitions.

    Raises:
        ValueError: If the views are not 0..W-1, a slice is missing from a view or repeated in it, the volumes are
            fewer than `min_volumes`, or not every volume gives one slice, the same in all views, per partition.
    """
    rows_by_slice(layout, num_views)
    num_volumes = len(layout.volumes.unique())
    if num_volumes < min_volumes:
        raise ValueError(
            f"layout.volumes must hold at least {min_volumes} volumes, got {num_volumes}; draw more volumes per batch"
        )
    rows = _row_table(layout.views, layout.volumes, layout.partitions)
    if rows is None or not layout.slices[rows].eq(layout.slices[rows[0]]).all():
        raise ValueError(
            "layout.volumes and layout.partitions must hold one slice, the same in all views, for each partition of "
            f"each volume, got volumes {layout.volumes.tolist()} and partitions {layout.partitions.tolist()}; "
            "draw one slice from every partition of every volume"
        )
    return rows


def _check_fields(layout: BatchLayout, num_images: int) -> None:
    for name, field in layout._asdict().items():
        if field.shape != (num_images,):
            raise ValueError(
                f"layout.{name} must have one entry per image, shape ({num_images},), got {tuple(field.shape)}; "
                "pass the layout of this batch"
            )
        if field.dtype != torch.int64 or field.device.type != "cpu":
            raise ValueError(
                f"layout.{name} must be an int64 tensor on the CPU, got {field.dtype} on {field.device}; "
                "do not move the layout with the images"
            )


def _row_table(*keys: Tensor) -> Tensor | None:
    """Return the rows arranged by their keys, one axis per key, or None unless each combination occurs once."""
    position = torch.zeros_like(keys[0])
    shape: list[int] = []
    for key in keys:
        values, index = key.unique(return_inverse=True)
        position = position * len(values) + index
        shape.append(len(values))
    ordered, rows = position.sort()
    complete = torch.Size(shape).numel() == len(rows) and torch.equal(ordered, torch.arange(len(rows)))
    return rows.reshape(shape) if complete else None
