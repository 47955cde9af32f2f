"""What is written of segmented files: label maps on their grid, maps of uncertainty, and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, Protocol

import nibabel
import numpy as np
from monai.data import MetaTensor

from .coverage import body_outside
from .data.nifti import read_header
from .data.volume_files import stem
from .display import Display
from .files import atomic_file
from .pictures import VOLUMES, draw_comparison
from .volumetry import structure_volumes

_MOST = 0.8  # of the body; in real volumes of the heart and of the prostate .15 to .67 lie outside the window


class Segmented(NamedTuple):
    """A file and what was found in it."""

    image_path: str
    labels: np.ndarray
    """(X, Y, Z) integers on the grid of the file; of a photograph (H, W, 1)."""
    drawn: Sequence[str] | None
    """Names of the classes, the background's first, if there is to be a picture."""
    uncertainty: np.ndarray | None = None
    """(X, Y, Z) from 0 to 1, if known."""


class Outputs(Protocol):
    """What is written of segmentations, and what is said of them."""

    @property
    def display(self) -> Display:
        """How the images and their segmentations are displayed."""

    def path(self, image_path: str, output_dir: str) -> Path:
        """Name the segmentation of a file."""

    def save(self, segmented: Segmented, target: Path) -> None:
        """Write a segmentation, its uncertainty if known, and its picture if that is wanted: all of them or none.

        Args:
            segmented: what is written.
            target: see `path`.

        Raises:
            WriteError: if that cannot be written.
        """

    def volumes(self, image: MetaTensor, labels: np.ndarray, class_names: Sequence[str]) -> dict[str, float]:
        """Measure the structures in ml, by name; nothing where pixels have no size."""

    def doubt(self, image: MetaTensor, labels: np.ndarray, path: str, class_names: Sequence[str]) -> str:
        """Say why a segmentation may be wrong; nothing if there is no reason."""


def segmentation_path(image_path: str, output_dir: str) -> Path:
    """Name the segmentation of a file: `<output_dir>/<name>_seg.nii.gz`."""
    return Path(output_dir) / f"{stem(image_path)}_seg.nii.gz"


def uncertainty_path(image_path: str, output_dir: str) -> Path:
    """Name the map of uncertainty of a file: `<output_dir>/<name>_uncertainty.nii.gz`."""
    return Path(output_dir) / f"{stem(image_path)}_uncertainty.nii.gz"


def save_segmentation(
    labels: np.ndarray, image_path: str, target: Path, dtype: type[np.uint8] | type[np.float32] = np.uint8
) -> None:
    """Write a label map, or another map of one value for each voxel, on the grid of an image, whole or not at all.

    Args:
        labels: (X, Y, Z) integers from 0 to 255 or, for another type, numbers.
        image_path: the image, (X, Y, Z) or, with channels, (X, Y, Z, C); its affine, voxel sizes and qform/sform codes
            are taken over.
        target: the file, ending in .nii.gz.
        dtype: of the voxels in the file.

    Raises:
        ValueError: if the shapes differ.
    """
    header = read_header(image_path)
    shape = header.get_data_shape()[:3]
    if labels.shape != shape:
        raise ValueError(
            f"labels must have the shape {shape} of {image_path}, got {labels.shape}; "
            "bring them back to the grid of the file."
        )
    header.set_data_dtype(dtype)
    image_class = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
    header["cal_min"] = header["cal_max"] = 0
    with atomic_file(target) as temporary:
        nibabel.save(image_class(labels.astype(dtype), header.get_best_affine(), header), temporary)


class NiftiOutputs:
    """`Outputs` of NIfTI files: `<name>_seg.nii.gz` and `<name>_seg.png`, and the map `<name>_uncertainty.nii.gz`.

    Both maps are on the grid of the file.
    """

    @property
    def display(self) -> Display:
        """See `Outputs`."""
        return VOLUMES

    def path(self, image_path: str, output_dir: str) -> Path:
        """See `Outputs`."""
        return segmentation_path(image_path, output_dir)

    def save(self, segmented: Segmented, target: Path) -> None:
        """See `Outputs`."""
        image_path, labels, drawn, uncertainty = segmented
        with ExitStack() as files:
            save_segmentation(labels, image_path, files.enter_context(atomic_file(target)))
            if uncertainty is not None:
                entropy = files.enter_context(atomic_file(uncertainty_path(image_path, str(target.parent))))
                save_segmentation(uncertainty, image_path, entropy, np.float32)
            if drawn is not None:
                picture = files.enter_context(atomic_file(target.with_name(target.name[:-7] + ".png")))
                title = f"{Path(image_path).name} (not verified by anyone)"
                draw_comparison(image_path, None, labels, drawn, title, picture, uncertainty=uncertainty)

    def volumes(self, image: MetaTensor, labels: np.ndarray, class_names: Sequence[str]) -> dict[str, float]:
        """See `Outputs`."""
        return structure_volumes(labels, class_names, image.meta["original_affine"])

    def doubt(self, image: MetaTensor, labels: np.ndarray, path: str, class_names: Sequence[str]) -> str:
        """See `Outputs`: which structures were not found, and whether the network has hardly seen anything."""
        counts = np.bincount(labels.ravel(), minlength=len(class_names))
        absent = [name for name, count in zip(class_names[1:], counts[1:], strict=False) if count == 0]
        reasons = []
        if absent:
            reasons.append(f"no {', '.join(absent)} {'was' if len(absent) == 1 else 'were'} found")
        if (outside := body_outside(image, path)) > _MOST:
            reasons.append(
                f"{outside:.0%} of what is bright lies outside the window around the centre that the network sees: "
                "crop the file to what is to be segmented"
            )
        return f"{path}: {'; '.join(reasons)}." if reasons else ""
