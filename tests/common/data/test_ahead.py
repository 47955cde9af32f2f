"""Volumes that are preprocessed ahead: the same ones in the same order, wherever that is done, and when it is not."""

from __future__ import annotations

import os

import nibabel
import numpy as np
import pytest
import torch
from monai.data import Dataset
from monai.transforms import Compose, Invertd, Lambdad, LoadImaged, ResizeWithPadOrCropd

from common.data import ahead
from common.data.ahead import preprocess_ahead

NUMBER = 5


def note_process(volume):
    volume.meta["process"] = os.getpid()
    return volume


def make_dataset(folder, number=NUMBER, bad=()):
    items = []
    for index in range(number):
        path = folder / f"{index}.nii.gz"
        voxels = np.random.default_rng(index).integers(0, 99, (7, 6, 3)).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(voxels, np.diag([1.5, 1.5, 8.0, 1.0])), path)
        items.append({"id": str(index), "image": str(path)})
    for index in bad:
        (folder / f"{index}.nii.gz").write_bytes(b"no volume")
    transform = Compose(
        [
            LoadImaged("image", ensure_channel_first=True),
            Lambdad("image", note_process),
            ResizeWithPadOrCropd("image", (8, 4, -1)),
        ]
    )
    return Dataset(items, transform)


def processes(volumes):
    return [volume["image"].meta["process"] for volume in volumes if not isinstance(volume, str)]


def test_another_process_gives_the_same_volumes_in_the_same_order(tmp_path):
    dataset = make_dataset(tmp_path, bad=[1])
    here, there = (list(preprocess_ahead(dataset, workers)) for workers in (0, 1))  # each takes seconds to start
    assert set(processes(here)) == {os.getpid()}
    assert len(set(processes(there))) == 1 and os.getpid() not in processes(there)
    back = Invertd("image", dataset.transform, "image")
    for index, (one, other) in enumerate(zip(here, there, strict=True)):
        if index == 1:
            assert one == other and one.startswith(str(tmp_path / "1.nii.gz"))
            continue
        assert one["id"] == other["id"] == str(index)
        assert torch.equal(one["image"].as_tensor(), other["image"].as_tensor())
        assert torch.equal(one["image"].affine, other["image"].affine)
        assert torch.equal(back(one)["image"].as_tensor(), back(other)["image"].as_tensor())


class Loader:
    """Takes the place of the loader, whose processes would take seconds to start; notes how many were wanted."""

    wanted: list[int]

    def __init__(self, dataset, sampler, num_workers, **_):
        self.contents = [dataset[index] for index in sampler]
        Loader.wanted.append(num_workers)

    def __iter__(self):
        return iter(self.contents)


@pytest.fixture
def wanted(monkeypatch):
    Loader.wanted = []
    monkeypatch.setattr(ahead, "DataLoader", Loader)
    monkeypatch.setattr(ahead, "unguarded_script", lambda: None)
    return Loader.wanted


@pytest.mark.parametrize(
    ("seconds", "number", "cores", "workers"),
    [
        (8.0, 5, 4, [3]),  # three are left, 24 s one after another
        (8.0, 5, 2, [2]),
        (8.0, 5, 1, []),
        (8.0, 3, 4, []),  # one is left
        (0.1, 5, 4, []),  # it takes longer to start processes
        (8.0, 1, 4, []),
        (8.0, 0, 4, []),
    ],
)
def test_processes_are_started_where_they_save_time(tmp_path, monkeypatch, wanted, seconds, number, cores, workers):
    clock = iter(np.arange(0, 1000, seconds))
    monkeypatch.setattr(ahead.time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(ahead, "num_cores", lambda: cores)
    volumes = list(preprocess_ahead(make_dataset(tmp_path, number)))
    assert [volume["id"] for volume in volumes] == [str(index) for index in range(number)]
    assert wanted == workers


def test_a_script_that_new_processes_would_run_again_starts_none(tmp_path, monkeypatch, wanted):
    monkeypatch.setattr(ahead, "START_UP_SECONDS", 0.0)
    monkeypatch.setattr(ahead, "num_cores", lambda: 4)
    monkeypatch.setattr(ahead, "unguarded_script", lambda: "script.py")
    assert len(list(preprocess_ahead(make_dataset(tmp_path)))) == NUMBER and wanted == []


def test_nothing_is_preprocessed_before_it_is_asked_for(tmp_path):
    dataset = make_dataset(tmp_path, 3)
    volumes = preprocess_ahead(dataset, 0)
    (tmp_path / "1.nii.gz").unlink()
    assert next(volumes)["id"] == "0"
    assert next(volumes) == f"{tmp_path / '1.nii.gz'} does not exist. Check the path."
