from __future__ import annotations

import errno
import gzip
import hashlib
import importlib.metadata
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor, PersistentDataset, decollate_batch, list_data_collate
from monai.transforms import (
    Compose,
    Invertd,
    Lambdad,
    LoadImaged,
    MapTransform,
    RandFlipd,
    ResizeWithPadOrCropd,
    ScaleIntensityRangePercentilesd,
    Transform,
)

from common.data.cache import CachedTransformd, fill_cache, fingerprint, prepare
from common.data.failures import describe_failure
from common.data.nifti import NiftiReader
from common.data.volume_files import DatasetError
from common.transforms import CheckVolumed, N4BiasFieldCorrectiond, OrientSlicesd, ResampleInPlaned, VolumeError

REPOSITORY = Path(__file__).resolve().parents[3]
AFFINE = np.array([[0, 0.3, 7.9, 5], [-1.4, 0.1, 0.2, -6], [0.1, 1.3, -1.0, 7], [0, 0, 0, 1]])


def make_preprocessing(spacing: float = 1.0, size: int = 20, n4: bool = False) -> Compose:
    return Compose(
        [
            LoadImaged(keys="image", reader=NiftiReader(), ensure_channel_first=True),
            CheckVolumed(keys="image"),
            OrientSlicesd(keys="image", axcodes="LPS"),
            *([N4BiasFieldCorrectiond(keys="image")] if n4 else []),
            ScaleIntensityRangePercentilesd(keys="image", lower=1, upper=99, b_min=0, b_max=1, clip=False),
            ResampleInPlaned(keys="image", spacing_mm=spacing),
            ResizeWithPadOrCropd(keys="image", spatial_size=(size, size, -1)),
        ]
    )


def make_cached(folder: Path | None) -> CachedTransformd:
    return CachedTransformd(keys="image", transform=make_preprocessing(), cache_dir=folder)


def save(path: Path, seed: int = 0, shape=(13, 18, 3)) -> str:
    volume = np.random.default_rng(seed).uniform(10, 100, shape).astype(np.float32)
    nib.save(nib.Nifti1Image(volume, AFFINE), path)
    return str(path)


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*"))


def invert(transform, image: MetaTensor) -> MetaTensor:
    inverter = Invertd(keys="pred", transform=transform, orig_keys="image", nearest_interp=False)
    return inverter({"image": image, "pred": MetaTensor(image.as_tensor().clone())})["pred"]


class Marker(Transform):
    """Counts its calls, and fails or waits if told so."""

    calls = 0

    def __init__(self, wait: float = 0.0, **parameters):
        self.wait = wait
        self.parameters = parameters

    def __call__(self, data):
        Marker.calls += 1
        time.sleep(self.wait)
        return data


def make_counting(folder: Path | None, wait: float = 0.0) -> CachedTransformd:
    Marker.calls = 0
    transform = Compose([*make_preprocessing().transforms, Marker(wait)])
    return CachedTransformd(keys="image", transform=transform, cache_dir=folder)


def run_python(code: str, **environment: str) -> str:
    completed = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return completed.stdout.strip().splitlines()[-1]


# ---- fingerprint


def test_fingerprint_is_the_same_for_equal_transforms():
    first = fingerprint(make_preprocessing(n4=True))
    assert len(first) == 64
    assert first == fingerprint(make_preprocessing(n4=True))


def test_fingerprint_ignores_use_and_random_state(tmp_path):
    preprocessing = make_preprocessing()
    before = fingerprint(preprocessing)
    preprocessing.set_random_state(7)
    preprocessing({"image": save(tmp_path / "a.nii.gz")})
    assert fingerprint(preprocessing) == before


def named_function(x):
    return x


def other_function(x):
    return x


class OtherMarker(Marker):
    pass


