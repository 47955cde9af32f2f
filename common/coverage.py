"""How much of a volume the network does not see: preprocessing keeps a window of fixed size around the centre."""

from __future__ import annotations

import numpy as np
from monai.data import MetaTensor
from nibabel.affines import apply_affine

from .data.nifti import read_nifti

_BODY_FRACTION = 0.1  # as `TrimToBody` tells body from air


def body_outside(image: MetaTensor, path: str) -> float:
    """Return the fraction of the body that lies outside the window.

    A voxel is body if its intensity is at least a tenth of the way from the 1st to the 99th percentile of the volume.

    Args:
        image: (1, X, Y, Z), preprocessed: by its affine the window lies on the grid of the file.
        path: the file, (X, Y, Z); with channels, (X, Y, Z, C), the first one counts.

    Returns:
        0 to 1; 0 if the window holds all of the volume.
    """
    file = read_nifti(path)
    window = _window(image, file.shape[:3])
    if all(part == slice(0, length) for part, length in zip(window, file.shape[:3], strict=True)):
        return 0.0
    voxels = np.asanyarray(file.dataobj[(..., *[0] * (file.ndim - 3))])
    low, high = np.nanpercentile(voxels, [1, 99])
    body = voxels >= low + _BODY_FRACTION * (high - low)
    return 1.0 - float(body[window].sum()) / float(body.sum()) if body.any() else 0.0


def _window(image: MetaTensor, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the voxels of the file whose centres lie in the window; the axes of both are parallel."""
    to_file = np.linalg.inv(np.asarray(image.meta["original_affine"], dtype=np.float64)) @ np.asarray(image.affine)
    ends = np.sort(apply_affine(to_file, [[-0.5] * 3, np.subtract(image.shape[1:], 0.5)]), axis=0)
    first, stop = np.ceil(ends - 1e-3).astype(int)  # a centre on the edge counts, whatever rounding has made of it
    return tuple(slice(max(0, a), min(length, max(0, b))) for a, b, length in zip(first, stop, shape, strict=True))
