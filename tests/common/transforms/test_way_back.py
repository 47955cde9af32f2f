"""The geometry of the whole preprocessing and back, on made-up and on real volumes."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import decollate_batch, list_data_collate

from common.transforms import (
    OrientSlices,
)

from .grids import (
    ALIGNED,
    ROTATIONS,
    invert,
    load,
    make_affine,
    make_label_preprocessing,
    make_preprocessing,
    noise,
    save,
    world,
)


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
