from __future__ import annotations

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.transforms import (
    Compose,
    Invertd,
    LoadImaged,
    Orientation,
    Resize,
    ResizeWithPadOrCropd,
    ScaleIntensityRangePercentilesd,
)
from scipy.ndimage import convolve1d
from scipy.special import erf

from common.data.cache import CachedTransformd
from common.data.nifti import NiftiReader
from common.transforms import (
    AssumeOrientationd,
    CheckVolumed,
    MatchLabeld,
    OrientSlices,
    OrientSlicesd,
    RepeatTrimd,
    ResampleInPlane,
    ResampleInPlaned,
    SelectChanneld,
    TrimToBody,
    TrimToBodyd,
    VolumeError,
)
from common.transforms import volume as module

LABELS = (("L", "R"), ("P", "A"), ("I", "S"))
LPS_AFFINE = np.diag([-1.5, -1.5, 8.0, 1.0])


def rotation(*degrees: float) -> np.ndarray:
    """Rotate about the three world axes in turn."""
    result = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        turn = np.eye(3)
        i, j = (k for k in range(3) if k != axis)
        turn[[i, j, i, j], [i, j, j, i]] = np.cos(angle), np.cos(angle), -np.sin(angle), np.sin(angle)
        result = result @ turn
    return result


def make_affine(spacing, permutation=(0, 1, 2), signs=(1, 1, 1), degrees=(0.0, 0.0, 0.0)) -> np.ndarray:
    """Voxel axis i runs along world axis permutation[i], with signs[i]; then everything is rotated."""
    affine = np.eye(4)
    axes = np.zeros((3, 3))
    axes[list(permutation), range(3)] = np.asarray(signs) * spacing
    affine[:3, :3] = rotation(*degrees) @ axes
    affine[:3, 3] = 10.0, -20.0, 30.0
    return affine


def world(affine: np.ndarray, shape) -> np.ndarray:
    """World coordinates of all voxel centres, (*shape, 3)."""
    indices = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    return indices @ affine[:3, :3].T + affine[:3, 3]


def save(path: Path, array: np.ndarray, affine: np.ndarray = LPS_AFFINE) -> str:
    nib.save(nib.Nifti1Image(array, affine), path)
    return str(path)


