"""Images as they are looked at; volumes as in radiology, whatever the orientation of the file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from monai.data import MetaTensor

from .data.nifti import read_nifti
from .transforms.orientation import OrientSlices
from .transforms.volume import voxel_spacing


class Displayed(NamedTuple):
    """An image and maps on its grid.

    Letters: Z slices, Y rows, X columns.

    Attributes:
        image: (Z, Y, X) of any values or, in colour, (Z, Y, X, 3) uint8.
        maps: (Z, Y, X) by name.
        aspect: height of a pixel, with its width as 1.
    """

    image: np.ndarray
    maps: dict[str, np.ndarray]
    aspect: float = 1.0


class Display(NamedTuple):
    """How images of one kind are displayed.

    Attributes:
        draw: draws a picture as a file, as `pictures.draw_comparison` does.
        read: reads an image, and turns it and maps on its grid to where they are looked at, as `displayed_volume` does.
        colours: of this many classes from 1, as "#rrggbb".
        noun: what such an image is called.
        filled: classes are shown as areas rather than as outlines.
    """

    draw: Callable[..., None]
    read: Callable[[str | os.PathLike[str], Mapping[str, Any]], Displayed]
    colours: Callable[[int], list[str]]
    noun: str
    filled: bool


def displayed_volume(image_path: str | os.PathLike[str], maps: Mapping[str, Any]) -> Displayed:
    """Read a volume, and turn it and maps on its grid to where they are looked at.

    An axial slice has the front of the patient at the top and the patient's left on the right. Slices are counted from
    0 in the direction of the third of the axes L, P, S.

    Args:
        image_path: NIfTI file of (X, Y, Z) in any orientation. Of a file with channels, (X, Y, Z, C), the first is
            taken.
        maps: arrays (X, Y, Z) on the grid of the file, by name.
    """
    file = read_nifti(image_path)
    orient = OrientSlices("LPS")
    affine = file.affine
    if not (file.header["qform_code"] or file.header["sform_code"]):  # as `AssumeOrientationd` takes such files
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.diag([*file.header.get_zooms()[:3], 1.0])

    def oriented(values: Any) -> MetaTensor:
        return orient(MetaTensor(np.array(values, np.float32)[None], affine=affine))[0]

    image = oriented(file.dataobj[(..., *[0] * (file.ndim - 3))])
    width, height, _ = voxel_spacing(image)
    shown = {name: np.asarray(oriented(values)).transpose(2, 1, 0) for name, values in maps.items()}
    return Displayed(np.asarray(image).transpose(2, 1, 0), shown, float(height / width))


def window(image: np.ndarray) -> tuple[float, float]:
    """Return the values that are shown as black and as white: the 1st and the 99th percentile."""
    low, high = np.percentile(image, (1, 99))
    return float(low), float(high)
