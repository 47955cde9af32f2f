from __future__ import annotations

import sys

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, LoadImaged, ResizeWithPadOrCropd, ScaleIntensityRangePercentilesd

from common.data.nifti import NiftiReader
from common.transforms import (
    CheckVolumed,
    N4BiasFieldCorrection,
    N4BiasFieldCorrectiond,
    OrientSlices,
    OrientSlicesd,
    ResampleInPlaned,
    VolumeError,
)

QUICK = (10, 10)


def phantom(shape=(40, 36, 3)) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two tissues and air, what is known of them, and the gain they are seen through."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in shape), indexing="ij")
    tissue = 50.0 + 100 * (x**2 + y**2 < 0.6) + 40 * ((x - 0.2) ** 2 + y**2 < 0.1)
    gain = np.exp(0.3 * x + 0.2 * y + 0.1 * z)
    image = tissue * gain + np.random.default_rng(0).normal(0, 1, shape)
    return image.astype(np.float32), tissue, gain


def as_image(array: np.ndarray, spacing=(1.5, 1.5, 8.0)) -> MetaTensor:
    return MetaTensor(torch.as_tensor(array)[None], affine=torch.diag(torch.tensor([*spacing, 1.0])))


def unevenness(image: np.ndarray, tissue: np.ndarray) -> float:
    inside = image[tissue == 150]
    return float(inside.std() / inside.mean())


@pytest.mark.parametrize("shrink", [(1, 1, 1), (4, 4, 1)], ids=["exact", "default"])
@pytest.mark.parametrize("num_slices", [1, 2, 3, 5])
def test_the_gain_is_removed(shrink, num_slices):
    image, tissue, _ = phantom((40, 36, num_slices))
    corrected = N4BiasFieldCorrection(shrink, iterations=(50, 50))(as_image(image))[0].numpy()
    assert unevenness(image, tissue) > 0.13
    assert unevenness(corrected, tissue) < 0.03


def test_only_a_smooth_gain_is_removed():
    image, _, gain = phantom()
    corrected = N4BiasFieldCorrection(iterations=(50, 50))(as_image(image))[0].numpy()
    found = np.log(image / corrected)
    assert np.corrcoef(found.ravel(), np.log(gain).ravel())[0, 1] > 0.95
    assert np.abs(np.diff(found, axis=0)).max() < 0.06


def test_full_resolution_gives_what_itk_gives():
    import itk

    image, _, _ = phantom((20, 18, 4))
    image[:4] = 0
    image_type = itk.Image[itk.F, 3]
    source = itk.image_from_array(np.ascontiguousarray(image.T))
    source.SetSpacing([1.5, 1.5, 8.0])
    n4 = itk.N4BiasFieldCorrectionImageFilter[image_type, itk.Image[itk.UC, 3], image_type].New(source)
    n4.SetNumberOfFittingLevels(2)
    n4.SetMaximumNumberOfIterations([5, 5])
    n4.SetConvergenceThreshold(0.001)
    n4.Update()
    expected = itk.array_from_image(n4.GetOutput()).T
    corrected = N4BiasFieldCorrection((1, 1, 1), (5, 5))(as_image(image))[0].numpy()
    assert np.allclose(corrected, expected, rtol=1e-5)


def test_small_axes_are_not_thinned_out():
    # 32 samples for each of the two in-plane axes at four levels: nothing to thin out below 64, all of it below 33.
    image, _, _ = phantom((33, 30, 3))
    levels = (2, 2, 2, 2)
    thinned = N4BiasFieldCorrection((4, 4, 1), levels)(as_image(image[:32]))
    exact = N4BiasFieldCorrection((1, 1, 1), levels)(as_image(image[:32]))
    assert torch.equal(thinned.as_tensor(), exact.as_tensor())


def test_the_unit_of_intensity_hardly_matters():
    image, tissue, _ = phantom()
    image[:4] = 0
    rescaled = N4BiasFieldCorrection()(as_image(image / 1000))[0].numpy()
    assert unevenness(image, tissue) > 0.15
    assert unevenness(rescaled, tissue) < 0.03


def change(name: str) -> np.ndarray:
    image, tissue, _ = phantom()
    if name == "zeros":
        return np.where(tissue == 50, 0, image)
    if name == "negative":
        return image - 70
    if name == "one voxel":
        return np.where(np.arange(image.size).reshape(image.shape) == 1000, image, 0)
    return np.full_like(image, 5)


