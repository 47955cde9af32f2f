"""Pictures of segmentations: slices with the outlines of the label and of the prediction."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from monai.data import MetaTensor

from .data.nifti import read_nifti
from .files import atomic_file
from .transforms.orientation import OrientSlices
from .transforms.volume import voxel_spacing

COLOURS = ("#e41a1c", "#4daf4a", "#377eb8", "#ff7f00", "#984ea3", "#ffff33", "#a65628")


def draw_comparison(
    image_path: str | os.PathLike[str],
    label: np.ndarray | None,
    prediction: np.ndarray,
    class_names: Sequence[str],
    title: str,
    path: Path,
    num_slices: int = 4,
    uncertainty: np.ndarray | None = None,
) -> None:
    """Draw slices of a volume in columns: the image, the label's outlines, the prediction's outlines.

    Slices are shown as in radiology, whatever the orientation of the file: an axial one with the front of the patient
    at the top and the patient's left on the right, pixels in their true proportions.

    Args:
        image_path: NIfTI file of (X, Y, Z) in any orientation, any intensities. Of a file with channels, (X, Y, Z, C),
            the first is shown.
        label: (X, Y, Z) integers on the grid of the file, or None to leave its row out.
        prediction: (X, Y, Z) integers on the grid of the file.
        class_names: names of the classes, the background's first.
        title: of the picture.
        path: PNG file; its folder is made.
        num_slices: slices drawn, spread evenly over the volume and counted from 0 in the direction of the third of the
            axes L, P, S.
        uncertainty: (X, Y, Z) from 0 to 1 on the grid of the file, shown in colours over the image; None leaves its
            row out.
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
    given = {"label": label, "prediction": prediction}
    rows = {"image": None, **{name: oriented(classes) for name, classes in given.items() if classes is not None}}
    heat = None if uncertainty is None else oriented(uncertainty)
    if heat is not None:
        rows["uncertainty"] = None
    slices = np.unique(np.linspace(0, image.shape[2] - 1, num_slices + 2).round().astype(int)[1:-1])
    figure = Figure(figsize=(2.6 * len(slices), 2.6 * len(rows) + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), len(slices), squeeze=False)
    low, high = np.percentile(image, (1, 99))
    for row, (name, classes) in enumerate(rows.items()):
        for column, index in enumerate(slices):
            axis: Axes = axes[row, column]
            axis.imshow(image[:, :, index].T, cmap="gray", vmin=low, vmax=high, aspect=height / width)
            axis.set_xticks([])
            axis.set_yticks([])
            if name == "uncertainty" and heat is not None:
                values = heat[:, :, index].T
                shown = axis.imshow(
                    values, cmap="inferno", vmin=0, vmax=1, alpha=np.clip(2 * values, 0, 1), aspect=height / width
                )
                if column == 0:  # one for all, beside all, so that the columns stay in line
                    figure.colorbar(shown, ax=axes, shrink=0.25, anchor=(0.0, 0.1)).ax.tick_params(labelsize=7)
            if row == 0:
                axis.set_title(f"slice {index}", fontsize=8)
            if column == 0:
                axis.set_ylabel(name, fontsize=9)
            for value in range(1, len(class_names)):
                if classes is not None and (classes[:, :, index] == value).any():
                    outline = (classes[:, :, index] == value).T.float()
                    axis.contour(outline, levels=[0.5], colors=[colour(value)], linewidths=1.0)
    handles = [Line2D([], [], color=colour(value), label=name) for value, name in enumerate(class_names) if value > 0]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8)
    figure.suptitle(title, fontsize=9)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=110)


def colour(value: int) -> str:
    """Return the colour of a class by its index, from 1."""
    return COLOURS[(value - 1) % len(COLOURS)]
