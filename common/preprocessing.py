"""The preprocessing of all stages: from a file to slices of one size, and the way back of a prediction.

Chaitanya et al., NeurIPS 2020, arXiv 2006.10511, section 4.1 and supplement: bias field correction, percentiles to 0
and 1, one in-plane spacing, one image size. What is ours: the checks, the axis of the slices, and trimming to the body.

Letters: X, Y, Z axes of the stored volume; H, W rows and columns and D number of the preprocessed slices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.transforms import (
    Activationsd,
    CastToTyped,
    Compose,
    DeleteItemsd,
    EnsureChannelFirstd,
    Invertd,
    LoadImaged,
    ResizeWithPadOrCropd,
    Transform,
)

from .data.cache import CachedTransformd
from .data.nifti import NiftiReader
from .transforms import (
    AssumeOrientationd,
    CheckVolumed,
    CheckWholeSlicesd,
    ExpectedDiced,
    FindLabelledSlicesd,
    LargestComponentsd,
    MatchLabeld,
    MostProbabled,
    N4BiasFieldCorrectiond,
    OrientSlicesd,
    ResampleInPlaned,
    ScalePercentilesd,
    SelectChanneld,
    TrimLikeImaged,
    TrimToBodyd,
    Uncertaintyd,
)

_AXCODES = "LPS"


class VolumePipeline:
    """The preprocessing of images and labels, and the way back of predictions.

    Args:
        image_size: (H, W) in pixels, multiples of 32.
        spacing_mm: pixel size, of both axes or of each.
        class_names: names by class index, the background's first.
        channel: which one of a file that has several; None where files have one.
        slice_axis: see `OrientSlices`.
        trim_margin_mm: see `TrimToBody`; None trims nothing.
        n4_shrink: see `N4BiasFieldCorrection`; None corrects nothing.
        n4_iterations: see `N4BiasFieldCorrection`.
        label_values: see `MatchLabeld`; None where label files have class indices.

    The methods raise ValueError where an argument is out of its range.
    """

    def __init__(
        self,
        image_size: Sequence[int],
        spacing_mm: float | Sequence[float],
        class_names: Sequence[str],
        channel: int | None = None,
        slice_axis: str = "thickest",
        trim_margin_mm: float | None = None,
        n4_shrink: Sequence[int] | None = (4, 4, 1),
        n4_iterations: Sequence[int] = (50, 50, 50, 50),
        label_values: Sequence[int] | Mapping[Any, int] | None = None,
    ) -> None:
        self.image_size = image_size
        self.spacing_mm = spacing_mm
        self.class_names = class_names
        self.channel = channel
        self.slice_axis = slice_axis
        self.trim_margin_mm = trim_margin_mm
        self.n4_shrink = n4_shrink
        self.n4_iterations = n4_iterations
        self.label_values = label_values

    def image(self) -> Compose:
        """Make the preprocessing of an image.

        Returns:
            Invertible; maps {"image": path} to {"image": (1, H, W, D) float32}.
        """
        key = "image"
        return Compose(
            [
                *_load(key),
                *([] if self.channel is None else [SelectChanneld(key, self.channel)]),
                CheckVolumed(key),
                AssumeOrientationd(key, _AXCODES),
                OrientSlicesd(key, _AXCODES, self.slice_axis),
                *([] if self.trim_margin_mm is None else [TrimToBodyd(key, self.trim_margin_mm)]),
                *([] if self.n4_shrink is None else [N4BiasFieldCorrectiond(key, self.n4_shrink, self.n4_iterations)]),
                ScalePercentilesd(key),
                ResampleInPlaned(key, self.spacing_mm),
                ResizeWithPadOrCropd(key, [*self.image_size, -1]),
            ]
        )

    def image_and_label(self, image: CachedTransformd | Compose) -> Compose:
        """Make the preprocessing of an image and its label, to train on.

        Args:
            image: what `image` made, cached or not.

        Returns:
            Maps {"image": path, "label": path} to both as (1, H, W, D) float32, the label with class indices; with
            `LABELLED_SLICES` where some slices are not labelled, see `transforms.labelled_slices`.
        """
        key = "label"
        return Compose(
            [
                *self._image_and_stored_label(image, unlabelled=True),
                OrientSlicesd(key, _AXCODES, self.slice_axis),
                CheckWholeSlicesd(key),
                TrimLikeImaged(key, reference="image"),
                ResampleInPlaned(key, self.spacing_mm, mode="nearest"),
                ResizeWithPadOrCropd(key, [*self.image_size, -1]),
                FindLabelledSlicesd(key),
            ]
        )

    def image_and_stored_label(self, image: CachedTransformd | Compose) -> Compose:
        """Make the preprocessing of an image whose label stays on the grid of the file, to compare predictions with.

        Args:
            image: what `image` made, cached or not.

        Returns:
            Maps {"image": path, "label": path} to the image (1, H, W, D) and the label (1, X, Y, Z), both float32.
        """
        return Compose(self._image_and_stored_label(image, unlabelled=False))

    def _image_and_stored_label(self, image: CachedTransformd | Compose, unlabelled: bool) -> list[Any]:
        values = range(len(self.class_names)) if self.label_values is None else self.label_values
        match = MatchLabeld("label", reference="image", values=values, unlabelled=unlabelled)
        return [image, *_load("label"), match]

    def inverse(self, image: Compose, largest_component: bool = False, uncertainty: bool = False) -> Compose:
        """Make the way back of a prediction to the grid of the file.

        Args:
            image: what `image` made.
            largest_component: keep of each structure the largest connected component only.
            uncertainty: the output is that of a `TurnedInferer`; also give the Dice that its turns promise, see
                `ExpectedDiced`, and the entropy of each voxel, see `Uncertaintyd`.

        Returns:
            Maps the logits {"pred": (K, H, W, D)} of a preprocessed {"image"}, K classes, to class indices
            (1, X, Y, Z) float32. Probabilities are resampled linearly; then each voxel gets the class of the highest.
            With `uncertainty` also "expected_dice" (K - 1,) and "uncertainty" (1, X, Y, Z).
        """
        key, mean = "pred", "mean_of_turns"
        steps: list[Transform] = [
            *([ExpectedDiced(key, len(self.class_names), largest_component, mean=mean)] if uncertainty else []),
            Activationsd(key, softmax=True),
            Invertd([key, mean] if uncertainty else key, transform=image, orig_keys="image", nearest_interp=False),
            MostProbabled(key),
            *([LargestComponentsd(key, len(self.class_names))] if largest_component else []),
        ]
        if uncertainty:
            steps += [Uncertaintyd(mean), DeleteItemsd(mean)]
        return Compose(steps)


def _load(key: str) -> list[Transform]:
    # Steps of their own after the reading, which MONAI Deploy leaves out: it has the voxels already, as integers.
    return [LoadImaged(key, reader=NiftiReader()), EnsureChannelFirstd(key), CastToTyped(key, dtype=torch.float32)]