DIFFERENT = {
    "spacing": (make_preprocessing(1.0), make_preprocessing(1.1)),
    "size": (make_preprocessing(size=20), make_preprocessing(size=21)),
    "another step": (make_preprocessing(), make_preprocessing(n4=True)),
    "private array transform": (N4BiasFieldCorrectiond("image"), N4BiasFieldCorrectiond("image", shrink=(2, 2, 1))),
    "class": (Marker(), OtherMarker()),
    "order": (Marker(a=[1, 2]), Marker(a=[2, 1])),
    "type": (Marker(a=1), Marker(a=1.0)),
    "bool": (Marker(a=1), Marker(a=True)),
    "string": (Marker(a="1"), Marker(a=1)),
    "none": (Marker(a=None), Marker(a="None")),
    "nesting": (Marker(a=[1, [2]]), Marker(a=[[1], 2])),
    "name": (Marker(a=1), Marker(b=1)),
    "dtype": (Marker(a=torch.float32), Marker(a=torch.float64)),
    "class parameter": (Marker(a=np.float32), Marker(a=np.float64)),
    "device": (Marker(a=torch.device("cpu")), Marker(a=torch.device("cuda:0"))),
    "array": (Marker(a=np.array([1.0, 2.0])), Marker(a=np.array([1.0, 3.0]))),
    "array shape": (Marker(a=np.zeros((2, 3))), Marker(a=np.zeros((3, 2)))),
    "tensor": (Marker(a=torch.tensor([1, 2])), Marker(a=torch.tensor([1, 3]))),
    "function": (Marker(a=named_function), Marker(a=other_function)),
    "partial": (Marker(a=partial(named_function, 1)), Marker(a=partial(named_function, 2))),
    "enum": (Marker(a=signal.SIGINT), Marker(a=signal.SIGTERM)),
    "set": (Marker(a={1, 2}), Marker(a={1, 3})),
}


@pytest.mark.parametrize("case", DIFFERENT, ids=str)
def test_fingerprint_differs_with(case):
    first, second = DIFFERENT[case]
    assert fingerprint(first) != fingerprint(second)


@pytest.mark.parametrize(
    ("first", "second"),
    [([1, 2], (1, 2)), ({"a": 1, "b": 2}, {"b": 2, "a": 1}), ({3, 1, 2}, {1, 2, 3})],
    ids=["list and tuple", "order of a mapping", "order of a set"],
)
def test_fingerprint_is_equal_for(first, second):
    assert fingerprint(Marker(a=first)) == fingerprint(Marker(a=second))


@pytest.mark.parametrize("name", ["monai", "itk-filtering"])
def test_fingerprint_differs_with_the_version_of(name, monkeypatch):
    before = fingerprint(Marker())
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda each: "0.0" if each == name else real(each))
    assert fingerprint(Marker()) != before


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (Marker(a=lambda x: x), "made of .* got <function"),
        (Lambdad(keys="image", func=lambda x: x), "made of .* got <function"),
        (Marker(a=object()), "made of .*, got <object object"),
        (Marker(a=np.array([object()])), "made of .*, got array"),
        (Compose([RandFlipd("image", prob=0.5)]), "deterministic to be cached, got monai.*RandFlipd"),
    ],
    ids=["lambda", "Lambdad", "object", "object array", "random"],
)
def test_fingerprint_refuses(transform, message):
    with pytest.raises(TypeError, match=f"transform must be {message}"):
        fingerprint(transform)


# ---- one volume


def assert_same(volume: MetaTensor, other: MetaTensor) -> None:
    assert torch.equal(volume.as_tensor(), other.as_tensor())
    assert volume.dtype == other.dtype == torch.float32
    assert torch.equal(volume.affine, other.affine)
    assert set(volume.meta) == set(other.meta)
    assert np.array_equal(volume.meta["original_affine"], other.meta["original_affine"])
    assert np.array_equal(volume.meta["spatial_shape"], other.meta["spatial_shape"])


def test_a_volume_is_computed_once(tmp_path):
    path = save(tmp_path / "a.nii.gz")
    cached = make_counting(tmp_path / "deep" / "cache")
    direct = make_preprocessing()({"image": path})["image"]
    volumes = [cached({"image": path, "id": 7}) for _ in range(3)]
    assert Marker.calls == 1
    for item in volumes:
        assert item["id"] == 7
        assert torch.equal(item["image"].as_tensor(), direct.as_tensor())
        assert torch.equal(item["image"].affine, direct.affine)
        assert_same(item["image"], volumes[0]["image"])
        assert item["image"].meta["filename_or_obj"] == path
        for key in ("original_affine", "spatial_shape", "pixdim"):
            assert isinstance(item["image"].meta[key], np.ndarray)
            assert np.array_equal(item["image"].meta[key], direct.meta[key])
    assert make_cached(tmp_path / "deep" / "cache").key == "image"


