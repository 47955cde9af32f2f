"""The box around the body, for images, labels and predictions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    ResizeWithPadOrCropd,
)

from common.transforms import (
    MatchLabeld,
    OrientSlicesd,
    ResampleInPlaned,
    TrimLikeImaged,
    TrimToBody,
    TrimToBodyd,
)

from .grids import (
    ALIGNED,
    invert,
    load,
    make_affine,
    make_preprocessing,
    noise,
    save,
    world,
)


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
        TrimLikeImaged("label", "image"),
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
    assert TrimLikeImaged("label", "image")({**data, "label": label})["label"] is label


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