@pytest.mark.parametrize("name", ["zeros", "negative", "constant"])
def test_voxels_without_logarithm_leave_the_result_finite(name):
    image = change(name).astype(np.float32)
    corrected = N4BiasFieldCorrection()(as_image(image))[0].numpy()
    assert np.isfinite(corrected).all()
    assert np.array_equal(np.sign(corrected), np.sign(image))
    if name != "constant":
        _, tissue, _ = phantom()
        assert unevenness(corrected, tissue) < 0.6 * unevenness(image, tissue)


@pytest.mark.parametrize("name", ["one voxel", "all negative"])
def test_images_without_positive_intensities_are_refused(name):
    image = as_image((change("one voxel") if name == "one voxel" else -phantom()[0]).astype(np.float32))
    image.meta["filename_or_obj"] = "a.nii.gz"
    with pytest.raises(VolumeError, match=r"^a.nii.gz must have positive intensities for N4, got .* Leave N4 out"):
        N4BiasFieldCorrection(iterations=QUICK)(image)


def test_metadata_trace_and_input_are_kept():
    image = OrientSlices("LPS")(as_image(phantom((20, 18, 3))[0]))
    image.meta["filename_or_obj"] = "a.nii.gz"
    before = image.as_tensor().clone()
    corrected = N4BiasFieldCorrectiond("image", iterations=(2,))({"image": image})["image"]
    assert torch.equal(image.as_tensor(), before)
    assert not torch.equal(corrected.as_tensor(), before)
    assert corrected.dtype == torch.float32
    assert torch.equal(corrected.affine, image.affine)
    assert corrected.meta["filename_or_obj"] == "a.nii.gz"
    assert [step["class"] for step in corrected.applied_operations] == ["OrientSlices"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shrink": (4, 4)}, r"shrink must be three whole numbers of at least 1, got \(4, 4\)"),
        ({"shrink": (4, 0, 1)}, "shrink must be three"),
        ({"iterations": ()}, "iterations must be one whole number of at least 1 for each level"),
        ({"iterations": (50, 0)}, "iterations must be one"),
        ({"convergence": 0.0}, "convergence must be positive, got 0.0"),
    ],
    ids=["two axes", "zero", "no level", "no iteration", "threshold"],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        N4BiasFieldCorrectiond("image", **arguments)


@pytest.mark.parametrize("shape", [(2, 8, 8, 3), (8, 8, 3)], ids=str)
def test_one_channel_is_needed(shape):
    with pytest.raises(ValueError, match=r"image must have the shape \(1, X, Y, Z\), got"):
        N4BiasFieldCorrection()(MetaTensor(torch.rand(shape)))


def test_missing_itk_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "itk", None)
    with pytest.raises(ImportError, match="pip install itk-filtering"):
        N4BiasFieldCorrection()(as_image(phantom()[0]))


def test_predictions_return_through_the_whole_preprocessing(tmp_path):
    affine = np.diag([1.2, -8.0, 1.4, 1.0])
    path = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(phantom((30, 3, 27))[0], affine), path)
    preprocessing = Compose(
        [
            LoadImaged(keys="image", reader=NiftiReader(), ensure_channel_first=True),
            CheckVolumed(keys="image"),
            OrientSlicesd(keys="image", axcodes="LPS"),
            N4BiasFieldCorrectiond(keys="image", iterations=[2, 2]),
            ScaleIntensityRangePercentilesd(keys="image", lower=1, upper=99, b_min=0, b_max=1, clip=False),
            ResampleInPlaned(keys="image", spacing_mm=1.36719),
            ResizeWithPadOrCropd(keys="image", spatial_size=(32, 32, -1)),
        ]
    )
    image = preprocessing({"image": path})["image"]
    assert tuple(image.shape) == (1, 32, 32, 3)
    inverter = Invertd(keys="pred", transform=preprocessing, orig_keys="image", nearest_interp=False)
    restored = inverter({"image": image, "pred": MetaTensor(torch.ones(4, 32, 32, 3))})["pred"]
    assert tuple(restored.shape) == (4, 30, 3, 27)
    assert np.array_equal(restored.affine.numpy(), nib.load(path).affine)


@pytest.mark.slow
def test_default_shrink_is_close_to_the_full_resolution(acdc_dir):
    path = acdc_dir / "training" / "patient002" / "patient002_frame01.nii.gz"
    image = LoadImaged(keys="image", reader=NiftiReader(), ensure_channel_first=True)({"image": path})["image"]
    normalise = ScaleIntensityRangePercentilesd(keys="image", lower=1, upper=99, b_min=0, b_max=1)
    shrunk, exact, untouched = (
        normalise({"image": each})["image"].as_tensor()
        for each in (N4BiasFieldCorrection()(image), N4BiasFieldCorrection((1, 1, 1))(image), image)
    )
    assert (shrunk - exact).abs().mean() < 0.006
    assert (untouched - exact).abs().mean() > 0.02