def noise(shape, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(10, 100, shape).astype(np.float32)


def load(key: str = "image") -> LoadImaged:
    reader = NiftiReader(field_of_view_mm=(1, 1000))  # the volumes here are small
    return LoadImaged(keys=key, reader=reader, ensure_channel_first=True)


def make_preprocessing(spacing: float = 1.0, size: int = 20) -> Compose:
    return Compose(
        [
            load(),
            CheckVolumed(keys="image"),
            OrientSlicesd(keys="image", axcodes="LPS"),
            ScaleIntensityRangePercentilesd(keys="image", lower=1, upper=99, b_min=0, b_max=1, clip=False),
            ResampleInPlaned(keys="image", spacing_mm=spacing),
            ResizeWithPadOrCropd(keys="image", spatial_size=(size, size, -1)),
        ]
    )


def make_label_preprocessing(spacing: float, size: int, values=(0, 1, 2, 3)) -> Compose:
    return Compose(
        [
            load("label"),
            MatchLabeld(keys="label", reference="image", values=values),
            OrientSlicesd(keys="label", axcodes="LPS"),
            ResampleInPlaned(keys="label", spacing_mm=spacing, mode="nearest"),
            ResizeWithPadOrCropd(keys="label", spatial_size=(size, size, -1)),
        ]
    )


def invert(preprocessing: Compose, image: MetaTensor, pred: torch.Tensor) -> MetaTensor:
    inverter = Invertd(keys="pred", transform=preprocessing, orig_keys="image", nearest_interp=False)
    return inverter({"image": image, "pred": MetaTensor(pred)})["pred"]


# ---- CheckVolumed


def with_value(value: float) -> np.ndarray:
    volume = noise((8, 7, 3))
    volume[1, 2, :2] = value
    return volume


def almost_constant() -> np.ndarray:
    volume = np.full((20, 20, 5), 7, np.float32)
    volume[0, 0, 0] = 50
    return volume


BAD_IMAGES = {
    "2d": (lambda p: save(p, noise((8, 7))), "is a 2-D image of 8 x 7 pixels.*one slice"),
    "4d": (lambda p: save(p, noise((8, 7, 3, 4))), "got 4 channels or frames of 8 x 7 x 3 voxels.*slicer"),
    "5d": (lambda p: save(p, noise((8, 7, 3, 1, 2))), "must hold one 3-D volume, got 2 channels or frames"),
    "nan": (lambda p: save(p, with_value(np.nan)), "has 2 of 168 voxels that are NaN or infinite"),
    "inf": (lambda p: save(p, with_value(-np.inf)), "has 2 of 168 voxels that are NaN or infinite"),
    "zeros": (lambda p: save(p, np.zeros((8, 7, 3), np.float32)), "contains only zeros"),
    "constant": (lambda p: save(p, np.full((8, 7, 3), 5, np.int16)), "constant intensity.*both 5"),
    "almost constant": (lambda p: save(p, almost_constant()), "constant intensity.*both 7"),
}


@pytest.mark.parametrize("case", BAD_IMAGES, ids=str)
def test_unusable_images_are_refused_by_name(tmp_path, case):
    make, message = BAD_IMAGES[case]
    path = make(tmp_path / "bad image.nii")
    data = load()({"image": path})
    with pytest.raises(VolumeError, match=message) as caught:
        CheckVolumed(keys="image")(data)
    assert str(caught.value).startswith(path)


@pytest.mark.parametrize("spacing", [0.0, np.nan, np.inf], ids=str)
def test_unusable_affine_is_refused(spacing):
    image = MetaTensor(torch.rand(1, 8, 7, 3), affine=torch.diag(torch.tensor([1.0, spacing, 8.0, 1.0])))
    image.meta["filename_or_obj"] = "a.nii.gz"
    with pytest.raises(VolumeError, match=r"^a.nii.gz must have a finite and positive voxel size, got 1 x "):
        CheckVolumed(keys="image")({"image": image})


@pytest.mark.parametrize("shape", [(8, 7, 3), (8, 7, 1), (8, 7, 3, 1)], ids=str)
def test_usable_images_pass_unchanged(tmp_path, shape):
    data = load()({"image": save(tmp_path / "a.nii.gz", noise(shape))})
    assert CheckVolumed(keys="image")(data)["image"] is data["image"]


def test_tensor_without_metadata_is_refused():
    with pytest.raises(TypeError, match="volume must be a MetaTensor, got Tensor"):
        OrientSlices("LPS")(torch.rand(1, 8, 7, 3))


# ---- SelectChanneld


@pytest.mark.parametrize("channel", [0, 1])
def test_channel_of_a_4d_file(tmp_path, channel):
    volume = noise((8, 7, 3, 2))
    image = SelectChanneld("image", channel)(load()({"image": save(tmp_path / "a.nii.gz", volume)}))["image"]
    assert np.array_equal(image.numpy(), volume[None, ..., channel])
    assert np.array_equal(image.affine.numpy(), LPS_AFFINE)
    assert list(image.meta["spatial_shape"]) == [8, 7, 3]
    assert image.untyped_storage().nbytes() == 8 * 7 * 3 * 4  # the other channel is not kept


@pytest.mark.parametrize("shape", [(8, 7, 3), (8, 7, 3, 1)], ids=str)
def test_file_of_one_channel_is_taken_as_it_is(tmp_path, shape):
    data = load()({"image": save(tmp_path / "a.nii.gz", noise(shape))})
    assert SelectChanneld("image", 0)(data)["image"] is data["image"]


@pytest.mark.parametrize(("shape", "channels"), [((8, 7, 3), "0"), ((8, 7, 3, 2), "0, 1")], ids=["3-D", "4-D"])
def test_missing_channel(tmp_path, shape, channels):
    path = save(tmp_path / "a.nii.gz", noise(shape))
    message = (
        rf"{path} must have the channel 2, counted from 0, but its channels are {channels} \(8 x 7 x 3 .* Set chan"
    )
    with pytest.raises(VolumeError, match=message):
        SelectChanneld("image", 2)(load()({"image": path}))


def test_channel_is_checked():
    with pytest.raises(ValueError, match="channel must be an index from 0, got -1"):
        SelectChanneld("image", -1)


# ---- OrientSlices

ALIGNED = [
    (permutation, signs)
    for permutation in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]
# The last four have axes exactly between two or three world axes.
ROTATIONS = [(20.0, 0.0, 0.0), (30.0, 50.0, 10.0), (45.0, 0.0, 0.0), (45.0, 45.0, 0.0), (0.0, 45.0, 45.0)]
ROTATIONS.append((45.0, float(np.rad2deg(np.arcsin(1 / np.sqrt(3)))), 0.0))


@pytest.mark.parametrize("axcodes", ["LPS", "RAS"])
def test_orientation_without_thick_slices_is_that_of_monai(axcodes):
    for permutation, signs in ALIGNED:
        affine = torch.as_tensor(make_affine((1.0, 1.1, 1.2), permutation, signs))
        volume = MetaTensor(torch.rand(2, 4, 5, 6), affine=affine)
        expected = Orientation(axcodes, labels=LABELS)(volume)
        oriented = OrientSlices(axcodes)(volume)
        assert torch.equal(oriented.as_tensor(), expected.as_tensor())
        assert torch.equal(oriented.affine, expected.affine)


@pytest.mark.parametrize(
    ("slice_world_axis", "expected"), [(0, "PIL"), (1, "LIP"), (2, "LPS")], ids=["sagittal", "coronal", "axial"]
)
@pytest.mark.parametrize("degrees", [(0.0, 0.0, 0.0), (20.0, -15.0, 25.0)], ids=["aligned", "oblique"])
def test_thick_slices_come_last(slice_world_axis, expected, degrees):
    for permutation, signs in ALIGNED:
        spacing = np.where(np.asarray(permutation) == slice_world_axis, 8.0, 1.5)
        slice_axis = permutation.index(slice_world_axis)
        affine = torch.as_tensor(make_affine(spacing, permutation, signs, degrees))
        oriented = OrientSlices("LPS")(MetaTensor(torch.rand(1, 4, 5, 6), affine=affine))
        assert oriented.shape[-1] == (4, 5, 6)[slice_axis]
        assert np.allclose(np.linalg.norm(oriented.affine[:3, :3], axis=0), (1.5, 1.5, 8.0))
        assert "".join(nib.aff2axcodes(oriented.affine.numpy())) == expected


@pytest.mark.parametrize("degrees", [(0.0, 0.0, 0.0), (20.0, -15.0, 25.0)], ids=["aligned", "oblique"])
@pytest.mark.parametrize("spacing", [(1.5, 1.5, 8.0), (8.0, 1.5, 1.5), (1.0, 1.1, 1.2)], ids=str)
def test_fixed_slice_axis_is_the_same_for_all(spacing, degrees):
    orient = OrientSlices("LPS", slice_axis="fixed")
    for permutation, signs in ALIGNED:
        affine = torch.as_tensor(make_affine(spacing, permutation, signs, degrees))
        volume = MetaTensor(torch.rand(1, 4, 5, 6), affine=affine)
        oriented = orient(volume)
        assert "".join(nib.aff2axcodes(oriented.affine.numpy())) == "LPS"
        restored = orient.inverse(oriented)
        assert torch.equal(restored.as_tensor(), volume.as_tensor()) and torch.equal(restored.affine, affine)


def test_slice_axis_is_checked():
    with pytest.raises(ValueError, match="slice_axis must be one of thickest, fixed, got 'thick'"):
        OrientSlicesd("image", "LPS", slice_axis="thick")


def test_orientation_moves_every_voxel_with_its_world_position():
    for degrees in ROTATIONS:
        affine = make_affine((1.2, 8.0, 1.3), (2, 0, 1), (1, -1, -1), degrees)
        positions = world(affine, (4, 5, 6))
        volume = MetaTensor(torch.as_tensor(positions).permute(3, 0, 1, 2), affine=torch.as_tensor(affine))
        oriented = OrientSlices("LPS")(volume)
        expected = world(oriented.affine.numpy(), oriented.shape[1:])
        assert np.allclose(oriented.permute(1, 2, 3, 0).numpy(), expected)


@pytest.mark.parametrize("spacing", [(1.2, 1.3, 8.0), (1.2, 1.3, 1.4)], ids=["thick", "thin"])
def test_orientation_is_undone_exactly(spacing):
    orient = OrientSlices("LPS")
    for degrees in [(0.0, 0.0, 0.0), *ROTATIONS]:
        for permutation, signs in ALIGNED:
            affine = torch.as_tensor(make_affine(spacing, permutation, signs, degrees))
            volume = MetaTensor(torch.rand(1, 2, 3, 4), affine=affine)
            restored = orient.inverse(orient(volume))
            assert torch.equal(restored.as_tensor(), volume.as_tensor())
            assert torch.equal(restored.affine, affine)
            assert restored.applied_operations == []


@pytest.mark.parametrize("slice_axis", ["thickest", "fixed"])
@pytest.mark.parametrize("thickness", [0.5, 1.2, 10.0], ids=["thin", "cubic", "thick"])
def test_one_slice_lies_along_its_axis_of_length_one(slice_axis, thickness):
    orient = OrientSlices("LPS", slice_axis)
    for permutation, signs in ALIGNED:
        for axis in range(3):
            spacing, size = [1.2, 1.2, 1.2], [4, 5, 6]
            spacing[axis], size[axis] = thickness, 1
            affine = torch.as_tensor(make_affine(spacing, permutation, signs, (10.0, -15.0, 20.0)))
            volume = MetaTensor(torch.rand(1, *size), affine=affine)
            oriented = orient(volume)
            assert oriented.shape[-1] == 1
            assert np.allclose(np.linalg.norm(oriented.affine[:3, 2]), thickness)
            restored = orient.inverse(oriented)
            assert torch.equal(restored.as_tensor(), volume.as_tensor()) and torch.equal(restored.affine, affine)


def test_one_slice_is_preprocessed_and_returned(tmp_path):
    """Also from the cache's plain form of the trace."""
    path = save(tmp_path / "a.nii.gz", noise((30, 1, 40)), make_affine((1.2, 1.2, 1.2)))
    cached = CachedTransformd("image", make_preprocessing(1.0, 48), tmp_path / "cache")
    for _ in range(2):
        image = cached({"image": path})["image"]
        assert image.shape == (1, 48, 48, 1)
        inverter = Invertd("pred", cached, orig_keys="image", nearest_interp=False)
        restored = inverter({"image": image, "pred": MetaTensor(image.as_tensor())})["pred"]
        assert restored.shape == (1, 30, 1, 40)


@pytest.mark.parametrize("axcodes", ["LPX", "LP", "LRS", "LPSA"])
def test_axcodes_are_checked(axcodes):
    with pytest.raises(ValueError, match=f"axcodes must have one letter of each pair .* got '{axcodes}'"):
        OrientSlices(axcodes)


def test_files_without_a_coordinate_system_are_taken_as_they_come(tmp_path):
    image = nib.Nifti1Image(noise((8, 7, 3)), None)
    image.header.set_zooms((1.5, 1.5, 8.0))
    nib.save(image, tmp_path / "a.nii.gz")
    loaded = load()({"image": tmp_path / "a.nii.gz"})["image"]
    oriented = OrientSlices("LPS")(loaded)
    assert nib.aff2axcodes(loaded.affine.numpy()) == ("L", "A", "S")
    assert torch.equal(oriented.as_tensor(), loaded.as_tensor().flip(2))


# ---- TrimToBody


def make_body(shape=(20, 18, 12), box=((4, 13), (2, 16), (5, 9))) -> np.ndarray:
    """Air with noise, and a body of 100 in a box."""
    volume = np.random.default_rng(0).uniform(0, 5, shape)
    volume[tuple(slice(*limits) for limits in box)] += 100
    return volume.astype(np.float32)


@pytest.mark.parametrize(
    ("margin_mm", "box"),
    [
        (0, [(4, 13), (2, 16), (5, 9)]),
        (2.5, [(2, 15), (0, 18), (4, 10)]),
        (1000, [(0, 20), (0, 18), (0, 12)]),
    ],
    ids=["none", "some", "everything"],
)
def test_body_is_what_is_left(margin_mm, box):
    affine = make_affine((1.5, 1.0, 8.0), (2, 0, 1), (1, -1, 1), (10.0, 0.0, 20.0))
    volume = MetaTensor(torch.as_tensor(make_body())[None], affine=torch.as_tensor(affine))
    trimmed = TrimToBody(margin_mm)(volume)
    assert torch.equal(trimmed.as_tensor(), volume.as_tensor()[(slice(None), *(slice(*limits) for limits in box))])
    assert np.allclose(trimmed.affine[:3, 3], affine[:3, :3] @ [low for low, _ in box] + affine[:3, 3])
    assert trimmed.untyped_storage().nbytes() == trimmed.numel() * 4  # what was cut off is not kept


def test_trimming_is_undone_with_zeros():
    trim = TrimToBodyd("image", 2.5)
    volume = MetaTensor(torch.as_tensor(make_body())[None], affine=torch.as_tensor(make_affine((1.5, 1.0, 8.0))))
    trimmed = trim({"image": volume})["image"]
    two_classes = torch.cat([trimmed, trimmed + 1])
    restored = trim.inverse({"image": two_classes})["image"]
    expected = torch.zeros(2, *volume.shape[1:])
    expected[0, 2:15, :, 4:10] = volume.as_tensor()[0, 2:15, :, 4:10]
    expected[1, 2:15, :, 4:10] = volume.as_tensor()[0, 2:15, :, 4:10] + 1
    assert torch.equal(restored.as_tensor(), expected)
    assert torch.allclose(restored.affine, volume.affine)
    assert restored.applied_operations == []


@pytest.mark.parametrize("margin_mm", [-1, float("nan"), float("inf")], ids=str)
def test_margin_is_checked(margin_mm):
    with pytest.raises(ValueError, match="margin_mm must be a number of at least 0 in mm"):
        TrimToBody(margin_mm)


def make_trimming(size: int = 24) -> Compose:
    return Compose(
        [
            load(),
            OrientSlicesd("image", "LPS"),
            TrimToBodyd("image", 2.5),
            ResampleInPlaned("image", 1.25),
            ResizeWithPadOrCropd("image", (size, size, -1)),
        ]
    )


@pytest.mark.parametrize("where", [(6, 7, 6), (0, 0, 0)], ids=["in the body", "outside"])
def test_labels_are_trimmed_like_their_image(tmp_path, caplog, where):
    affine = make_affine((1.5, 1.0, 8.0), (1, 0, 2), (-1, 1, -1))
    label = np.zeros((20, 18, 12), np.uint8)
    label[tuple(slice(start, start + 2) for start in where)] = 1
    image = make_body() + 100 * label * (where[0] > 0)
    data = {"image": save(tmp_path / "a.nii", image, affine), "label": save(tmp_path / "a_gt.nii", label, affine)}
    label_steps = [
        load("label"),
        MatchLabeld("label", "image", range(2)),
        OrientSlicesd("label", "LPS"),
        RepeatTrimd("label", "image"),
        ResampleInPlaned("label", 1.25, "nearest"),
        ResizeWithPadOrCropd("label", (24, 24, -1)),
    ]
    with caplog.at_level("WARNING"):
        data = Compose(label_steps)(make_trimming()(data))
    assert data["label"].shape == data["image"].shape
    assert torch.allclose(data["label"].affine, data["image"].affine)
    if where[0] > 0:
        assert data["label"].sum() > 0 and data["image"][data["label"] > 0].min() > 130 and not caplog.text
    else:
        assert data["label"].sum() == 0
        assert f"{tmp_path / 'a_gt.nii'} loses 8 labelled voxels, which lie outside the body" in caplog.text


def test_labels_of_images_that_were_not_trimmed_stay_as_they_are(tmp_path):
    data = make_preprocessing()({"image": save(tmp_path / "a.nii.gz", noise((20, 16, 3)))})
    label = MetaTensor(torch.ones(1, 20, 16, 3))
    assert RepeatTrimd("label", "image")({**data, "label": label})["label"] is label


@pytest.mark.parametrize("degrees", [(0.0, 0.0, 0.0), (20.0, -15.0, 25.0)], ids=["aligned", "oblique"])
def test_predictions_return_from_a_trimmed_volume(tmp_path, degrees):
    preprocessing = make_trimming()
    for permutation, signs in ALIGNED[::7]:
        affine = make_affine((1.5, 1.0, 1.2), permutation, signs, degrees)
        volume = make_body()
        image = preprocessing({"image": save(tmp_path / "a.nii", volume, affine)})["image"]
        here = torch.as_tensor(world(image.affine.numpy(), image.shape[1:]), dtype=torch.float32).permute(3, 0, 1, 2)
        restored = invert(preprocessing, image, torch.cat([here, torch.ones_like(image.as_tensor())]))
        assert np.allclose(restored.affine.numpy(), affine)
        # The body is within the margin, so that no interpolation with what was cut off reaches it.
        body = volume > 50
        assert np.allclose(restored[3].numpy()[body], 1)
        found = restored[:3].permute(1, 2, 3, 0).numpy()
        assert np.allclose(found[body], world(affine, volume.shape)[body], atol=2e-2)
        assert (restored[3] == 0).sum() > 1000


# ---- ResampleInPlane


@pytest.mark.parametrize(
    ("spacing", "target", "size"),
    [
        ((1.5, 1.5, 8.0), 1.36719, (26, 23, 3)),
        ((1.0, 2.0, 8.0), 1.36719, (18, 31, 3)),
        ((1.5, 1.5, 8.0), (3.0, 1.5), (12, 21, 3)),
        ((1.5, 1.5, 8.0), 1.5, (24, 21, 3)),
        ((0.01, 1.5, 8.0), 1.5, (1, 21, 3)),
    ],
    ids=["finer", "mixed", "two targets", "same", "never empty"],
)
def test_size_and_affine_of_the_new_grid(spacing, target, size):
    affine = make_affine(spacing, (1, 0, 2), (-1, 1, 1), (10.0, 20.0, 30.0))
    positions = world(affine, (24, 21, 3))
    volume = MetaTensor(torch.as_tensor(positions, dtype=torch.float32).permute(3, 0, 1, 2), affine=affine)
    resampled = ResampleInPlane(target)(volume)
    assert tuple(resampled.shape[1:]) == size
    new_spacing = np.linalg.norm(resampled.affine.numpy()[:3, :3], axis=0)
    assert np.allclose(new_spacing, np.multiply(spacing, (24, 21, 3)) / size)
    # Corners of the field of view stay where they were.
    for corner in itertools.product((0, 1), repeat=3):
        old = affine @ [*(c * n - 0.5 for c, n in zip(corner, (24, 21, 3), strict=True)), 1]
        new = resampled.affine.numpy() @ [*(c * n - 0.5 for c, n in zip(corner, size, strict=True)), 1]
        assert np.allclose(old, new)


@pytest.mark.parametrize("target", [1.1, 1.9], ids=["up", "down"])
def test_images_lie_where_the_affine_says(target):
    # World coordinates are linear, which neither interpolation nor a symmetric smoothing changes off the border.
    affine = make_affine((1.5, 1.5, 8.0), (0, 1, 2), (-1, -1, 1))
    positions = world(affine, (40, 36, 3))
    volume = MetaTensor(torch.as_tensor(positions, dtype=torch.float32).permute(3, 0, 1, 2), affine=affine)
    resampled = ResampleInPlane(target)(volume)
    expected = world(resampled.affine.numpy(), resampled.shape[1:])
    inner = (slice(4, -4), slice(4, -4), slice(None))
    assert np.allclose(resampled.permute(1, 2, 3, 0).numpy()[inner], expected[inner], atol=1e-3)


def bilinear_in_plane(image: np.ndarray, size) -> np.ndarray:
    """Half-pixel centres, edges repeated, axis by axis."""
    for axis, length in enumerate(size):
        at = np.clip((np.arange(length) + 0.5) * image.shape[axis] / length - 0.5, 0, image.shape[axis] - 1)
        low = np.minimum(np.floor(at).astype(int), image.shape[axis] - 2)
        weight = (at - low).reshape([-1 if i == axis else 1 for i in range(3)])
        image = np.take(image, low, axis) * (1 - weight) + np.take(image, low + 1, axis) * weight
    return image


def smooth_in_plane(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian integrated over each pixel, zeros beyond the border."""
    edges = (np.arange(-4, 6) - 0.5) / (sigma * np.sqrt(2))
    kernel = np.diff(erf(edges)) / 2
    return convolve1d(convolve1d(image, kernel, 0, mode="constant"), kernel, 1, mode="constant")


@pytest.mark.parametrize(("target", "sigma"), [(3.0, 0.5), (4.5, 1.0)], ids=str)
def test_shrinking_images_are_smoothed_in_plane_only(target, sigma):
    image = noise((24, 18, 3))
    image[:, :, 1] *= 100  # would show up in its neighbours
    volume = MetaTensor(torch.as_tensor(image)[None], affine=torch.as_tensor(make_affine((1.5, 1.5, 1.0))))
    resampled = ResampleInPlane(target)(volume)[0].numpy()
    expected = bilinear_in_plane(smooth_in_plane(image, sigma), (round(36 / target), round(27 / target)))
    assert np.allclose(resampled, expected, rtol=1e-3)


@pytest.mark.parametrize("voxels", [1, 2000, 2**22], ids=["slice by slice", "some slices", "at once"])
def test_blocks_of_slices_give_what_monai_gives_for_all(monkeypatch, voxels):
    monkeypatch.setattr(module, "_BLOCK_VOXELS", voxels)
    volume = MetaTensor(torch.as_tensor(noise((32, 30, 7)))[None], affine=torch.as_tensor(make_affine((1.0, 2.0, 3.0))))
    resampled = ResampleInPlane(1.5)(volume)
    expected = Resize((21, 40, -1), mode="trilinear", anti_aliasing=True)(volume)
    assert torch.equal(resampled.as_tensor(), expected.as_tensor())
    assert np.array_equal(volume[0].numpy(), noise((32, 30, 7)))


def test_growing_images_are_not_smoothed():
    image = noise((24, 20, 3))
    volume = MetaTensor(torch.as_tensor(image)[None], affine=torch.as_tensor(make_affine((1.5, 1.5, 8.0))))
    assert np.allclose(ResampleInPlane(1.0)(volume)[0], bilinear_in_plane(image, (36, 30)), rtol=1e-5)


@pytest.mark.parametrize("target", [1.1, 2.9], ids=["up", "down"])
def test_labels_take_the_nearest_voxel(target):
    label = np.random.default_rng(0).integers(0, 4, (24, 21, 3)).astype(np.float32)
    volume = MetaTensor(torch.as_tensor(label)[None], affine=torch.as_tensor(make_affine((1.5, 1.5, 8.0))))
    resampled = ResampleInPlane(target, "nearest")(volume)[0].numpy()
    size = resampled.shape
    nearest = [np.floor((np.arange(m) + 0.5) * n / m).astype(int) for n, m in zip(label.shape, size, strict=True)]
    assert np.array_equal(resampled, label[np.ix_(*nearest)])


def test_each_key_has_its_mode():
    label = MetaTensor(torch.randint(0, 2, (1, 9, 9, 2)).float() * 3, affine=torch.as_tensor(make_affine((1, 1, 5))))
    data = {"image": label.clone(), "label": label}
    data = ResampleInPlaned(["image", "label"], 0.7, ["bilinear", "nearest"])(data)
    assert set(data["label"].unique().tolist()) == {0, 3}
    assert len(data["image"].unique()) > 2


@pytest.mark.parametrize("spacing_mm", [0, -1.0, (1.0, float("nan")), float("inf")], ids=str)
def test_target_spacing_is_checked(spacing_mm):
    with pytest.raises(ValueError, match="spacing_mm must be positive"):
        ResampleInPlane(spacing_mm)


def test_mode_is_checked():
    with pytest.raises(ValueError, match="mode must be one of .*'nearest'.*got 'cubic'"):
        ResampleInPlaned("image", 1.0, "cubic")


# ---- the whole preprocessing and back


@pytest.mark.parametrize("degrees", [(0.0, 0.0, 0.0), *ROTATIONS], ids=str)
@pytest.mark.parametrize("size", [16, 25], ids=["crop", "pad"])
def test_predictions_return_to_the_grid_of_the_file(tmp_path, degrees, size):
    preprocessing = make_preprocessing(spacing=1.25, size=size)
    for case, (permutation, signs) in enumerate(ALIGNED[::5] if any(degrees) else ALIGNED[size % 2 :: 2]):
        spacing = (1.2, 1.4, 6.0) if case % 3 else (6.0, 1.2, 1.4)
        shape = (19, 22, 3) if case % 3 else (3, 19, 22)
        affine = make_affine(spacing, permutation, signs, degrees)
        positions = world(affine, shape)
        path = save(tmp_path / "a.nii", positions[..., 0].astype(np.float32), affine)
        image = preprocessing({"image": path})["image"]
        assert tuple(image.shape) == (1, size, size, 3)
        # What is predicted: where the affine says each voxel is, and that there is something.
        here = torch.as_tensor(world(image.affine.numpy(), image.shape[1:]), dtype=torch.float32).permute(3, 0, 1, 2)
        restored = invert(preprocessing, image, torch.cat([here, torch.ones_like(image.as_tensor())]))
        assert tuple(restored.shape) == (4, *shape)
        stored = nib.load(path).affine
        assert np.array_equal(restored.affine.numpy(), stored)
        assert np.array_equal(image.meta["original_affine"], stored)
        inside = np.isclose(restored[3].numpy(), 1)
        assert inside.mean() > 0.4
        border = [2 * (n > 3) for n in shape]  # where the edge is repeated; not along the slice axis
        interior = inside & np.pad(np.ones(np.subtract(shape, np.multiply(2, border)), bool), [(b, b) for b in border])
        found = restored[:3].permute(1, 2, 3, 0).numpy()[interior]
        assert np.allclose(found, positions[interior], atol=2e-2)


def test_nothing_is_predicted_outside_the_crop(tmp_path):
    preprocessing = make_preprocessing(spacing=1.5, size=10)
    image = preprocessing({"image": save(tmp_path / "a.nii.gz", noise((20, 16, 3)))})["image"]
    restored = invert(preprocessing, image, torch.ones(2, 10, 10, 3))
    expected = torch.zeros(2, 20, 16, 3)
    expected[:, 5:15, 3:13] = 1
    assert torch.equal(restored.as_tensor(), expected)


def test_batches_can_be_taken_apart_and_returned(tmp_path):
    preprocessing = make_preprocessing(spacing=1.2, size=16)
    affine = make_affine((1.2, 1.4, 6.0), (2, 0, 1), (-1, 1, 1), (5.0, 5.0, 5.0))
    paths = [save(tmp_path / f"{i}.nii", noise((15, 18, 3), i), affine) for i in range(2)]
    items = [preprocessing({"image": path}) for path in paths]
    direct = [invert(preprocessing, item["image"], item["image"].as_tensor().clone()) for item in items]
    batch = list_data_collate(items)
    batch["pred"] = batch["image"].as_tensor().clone()
    for item, expected, path in zip(decollate_batch(batch), direct, paths, strict=True):
        restored = invert(preprocessing, item["image"], item["pred"])
        assert torch.equal(restored.as_tensor(), expected.as_tensor())
        assert np.array_equal(restored.affine.numpy(), nib.load(path).affine)
        assert restored.meta["filename_or_obj"] == path


def test_metadata_and_path_items_beside_the_image_are_left_alone(tmp_path):
    # MONAI Label loads with image_only=False and keeps the path under "image_path".
    preprocessing = make_preprocessing()
    preprocessing.transforms[0]._loader.image_only = False
    path = save(tmp_path / "a.nii.gz", noise((20, 16, 3)))
    data = preprocessing({"image": path, "image_path": path})
    assert data["image_path"] == path
    assert tuple(invert(preprocessing, data["image"], data["image"].as_tensor().clone()).shape) == (1, 20, 16, 3)


def test_percentiles_are_those_of_the_whole_volume(tmp_path):
    volume = noise((20, 16, 3))
    image = make_preprocessing(1.5, 24)({"image": save(tmp_path / "a.nii.gz", volume)})["image"][0].numpy()
    low, high = np.percentile(volume, [1, 99])
    assert np.allclose(image[2:22, 4:20], (volume - low) / (high - low), atol=1e-5)
    assert image.min() < 0
    assert image.max() > 1


# ---- real volumes


def dice(found: np.ndarray, truth: np.ndarray, value: int) -> float:
    return 2 * np.sum((found == value) & (truth == value)) / (np.sum(found == value) + np.sum(truth == value))


@pytest.mark.parametrize("patient", ["patient002", "patient042", "patient087"])
def test_ground_truth_survives_the_way_there_and_back(acdc_dir, patient):
    stem = acdc_dir / "training" / patient / f"{patient}_frame01"
    data = {"image": f"{stem}.nii.gz", "label": f"{stem}_gt.nii.gz"}
    preprocessing = make_preprocessing(1.36719, 192)
    data = make_label_preprocessing(1.36719, 192)(preprocessing(data))
    assert data["image"].shape == data["label"].shape
    classes = torch.nn.functional.one_hot(data["label"][0].as_tensor().long(), 4).permute(3, 0, 1, 2).float()
    found = invert(preprocessing, data["image"], classes).argmax(0).numpy()
    truth = np.asarray(nib.load(f"{stem}_gt.nii.gz").dataobj)
    for value, least in ((1, 0.99), (2, 0.98), (3, 0.99)):
        assert dice(found, truth, value) >= least


def test_files_of_the_paper_are_not_reoriented(acdc_dir):
    path = acdc_dir / "training" / "patient002" / "patient002_frame01.nii.gz"
    loaded = load()({"image": path})["image"]
    oriented = OrientSlices("LPS")(loaded)
    assert torch.equal(oriented.as_tensor(), loaded.as_tensor())
    assert torch.equal(oriented.affine, loaded.affine)


# ---- AssumeOrientationd


def save_with_codes(path: Path, array: np.ndarray, qform: int, sform: int) -> str:
    image = nib.Nifti1Image(array, LPS_AFFINE)
    image.set_qform(LPS_AFFINE, qform)
    image.set_sform(LPS_AFFINE, sform)
    image.header["qform_code"], image.header["sform_code"] = qform, sform
    nib.save(image, path)
    assert (int(nib.load(path).header["qform_code"]), int(nib.load(path).header["sform_code"])) == (qform, sform)
    return str(path)


@pytest.mark.parametrize(("qform", "sform"), [(1, 1), (0, 1), (1, 0), (0, 0), (2, 1)], ids=str)
def test_images_and_labels_lie_alike_whatever_their_codes(tmp_path, qform, sform):
    """One array, stored with other codes in image and label, gives the same slices."""
    array = noise((9, 7, 4))
    transform = Compose(
        [
            load(),
            AssumeOrientationd("image", "LPS"),
            OrientSlicesd("image", "LPS"),
            load("label"),
            MatchLabeld("label", "image", range(2)),
            OrientSlicesd("label", "LPS"),
        ]
    )
    mask = (array > 50).astype(np.uint8)
    label = save_with_codes(tmp_path / "a_gt.nii.gz", mask, 0, 0)
    data = transform({"image": save_with_codes(tmp_path / "a.nii.gz", array, qform, sform), "label": label})
    assert np.array_equal(data["image"][0].numpy(), array)
    assert np.array_equal(data["label"][0].numpy(), mask)
    assert np.allclose(data["image"].affine.numpy()[:3, :3], LPS_AFFINE[:3, :3])
    assert np.allclose(data["label"].affine, data["image"].affine)


def test_assumed_orientation_is_said(tmp_path, caplog):
    path = save_with_codes(tmp_path / "a.nii.gz", noise((9, 7, 4)), 0, 0)
    with caplog.at_level("WARNING"):
        image = AssumeOrientationd("image", "RAS")(load()({"image": path}))["image"]
    assert f"{path} does not say how it lies; taken to be RAS" in caplog.text
    assert np.allclose(image.affine.numpy(), np.diag([1.5, 1.5, 8.0, 1.0]))
    assert np.allclose(image.meta["original_affine"], image.affine)


def test_axcodes_of_the_assumption_are_checked():
    with pytest.raises(ValueError, match="axcodes must have one letter of each pair"):
        AssumeOrientationd("image", "LPX")
