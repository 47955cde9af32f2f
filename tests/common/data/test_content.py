"""Hashes of what is in files: the same for the same voxels, however they are stored."""

from __future__ import annotations

import gzip
import logging
import shutil

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImaged

from common.data import content
from common.data.cache import CachedTransformd
from common.data.slices import Slices

VOXELS = np.arange(4 * 5 * 3, dtype=np.int16).reshape(4, 5, 3)


def write(path, voxels=VOXELS, affine=None):
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4) if affine is None else affine), path)
    return str(path)


@pytest.fixture
def original(tmp_path):
    return write(tmp_path / "original.nii.gz")


def stored_again(folder, original):
    """Return files with the same voxels."""
    (folder / "other").mkdir()
    for name, level in (("fast", 1), ("small", 9)):
        (folder / f"{name}.nii.gz").write_bytes(gzip.compress(gzip.open(original).read(), level))
    (folder / "link.nii.gz").symlink_to(original)
    scaled = nibabel.Nifti1Image(VOXELS * 0.5, np.eye(4))
    scaled.header.set_data_dtype(np.int16)
    return {
        "plain": write(folder / "plain.nii"),
        "fast": folder / "fast.nii.gz",
        "small": folder / "small.nii.gz",
        "link": folder / "link.nii.gz",
        "float32": write(folder / "a.nii.gz", VOXELS.astype(np.float32)),
        "float64": write(folder / "b.nii.gz", VOXELS.astype(np.float64)),
        "Fortran": write(folder / "c.nii.gz", np.asfortranarray(VOXELS)),
        "header": write(folder / "d.nii.gz", affine=np.diag([2.0, 2, 5, 1])),
        "channel": write(folder / "e.nii.gz", VOXELS[..., None]),
        "name": shutil.copy(original, folder / "other" / "patient.nii.gz"),
    }


def test_the_same_voxels_have_one_hash(tmp_path, original):
    hashes = {name: content.voxels_sha256(path) for name, path in stored_again(tmp_path, original).items()}
    assert set(hashes.values()) == {content.voxels_sha256(original)}, hashes


@pytest.mark.parametrize(
    "voxels",
    [VOXELS + (VOXELS == 7), VOXELS[::-1], VOXELS.reshape(5, 4, 3), VOXELS[:, :, :2]],
    ids=["one voxel", "flipped", "shape", "fewer"],
)
def test_other_voxels_have_another_hash(tmp_path, original, voxels):
    assert content.voxels_sha256(write(tmp_path / "other.nii.gz", voxels)) != content.voxels_sha256(original)


def load(item, keys=("image", "label")):
    return LoadImaged([key for key in keys if key in item], ensure_channel_first=True)(item)


def test_content_of_volumes(tmp_path, original):
    label = write(tmp_path / "label.nii.gz", (VOXELS > 9).astype(np.uint8))
    both, image = load({"id": "a", "image": original, "label": label}), load({"image": original})
    predicted = {**image, "label": torch.zeros(1, 4, 5, 3)}
    image_hash, label_hash = content.voxels_sha256(original), content.voxels_sha256(label)
    assert content.of_volumes([both, image, predicted]) == [
        ("a", image_hash, label_hash, original),
        ("original", image_hash, None, original),  # without an id it is called like its file
        ("original", image_hash, None, original),  # what a network predicted is no file's content
    ]


def test_a_hash_that_the_reader_has_left_is_taken(original):
    volume = MetaTensor(torch.zeros(1, 4, 5, 3), meta={"filename_or_obj": original, content.VOXELS_HASH: "abc"})
    assert content.of_volume({"image": volume}).image == "abc"


def test_volumes_that_are_no_files_have_no_content():
    assert content.of_volumes([{"image": torch.zeros(1, 4, 5, 3)}]) == []


@pytest.mark.parametrize("in_memory_gib", [1, 0])
def test_slices_know_the_content_of_their_volumes(tmp_path, original, in_memory_gib):
    cached = CachedTransformd("image", Compose([LoadImaged("image", ensure_channel_first=True)]), tmp_path / "cache")
    for _ in range(2):  # computed, and from the cache
        volumes = [Compose([cached])({"id": "a", "image": original})]
        slices = Slices.from_volumes(volumes, in_memory_gib=in_memory_gib, progress=False)
        assert slices.content == [("a", content.voxels_sha256(original), None, original)]


def test_files_that_cannot_be_read_are_named(tmp_path, original, caplog):
    (tmp_path / "bad.nii.gz").write_bytes(b"no image")
    items = [{"id": "good", "image": original}, {"id": "bad", "image": str(tmp_path / "bad.nii.gz")}]
    with caplog.at_level(logging.WARNING):
        found = content.of_files(items, progress=False)
    assert [entry.id for entry in found] == ["good"]
    assert "1 of 2 volumes cannot be read" in caplog.text and str(tmp_path / "bad.nii.gz") in caplog.text


def test_short_hashes_tell_what_changed():
    one = content.Content("a", "1", "2", "")
    subsets = {"labelled": [one], "validation": [], "statistics": [one._replace(label=None)] * 3}
    short = content.short_hashes(subsets)
    assert set(short["labelled"]) == {"a"} and short["validation"] == {} and isinstance(short["statistics"], str)
    for change in ({"image": "3"}, {"label": "3"}):
        assert content.short_hashes({"labelled": [one._replace(**change)]})["labelled"] != short["labelled"]
    assert content.short_hashes({"labelled": [one._replace(path="elsewhere")]})["labelled"] == short["labelled"]