def test_entries_are_small_and_safe_to_load(tmp_path):
    cached = make_cached(tmp_path / "cache")
    path = save(tmp_path / "a.nii.gz", shape=(60, 3, 50))
    cached({"image": path})
    assert entries(tmp_path / "cache") == [cached.entry_path(path)]
    entry = torch.load(cached.entry_path(path), weights_only=True)
    assert set(entry) == {"volume", "meta", "applied_operations"}
    # The crop was a view of the resampled volume, which has more than ten times as many voxels.
    assert cached.entry_path(path).stat().st_size < 4 * entry["volume"].numel() * 4


def test_without_a_folder_nothing_is_stored_and_nothing_else_differs(tmp_path):
    path = save(tmp_path / "a.nii.gz")
    without = make_counting(None)
    first, second = (without({"image": path})["image"] for _ in range(2))
    assert Marker.calls == 2
    assert without.entry_path(path) is None
    assert_same(first, second)
    assert_same(first, make_cached(tmp_path / "cache")({"image": path})["image"])
    fill_cache([path], without)
    assert Marker.calls == 2


def test_what_cannot_be_fingerprinted_still_runs_without_a_folder():
    transform = Compose([Marker(a=lambda x: x)])
    assert CachedTransformd("image", transform, None).cache_dir is None
    with pytest.raises(TypeError, match="named functions"):
        CachedTransformd("image", transform, "cache").entry_path("a.nii.gz")


def test_the_file_name_is_that_of_the_moment(tmp_path):
    cached = make_counting(tmp_path / "cache")
    old = save(tmp_path / "old.nii.gz")
    cached({"image": old})
    new = Path(old).rename(tmp_path / "new.nii.gz")
    assert cached({"image": new})["image"].meta["filename_or_obj"] == str(new)
    assert Marker.calls == 1


def test_a_changed_file_or_parameter_is_computed_again(tmp_path):
    path = save(tmp_path / "a.nii", seed=0)
    first = make_cached(tmp_path / "cache")({"image": path})["image"]
    save(tmp_path / "a.nii", seed=1)
    assert not torch.equal(make_cached(tmp_path / "cache")({"image": path})["image"].as_tensor(), first.as_tensor())
    other = CachedTransformd("image", make_preprocessing(size=18), tmp_path / "cache")
    assert other({"image": path})["image"].shape[1] == 18
    assert len(entries(tmp_path / "cache")) == 3


