"""Volumes in memory: what the dataset holds, and how it reports files that cannot be used."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImaged, ScaleIntensityRangePercentilesd, Transform

from common.data.cache import CachedTransformd
from common.data.nifti import NiftiReader
from common.data.slices import Slices
from common.data.volumes import VolumeDataset
from common.transforms import CheckVolumed, MatchLabeld, VolumeError

SHAPE = (9, 7, 3)


class Count(Transform):
    """Counts its calls."""

    calls = 0

    def __call__(self, data):
        Count.calls += 1
        return data


@pytest.fixture(autouse=True)
def reset():
    Count.calls = 0


def make_transform(cache_dir=None, labels=True):
    preprocessing = Compose(
        [
            LoadImaged("image", NiftiReader(), ensure_channel_first=True),
            CheckVolumed("image"),
            Count(),
            ScaleIntensityRangePercentilesd("image", 1, 99, 0, 1),
        ]
    )
    steps = [CachedTransformd("image", preprocessing, cache_dir)]
    if labels:
        load_label = LoadImaged("label", NiftiReader(), ensure_channel_first=True)
        steps += [load_label, MatchLabeld("label", "image", range(3))]
    return Compose(steps)


def save(path, array):
    nibabel.save(nibabel.Nifti1Image(array, np.diag([-1, -1, 8, 1])), path)
    return str(path)


def make_items(folder, count=3):
    generator = np.random.default_rng(0)
    return [
        {
            "id": f"patient{k}",
            "image": save(folder / f"image{k}.nii.gz", generator.uniform(1, 9, SHAPE).astype(np.float32)),
            "label": save(folder / f"label{k}.nii.gz", generator.integers(0, 3, SHAPE).astype(np.uint8)),
            "weight": k / 2,
        }
        for k in range(count)
    ]


def load(items, cache_dir=None, labels=True, lazy=False):
    return VolumeDataset(items, make_transform(cache_dir, labels), num_workers=0, progress=False, lazy=lazy)


@pytest.mark.parametrize("cached", [False, True], ids=["no cache", "cache"])
def test_volumes_are_preprocessed_once_and_held(tmp_path, cached):
    items = make_items(tmp_path)
    dataset = load(items, tmp_path / "cache" if cached else None)
    assert len(dataset) == 3
    for item, volume in zip(items, dataset, strict=True):
        direct = make_transform()(item)
        assert volume["id"] == item["id"] and volume["weight"] == item["weight"]
        assert isinstance(volume["image"], MetaTensor) and volume["image"].shape == (1, *SHAPE)
        assert torch.equal(volume["image"].as_tensor(), direct["image"].as_tensor())
        assert torch.equal(volume["label"].as_tensor(), direct["label"].as_tensor())
        assert volume["image"].meta["filename_or_obj"] == item["image"]
    assert dataset[1]["image"] is dataset[1]["image"]
    assert all(isinstance(item["image"], str) for item in items)  # the datalist is left alone


def test_a_second_dataset_computes_nothing(tmp_path):
    items = make_items(tmp_path)
    first, second = load(items, tmp_path / "cache"), load(items[::-1], tmp_path / "cache")
    assert Count.calls == 0  # nothing before it is asked for
    first.prepare()
    assert Count.calls == 3
    first.prepare()
    second.prepare()
    assert Count.calls == 3
    assert [volume["id"] for volume in second] == ["patient2", "patient1", "patient0"]
    for volume, other in zip(first, reversed(list(second)), strict=True):
        assert torch.equal(volume["image"].as_tensor(), other["image"].as_tensor())


def test_a_lazy_dataset_gives_the_same_and_holds_nothing(tmp_path):
    items = make_items(tmp_path)
    held, lazy = (load(items, tmp_path / "cache", lazy=lazy) for lazy in (False, True))
    lazy.prepare()
    assert len(lazy) == 3 and Count.calls == 3  # preprocessed once
    for first, second, third in zip(held, lazy, lazy, strict=True):
        assert first["id"] == second["id"] and set(first) == set(second)
        for key in ("image", "label"):
            assert torch.equal(first[key].as_tensor(), second[key].as_tensor())
            assert second[key] is not third[key]
    assert lazy[1]["image"] is not lazy[1]["image"] and Count.calls == 3
    assert all(isinstance(item["image"], str) for item in lazy.data)


def test_a_lazy_dataset_without_a_cache_computes_each_time(tmp_path):
    lazy = load(make_items(tmp_path, 2), lazy=True)
    assert Count.calls == 0
    assert len([*lazy, *lazy]) == 4 and Count.calls == 4


def test_slices_of_a_lazy_dataset(tmp_path):
    items = make_items(tmp_path)
    held, lazy = (load(items, tmp_path / "cache", lazy=lazy) for lazy in (False, True))
    expected = Slices.from_volumes(held)
    for limit in (1.0, 0.0):
        slices = Slices.from_volumes(lazy, in_memory_gib=limit, cache_dir=tmp_path / "slices")
        images, labels = slices.take(torch.arange(9))
        assert torch.equal(images, expected.images) and torch.equal(labels, expected.labels)
        assert slices.ids == expected.ids == ["patient0", "patient1", "patient2"]


def test_without_a_cache_every_dataset_computes(tmp_path):
    items = make_items(tmp_path, 2)
    load(items).prepare()
    load(items).prepare()
    assert Count.calls == 4


def test_items_without_labels(tmp_path):
    items = [{"id": item["id"], "image": item["image"]} for item in make_items(tmp_path)]
    assert set(load(items, tmp_path / "cache", labels=False)[0]) == {"id", "image"}


@pytest.mark.parametrize("limit", [1.0, 0.0], ids=["in memory", "mapped"])
@pytest.mark.parametrize("lazy", [False, True], ids=["held", "lazy"])
@pytest.mark.parametrize("cached", [False, True], ids=["no cache", "cache"])
def test_all_unusable_files_are_reported_together(tmp_path, cached, lazy, limit):
    items = make_items(tmp_path, 6)
    items[0]["image"] = str(tmp_path / "gone.nii.gz")
    save(items[1]["image"], np.ones(SHAPE, np.float32))
    with open(items[2]["label"], "r+b") as file:
        file.truncate(40)
    items[3]["label"] = str(tmp_path / "lost.nii.gz")
    save(items[4]["label"], np.full(SHAPE, 7, np.uint8))
    with pytest.raises(VolumeError) as failure:
        dataset = load(items, tmp_path / "cache" if cached else None, lazy=lazy)
        Slices.from_volumes(dataset, in_memory_gib=limit, cache_dir=tmp_path / "slices")
    assert not (tmp_path / "slices").exists()
    first, *rest = str(failure.value).splitlines()
    assert first == "5 of 6 volumes cannot be used:"
    expected = [
        f"{tmp_path / 'gone.nii.gz'} does not exist",
        f"{items[1]['image']} has a constant intensity",
        f"{items[2]['label']} cannot be read as NIfTI",
        f"{tmp_path / 'lost.nii.gz'} does not exist",
        f"{items[4]['label']} has 1 values that are no class index: 7",
    ]
    assert len(rest) == 5
    for line, beginning in zip(rest, expected, strict=True):
        assert line.startswith(beginning)


@pytest.mark.parametrize("lazy", [False, True])
def test_unusable_files_that_are_not_required_are_left_out(tmp_path, caplog, lazy):
    items = make_items(tmp_path)
    (tmp_path / "image1.nii.gz").write_bytes(b"no volume")
    dataset = VolumeDataset(items, make_transform(), progress=False, lazy=lazy, required=False)
    assert [volume["id"] for volume in dataset] == ["patient0", "patient2"]
    assert "1 of 3 volumes cannot be used:" in caplog.text and "image1.nii.gz" in caplog.text


def test_a_failing_transform_names_the_image(tmp_path):
    def fail(data):
        raise ZeroDivisionError("by zero")

    items = make_items(tmp_path, 1)
    with pytest.raises(
        VolumeError, match=r"image0\.nii\.gz could not be preprocessed\. \(ZeroDivisionError: by zero\)"
    ):
        VolumeDataset(items, Compose([fail]), progress=False).prepare()


@pytest.mark.parametrize("progress", [True, False])
def test_progress_is_shown_if_wanted(tmp_path, capsys, progress):
    VolumeDataset(make_items(tmp_path, 1), make_transform(tmp_path / "cache"), 0, progress).prepare()
    output = capsys.readouterr().err
    assert ("Preprocessing volumes" in output, "Loading volumes" in output) == (progress, progress)


def test_interrupting_is_not_a_failure_of_a_file(tmp_path):
    def interrupt(data):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        VolumeDataset(make_items(tmp_path, 1), Compose([interrupt]), progress=False).prepare()
