"""N4 bias field correction of a volume (Tustison et al., IEEE TMI 29(6), 2010) with ITK.

Chaitanya et al., NeurIPS 2020, arXiv 2006.10511, supplement, correct all volumes with N4 before anything else: no mask,
4 fitting levels of at most 50 iterations, convergence threshold 0.001, the full resolution. That takes most of a minute
for one volume of ACDC. By default the field, which is smooth, is estimated here from every fourth pixel of every slice
and divided out at full resolution; `shrink=(1, 1, 1)` is what the paper did. The bundle of ACDC has fewer samples and
levels still, as measured there.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform

from .volume import VolumeError, volume_name, voxel_spacing

_SAMPLES_PER_SPAN = 4


class N4BiasFieldCorrection(Transform):
    """Divide out the slowly varying gain of the receiver coils.

    The logarithm of the gain is a B-spline that starts with one span along each axis and doubles the number of spans
    with every fitting level. An axis is thinned out by `shrink`, but never below four samples for each span of the last
    level (32 for four levels); an axis that is shorter than that to begin with is left as it is.

    The field is estimated from max(intensity, f) with f = min(1, p99 / 100) and p99 the 99th percentile, and divides
    the intensities as they are. N4 works on logarithms, and ITK enters a voxel that is not positive with its intensity
    where all others enter with the logarithm of theirs: the zeros of an integer image count as ones, which f = 1
    reproduces, but the zeros of an image scaled to 0..1 would count as the brightest voxels.

    Args:
        shrink: take every n-th voxel along each axis to estimate the field; (1, 1, 1) for the full resolution.
        iterations: most iterations in each fitting level; the length is the number of levels.
        convergence: a level ends when the coefficient of variation of the change of the gain falls below this.

    Raises:
        ValueError: if an argument is not positive, or `shrink` has not three entries.
    """

    def __init__(
        self,
        shrink: Sequence[int] = (4, 4, 1),
        iterations: Sequence[int] = (50, 50, 50, 50),
        convergence: float = 0.001,
    ) -> None:
        self.shrink = tuple(int(value) for value in shrink)
        self.iterations = tuple(int(value) for value in iterations)
        self.convergence = float(convergence)
        if len(self.shrink) != 3 or min(self.shrink) < 1:
            raise ValueError(f"shrink must be three whole numbers of at least 1, got {shrink!r}; (1, 1, 1) is exact.")
        if not self.iterations or min(self.iterations) < 1:
            raise ValueError(f"iterations must be one whole number of at least 1 for each level, got {iterations!r}.")
        if not self.convergence > 0:
            raise ValueError(f"convergence must be positive, got {convergence!r}; the paper took 0.001.")

    def __call__(self, image: MetaTensor) -> MetaTensor:
        """Return the corrected image.

        Args:
            image: (1, X, Y, Z), finite.

        Returns:
            (1, X, Y, Z) in float32, with the metadata of `image`.

        Raises:
            ValueError: if the image has another shape.
            VolumeError: if 99 % of the voxels or more are not positive.
            ImportError: if ITK's filters are not installed.
        """
        if image.ndim != 4 or image.shape[0] != 1:
            raise ValueError(f"image must have the shape (1, X, Y, Z), got {tuple(image.shape)}; pass one channel.")
        volume = image.as_tensor()[0].cpu().numpy().astype(np.float32)
        brightest = float(np.percentile(volume, 99))
        if brightest <= 0:
            raise VolumeError(
                f"{volume_name(image)} must have positive intensities for N4, got {brightest:g} as the 99th "
                "percentile. Leave N4 out of the preprocessing, or add a constant to the intensities."
            )
        gain = np.exp(self._log_field(np.maximum(volume, min(1.0, brightest / 100)), voxel_spacing(image)))
        corrected = image.to(torch.float32, copy=True)
        corrected[0] /= torch.as_tensor(gain, device=image.device)
        return corrected

    def _log_field(self, volume: np.ndarray, spacing: np.ndarray) -> np.ndarray:
        """Estimate the logarithm of the gain of a positive (X, Y, Z) volume with voxels of `spacing` mm."""
        itk, filter_type = _import_itk()
        # ITK refuses an axis of one voxel because its B-spline would have no extent.
        full = np.pad(volume, [(0, int(length == 1)) for length in volume.shape], mode="edge")
        least = _SAMPLES_PER_SPAN * 2 ** (len(self.iterations) - 1)
        counts = [
            min(length, max(least, length // every)) for length, every in zip(full.shape, self.shrink, strict=True)
        ]
        # Samples run from the first to the last voxel: ITK stretches the spline of the samples over the full image.
        thinned = full[
            np.ix_(*(np.linspace(0, n - 1, m).round().astype(int) for n, m in zip(full.shape, counts, strict=True)))
        ]
        stride = [(n - 1) / (m - 1) for n, m in zip(full.shape, counts, strict=True)]

        thinned_image = _to_itk(itk, thinned, spacing * stride)
        estimator = filter_type.New(thinned_image)
        estimator.SetNumberOfFittingLevels(len(self.iterations))
        estimator.SetMaximumNumberOfIterations(list(self.iterations))
        estimator.SetConvergenceThreshold(self.convergence)
        estimator.Update()
        full_image = _to_itk(itk, full, spacing)
        field = filter_type.New(full_image).ReconstructBiasField(estimator.GetLogBiasFieldControlPointLattice())
        x, y, z = volume.shape
        return itk.array_from_image(field).transpose()[:x, :y, :z]


class N4BiasFieldCorrectiond(MapTransform):
    """Dictionary version of `N4BiasFieldCorrection`.

    Args:
        keys: keys of the images.
        shrink: take every n-th voxel along each axis to estimate the field.
        iterations: most iterations in each fitting level.
        convergence: threshold that ends a level.
        allow_missing_keys: do not raise if a key is missing.
    """

    def __init__(
        self,
        keys: KeysCollection,
        shrink: Sequence[int] = (4, 4, 1),
        iterations: Sequence[int] = (50, 50, 50, 50),
        convergence: float = 0.001,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self._correct = N4BiasFieldCorrection(shrink, iterations, convergence)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with the images corrected."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self._correct(d[key])
        return d


def _import_itk() -> tuple[ModuleType, Any]:
    """Return ITK and its N4 filter for images in float32."""
    try:
        import itk  # loading it takes seconds, which whoever does without N4 should not pay

        # As `itk.N4BiasFieldCorrectionImageFilter`, the same class would load some dozens of other filters before it.
        # The name says the types of image, mask and result: float, unsigned char and float in 3 dimensions.
        from itk.itkN4BiasFieldCorrectionImageFilterPython import itkN4BiasFieldCorrectionImageFilterIF3IUC3IF3
    except ImportError:  # also if only itk-core is installed
        # Without the cause, which says less and is what would be shown.
        raise ImportError("N4 needs ITK's filters: pip install itk-filtering") from None
    return itk, itkN4BiasFieldCorrectionImageFilterIF3IUC3IF3


def _to_itk(itk: ModuleType, volume: np.ndarray, spacing: np.ndarray) -> Any:
    """Copy an (X, Y, Z) array into an ITK image, whose first index is X."""
    image = itk.image_from_array(np.ascontiguousarray(volume.transpose()))
    image.SetSpacing([float(value) for value in spacing])
    return image