def truncate(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [truncate, flip, lambda content: b"", lambda content: b"x" * 100],
    ids=["cut short", "changed", "empty", "nonsense"],
)
def test_a_damaged_entry_is_computed_again_with_a_warning(tmp_path, caplog, damage):
    path = save(tmp_path / "a.nii.gz")
    cached = make_counting(tmp_path / "cache")
    expected = cached({"image": path})["image"]
    entry_path = cached.entry_path(path)
    entry_path.write_bytes(damage(entry_path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert_same(cached({"image": path})["image"], expected)
    assert f"Cannot read {entry_path}" in caplog.text
    assert Marker.calls == 2
    assert_same(cached({"image": path})["image"], expected)
    assert Marker.calls == 2


def test_why_it_is_not_the_dataset_of_monai(tmp_path):
    """MONAI's takes our hashes, but computes its own entries again every time, and fails on one that was cut short."""
    items = [{"image": save(tmp_path / "a.nii.gz")}]
    dataset = PersistentDataset(
        items,
        make_preprocessing(),
        tmp_path / "monai",
        hash_func=lambda item: hashlib.sha256(Path(item["image"]).read_bytes()).hexdigest().encode(),
        hash_transform=lambda transforms: fingerprint(Compose(transforms)).encode(),
        track_meta=True,
    )
    dataset[0]
    with pytest.warns(UserWarning, match="Corrupt cache file detected: .* Deleting and recomputing"):
        dataset[0]
    (entry_path,) = (tmp_path / "monai").iterdir()
    entry_path.write_bytes(truncate(entry_path.read_bytes()))
    with pytest.raises((OSError, RuntimeError)):
        dataset[0]


def test_a_foreign_file_in_place_of_an_entry_is_replaced(tmp_path, caplog):
    path = save(tmp_path / "a.nii.gz")
    cached = make_counting(tmp_path / "cache")
    cached.cache_dir.mkdir()
    torch.save({"volume": torch.zeros(1)}, cached.entry_path(path))
    cached({"image": path})
    assert "KeyError" in caplog.text
    assert Marker.calls == 1


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    path = save(tmp_path / "a.nii.gz")
    cached = make_cached(tmp_path / "cache")

    def interrupted(target, content):
        target.write_text("half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cached({"image": path})
    assert entries(tmp_path / "cache") == []


def test_one_key_only():
    with pytest.raises(ValueError, match=r"keys must be a single key, got \['image', 'label'\]"):
        CachedTransformd(["image", "label"], make_preprocessing(), None)


# ---- inversion


@pytest.mark.parametrize("wrapping", ["preprocessing", "cached", "composed"])
@pytest.mark.parametrize("reloaded", [False, True], ids=["computed", "reloaded"])
def test_predictions_return_to_the_grid_of_the_file(tmp_path, wrapping, reloaded):
    path = save(tmp_path / "a.nii.gz")
    preprocessing = make_preprocessing()
    expected = invert(preprocessing, preprocessing({"image": path})["image"])
    cached = make_cached(tmp_path / "cache")
    if reloaded:
        cached({"image": path})
        cached = make_cached(tmp_path / "cache")
    image = cached({"image": path})["image"]
    transforms = {"preprocessing": make_preprocessing(), "cached": cached, "composed": Compose([cached])}
    for _ in range(2):  # the trace of the image must survive
        restored = invert(transforms[wrapping], image)
        assert torch.equal(restored.as_tensor(), expected.as_tensor())
        assert np.array_equal(restored.affine.numpy(), nib.load(path).affine)
        assert tuple(restored.shape) == (1, 13, 18, 3)
        assert restored.meta["filename_or_obj"] == path


def test_batches_from_the_cache_can_be_taken_apart_and_returned(tmp_path):
    cached = make_cached(tmp_path / "cache")
    paths = [save(tmp_path / f"{seed}.nii.gz", seed) for seed in range(2)]
    cached({"image": paths[0]})
    batch = list_data_collate([cached({"image": path}) for path in paths])  # one read, one computed
    for item, path in zip(decollate_batch(batch), paths, strict=True):
        restored = invert(cached, item["image"])
        assert np.array_equal(restored.affine.numpy(), nib.load(path).affine)
        assert restored.meta["filename_or_obj"] == path


def test_another_process_finds_and_inverts_the_entry(tmp_path):
    path = save(tmp_path / "a.nii.gz")
    cached = make_cached(tmp_path / "cache")
    expected = invert(cached, cached({"image": path})["image"])
    code = f"""
import torch
from tests.common.data.test_cache import *
cached = make_counting(Path({str(tmp_path / "cache")!r}))
cached = CachedTransformd("image", make_preprocessing(), cached.cache_dir)
image = cached({{"image": {path!r}}})["image"]
restored = invert(make_preprocessing(), image)
torch.save([restored.as_tensor(), restored.affine], {str(tmp_path / "out.pt")!r})
parameters = dict(a={{"x", "y", "z"}}, b={{"k": named_function}})
print(fingerprint(Compose([*make_preprocessing(n4=True).transforms, Marker(**parameters)])))
"""
    parameters = {"a": {"x", "y", "z"}, "b": {"k": named_function}}
    here = fingerprint(Compose([*make_preprocessing(n4=True).transforms, Marker(**parameters)]))
    assert run_python(code, PYTHONHASHSEED="1" if os.environ.get("PYTHONHASHSEED") != "1" else "2") == here
    assert len(entries(tmp_path / "cache")) == 1
    restored, affine = torch.load(tmp_path / "out.pt", weights_only=True)
    assert torch.equal(restored, expected.as_tensor())
    assert torch.equal(affine, expected.affine)


# ---- many volumes


class NoteThreads(MapTransform):
    """Replaces the volume by the numbers of threads in use."""

    def __call__(self, data):
        d = dict(data)
        itk_threads = float(os.environ.get("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", 0))
        for key in self.key_iterator(d):
            d[key] = MetaTensor(torch.tensor([torch.get_num_threads(), itk_threads, os.getpid()], dtype=torch.float64))
        return d


def test_missing_entries_are_computed_in_processes_of_one_thread(tmp_path):
    transform = Compose([*make_preprocessing().transforms, NoteThreads("image")])
    cached = CachedTransformd("image", transform, tmp_path / "cache")
    paths = [save(tmp_path / f"{seed}.nii.gz", seed) for seed in range(4)]
    broken, missing = tmp_path / "broken.nii.gz", tmp_path / "missing.nii.gz"
    broken.write_bytes(b"nonsense")
    cached({"image": paths[0]})
    state = torch.get_rng_state()
    message = (
        r"^2 of 6 volumes cannot be preprocessed:\n.*missing.nii.gz does not exist.*\n.*broken.nii.gz cannot be read"
    )
    with pytest.raises(VolumeError, match=message):
        fill_cache([*paths, broken, missing], cached, num_workers=2, progress=False)
    assert torch.equal(torch.get_rng_state(), state)
    assert entries(tmp_path / "cache") == sorted(cached.entry_path(path) for path in paths)
    noted = torch.stack([cached({"image": path})["image"].as_tensor() for path in paths[1:]])
    assert noted[:, :2].tolist() == [[1, 1]] * 3
    assert len({os.getpid(), *noted[:, 2].tolist()}) == 3
    assert "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS" not in os.environ


def test_a_single_missing_entry_is_computed_here(tmp_path, capsys):
    cached = make_counting(tmp_path / "cache")
    paths = [save(tmp_path / f"{seed}.nii.gz", seed) for seed in range(3)]
    fill_cache(paths[:2], cached, num_workers=1)
    assert "Preprocessing volumes: 100%" in capsys.readouterr().err
    assert Marker.calls == 2
    fill_cache([*paths, paths[2]], cached, num_workers=8)
    assert Marker.calls == 3
    capsys.readouterr()
    fill_cache(paths, cached)
    assert Marker.calls == 3
    assert capsys.readouterr().err == ""


def make_datalist(paths, problem: str = ""):
    def datalist(dataset_dir):
        items = [{"id": path, "image": path} for path in paths]
        if problem:
            raise DatasetError(f"{dataset_dir}: {problem}", items)
        return items

    return datalist


@pytest.mark.parametrize("damage", [False, True], ids=["good images", "a bad image"])
@pytest.mark.parametrize("problem", ["", "a label has no image"], ids=["complete", "incomplete"])
def test_prepare_goes_on_and_says_at_the_end_what_is_wrong(tmp_path, caplog, damage, problem):
    cached = make_cached(tmp_path / "cache")
    paths = [save(tmp_path / f"{seed}.nii.gz", seed) for seed in range(3)]
    if damage:
        Path(paths[0]).write_bytes(b"")
    datalist = make_datalist(paths, problem)
    if not damage and not problem:
        with caplog.at_level("INFO"):
            prepare(datalist, "the folder", cached, num_workers=1, progress=False)
        assert f"All 3 volumes of the folder are in {tmp_path / 'cache'}." in caplog.text
    else:
        with pytest.raises(VolumeError if damage else DatasetError) as caught:
            prepare(datalist, "the folder", cached, num_workers=1, progress=False)
        assert ("1 of 3 volumes cannot be preprocessed" in str(caught.value)) == damage
        assert ("the folder: a label has no image" in str(caught.value)) == bool(problem)
    assert len(entries(tmp_path / "cache")) == 3 - damage


def test_no_room_for_the_others_is_told_after_the_first(tmp_path, monkeypatch):
    cached = make_cached(tmp_path / "cache")
    paths = [save(tmp_path / f"{seed}.nii.gz", seed) for seed in range(6)]
    cached({"image": paths[0]})
    (first,) = entries(tmp_path / "cache")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1.5 * first.stat().st_size))
    with pytest.raises(OSError, match=r"cache must have room for preprocessed volumes: .* Make room, or choose an"):
        fill_cache(paths, cached, num_workers=1, progress=False)
    assert len(entries(tmp_path / "cache")) == 2


def test_a_full_disk_is_told_once(tmp_path, monkeypatch):
    paths = [save(tmp_path / f"{seed}.nii.gz", seed) for seed in range(3)]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    message = (
        r"cache must have room for preprocessed volumes: 0\.\d\d MiB needed, 0\.00 MiB free\. Make room, or choose"
    )
    with pytest.raises(OSError, match=message):
        fill_cache(paths, make_cached(tmp_path / "cache"), num_workers=1, progress=False)
    assert entries(tmp_path / "cache") == []


def test_a_disk_that_fills_up_while_an_entry_is_written(tmp_path, monkeypatch):
    path = save(tmp_path / "a.nii.gz")
    cached = make_cached(tmp_path / "cache")

    def fill_up(target, content):
        target.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fill_up)
    with pytest.raises(OSError, match="cache must have room for preprocessed volumes"):
        cached({"image": path})
    assert entries(tmp_path / "cache") == []


@pytest.mark.slow
@pytest.mark.parametrize("to_all", [True, False], ids=["terminal", "parent only"])
def test_interrupting_ends_the_processes_and_keeps_what_is_there(tmp_path, to_all):
    for seed in range(4):
        save(tmp_path / f"{seed}.nii.gz", seed)
    code = f"""
from tests.common.data.test_cache import *
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin with it ignored
cached = make_counting(Path({str(tmp_path / "cache")!r}), wait=0.0)
paths = sorted(Path({str(tmp_path)!r}).glob("*.nii.gz"))
cached.entry_path(paths[0])  # takes the fingerprint, which is thus that of no waiting
cached.transform.transforms[-1].wait = 2.0
fill_cache(paths, cached, num_workers=2)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPOSITORY, start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and not list((tmp_path / "cache").glob("*.pt")):
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT) if to_all else process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert "KeyboardInterrupt" in stderr
    with pytest.raises(ProcessLookupError):  # soon nobody of the session is left
        for _ in range(50):
            os.killpg(process.pid, 0)
            time.sleep(0.1)
    stored = entries(tmp_path / "cache")
    assert 1 <= len(stored) < 4
    assert all(path.suffix == ".pt" for path in stored)
    cached = make_counting(tmp_path / "cache")
    fill_cache(sorted(tmp_path.glob("*.nii.gz")), cached, num_workers=1, progress=False)
    assert Marker.calls == 4 - len(stored)


# ---- describe_failure


def damaged(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def nifti_bytes(folder: Path) -> bytes:
    return Path(save(folder / "good.nii.gz", shape=(40, 40, 5))).read_bytes()


READ_FAILURES = {
    "cut short": ("bad.nii.gz", lambda good: good[: len(good) * 2 // 3], "cannot be read as NIfTI"),
    "cut in the header": ("bad.nii.gz", lambda good: good[:150], "cannot be read as NIfTI"),
    "bytes missing": ("bad.nii", lambda good: gzip.decompress(good)[:-20], "cannot be read as NIfTI"),
    "empty": ("bad.nii.gz", lambda good: b"", "cannot be read as NIfTI"),
    "text": ("bad.nii.gz", lambda good: b"hello", "cannot be read as NIfTI"),
    "compressed text": ("bad.nii.gz", lambda good: gzip.compress(b"hello" * 100), "cannot be read as NIfTI"),
    "another format": ("bad.txt", lambda good: b"hello", "cannot be read as NIfTI"),
}


@pytest.mark.parametrize("case", READ_FAILURES, ids=str)
def test_unreadable_files_are_named(tmp_path, case):
    name, damage, message = READ_FAILURES[case]
    path = damaged(tmp_path / name, damage(nifti_bytes(tmp_path)))
    with pytest.raises(RuntimeError, match="applying transform") as caught:
        make_preprocessing()({"image": path})
    described = describe_failure(caught.value, path)
    assert described.startswith(f"{path} {message}")
    assert "\n" not in described


def test_missing_files_are_named(tmp_path):
    path = tmp_path / "gone.nii.gz"
    with pytest.raises(RuntimeError) as caught:
        make_preprocessing()({"image": path})
    assert describe_failure(caught.value, path) == f"{path} does not exist. Check the path."


def test_unusable_volumes_keep_their_message(tmp_path):
    path = save(tmp_path / "4d.nii.gz", shape=(6, 5, 4, 3))
    with pytest.raises(RuntimeError) as caught:
        make_preprocessing()({"image": path})
    assert describe_failure(caught.value, "other").startswith(f"{path} must hold one 3-D volume")


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied"), ZeroDivisionError("division by zero")], ids=["system", "other"]
)
def test_other_failures_are_named_with_their_cause(tmp_path, error):
    path = save(tmp_path / "a.nii.gz")
    described = describe_failure(error, path)
    assert described == f"{path} could not be preprocessed. ({type(error).__name__}: {error})"
