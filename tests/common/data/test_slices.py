"""Slices of volumes: in memory and in a memory-mapped file, which give the same."""

from __future__ import annotations

import errno
import platform
import re
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import common.data.slices as slices_module
from common.data.slice_store import StoreShape
from common.data.slices import MappedSlices, Slices
from common.transforms.labelled_slices import LABELLED_SLICES


def volume(depth, value, label=None):
    image = torch.full((1, 4, 6, depth), float(value)) + torch.arange(depth) / 100
    return {"image": image} if label is None else {"image": image, "label": torch.full((1, 4, 6, depth), float(label))}


def photograph(seed):
    generator = torch.Generator().manual_seed(seed)
    return {"image": torch.randint(256, (3, 4, 6, 1), dtype=torch.uint8, generator=generator)}


@pytest.mark.parametrize("in_memory_gib", [1.0, 0.0], ids=["in memory", "in a file"])
def test_photographs_keep_their_8_bits_and_batches_have_a_unit_range(tmp_path, in_memory_gib):
    photographs = [photograph(seed) for seed in range(5)]
    slices = Slices.from_volumes(photographs, in_memory_gib=in_memory_gib, cache_dir=tmp_path)
    assert slices.images.dtype == torch.uint8 and slices.images.shape == (5, 3, 4, 6)
    stored = torch.stack([photograph["image"][..., 0] for photograph in photographs])
    assert torch.equal(slices.images, stored)
    indices = torch.tensor([4, 0, 0])
    images, labels = slices.take(indices)
    assert labels is None and images.dtype == torch.float32 and torch.equal(images, stored[indices] / 255)
    assert [path.stat().st_size for path in tmp_path.iterdir()] == ([] if in_memory_gib else [5 * 3 * 4 * 6])


def test_slices_keep_the_order_of_volumes_and_levels():
    slices = Slices.from_volumes([volume(3, 1, label=2), volume(2, 5, label=3)])
    assert slices.images.shape == (5, 1, 4, 6) and slices.labels.shape == (5, 4, 6)
    assert slices.images[:, 0, 0, 0].tolist() == pytest.approx([1.0, 1.01, 1.02, 5.0, 5.01])
    assert slices.labels[:, 0, 0].tolist() == [2, 2, 2, 3, 3] and slices.labels.dtype == torch.uint8
    assert slices.starts.tolist() == [0, 3, 5] and slices.num_volumes == 2 and len(slices) == 5


def test_in_plane_axes_are_not_transposed():
    image = torch.rand(1, 4, 6, 2)
    assert torch.equal(Slices.from_volumes([{"image": image}]).images[1, 0], image[0, :, :, 1])


def test_ids():
    assert Slices.from_volumes([{"id": "patient007", **volume(3, 1)}, volume(2, 1)]).ids == ["patient007", "volume 1"]
    assert Slices(torch.zeros(5, 1, 4, 6), None, torch.tensor([0, 3, 5])).ids == ["volume 0", "volume 1"]


def test_unlabelled():
    assert Slices.from_volumes([volume(3, 1)]).labels is None


def test_no_volume():
    with pytest.raises(ValueError, match="at least one volume"):
        Slices.from_volumes([])


@pytest.mark.parametrize(
    ("volumes", "message"),
    [
        ([volume(2, 1), volume(2, 1, label=1)], r"\(4, 6, False, 1, False\) of volume 0 and \(4, 6, True, 1"),
        (
            [{"image": torch.zeros(1, 4, 6, 2)}, {"image": torch.zeros(1, 6, 4, 2), "id": "a"}],
            r"\(6, 4, False, 1, False\) of a",
        ),
        ([volume(2, 1), {"image": photograph(1)["image"][:1]}], r"\(4, 6, False, 1, True\) of volume 1"),
        ([photograph(1), {"image": photograph(1)["image"][:2]}], r"\(4, 6, False, 2, True\) of volume 1"),
    ],
    ids=["labels of some", "sizes", "8 bits", "channels"],
)
def test_volumes_that_do_not_go_together(volumes, message):
    with pytest.raises(ValueError, match=f"volumes must have slices of one size, and labels all or none.*{message}"):
        Slices.from_volumes(volumes)


# --- in a file -------------------------------------------------------------------------------------------------------

LABELLED = [volume(3, 1, label=2), volume(2, 5, label=3), volume(4, 7, label=1)]
UNLABELLED = [{"image": entry["image"]} for entry in LABELLED]


def map_slices(volumes, cache_dir, **settings):
    return Slices.from_volumes(volumes, in_memory_gib=0, cache_dir=cache_dir, progress=False, **settings)


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("volumes", [LABELLED, UNLABELLED], ids=["labelled", "unlabelled"])
@pytest.mark.parametrize("cached", [True, False], ids=["cache folder", "temporary file"])
def test_both_kinds_give_the_same(tmp_path, volumes, cached):
    memory = Slices.from_volumes(volumes)
    mapped = map_slices(volumes, tmp_path / "cache" if cached else None)
    assert isinstance(mapped, MappedSlices) and not isinstance(memory, MappedSlices)
    assert mapped.ids == memory.ids and torch.equal(mapped.starts, memory.starts)
    assert len(mapped) == len(memory) == 9 and mapped.num_volumes == 3
    indices = torch.tensor([8, 0, 3, 3])
    for kind in (memory, mapped):
        images, labels = kind.take(indices)
        assert torch.equal(images, memory.images[indices]) and images.is_contiguous()
        assert kind.device == images.device == torch.device("cpu")
        if volumes is LABELLED:
            assert labels.tolist() == memory.labels[indices].tolist() and labels.dtype == torch.uint8
        else:
            assert labels is None
    assert len(names(tmp_path / "cache")) == cached


@pytest.mark.parametrize(
    ("volumes", "kibibytes"), [(LABELLED, 9 * 4 * 6 * 5 / 2**10), (UNLABELLED, 9 * 4 * 6 * 4 / 2**10)]
)
def test_the_limit_counts_images_and_labels(tmp_path, volumes, kibibytes):
    at, below = kibibytes / 2**20, (kibibytes - 0.001) / 2**20
    assert not isinstance(Slices.from_volumes(volumes, in_memory_gib=at, cache_dir=tmp_path), MappedSlices)
    assert names(tmp_path) == []
    mapped = Slices.from_volumes(volumes, in_memory_gib=below, cache_dir=tmp_path)
    assert isinstance(mapped, MappedSlices) and len(names(tmp_path)) == 1
    assert torch.equal(mapped.images, Slices.from_volumes(volumes).images)


def test_blocks_keep_the_order(monkeypatch):
    monkeypatch.setattr(slices_module, "_BLOCK_BYTES", 5 * 4 * 6 * 4 - 1)  # the first two volumes make one
    slices = Slices.from_volumes(LABELLED)
    assert slices.images[:, 0, 0, 0].tolist() == pytest.approx([1, 1.01, 1.02, 5, 5.01, 7, 7.01, 7.02, 7.03])
    assert slices.labels[:, 0, 0].tolist() == [2, 2, 2, 3, 3, 1, 1, 1, 1]


class Counting(list):
    """Counts how often it is iterated."""

    times = 0

    def __iter__(self):
        self.times += 1
        return super().__iter__()


def test_the_same_slices_are_written_once(tmp_path):
    first, second, other = Counting(LABELLED), Counting(LABELLED), Counting(UNLABELLED)
    map_slices(first, tmp_path)
    (name,) = names(tmp_path)
    written = (tmp_path / name).stat().st_mtime_ns
    assert torch.equal(map_slices(second, tmp_path).images, Slices.from_volumes(LABELLED).images)
    assert (first.times, second.times) == (2, 1)
    assert names(tmp_path) == [name] and (tmp_path / name).stat().st_mtime_ns == written
    Slices.from_volumes(first, in_memory_gib=4 * 4 * 6 * 5 / 2**30, cache_dir=tmp_path)
    assert names(tmp_path) == [name]  # whatever the limit
    map_slices(other, tmp_path)
    assert len(names(tmp_path)) == 2


def test_a_file_that_was_cut_short_is_written_again(tmp_path):
    map_slices(LABELLED, tmp_path)
    (name,) = names(tmp_path)
    with (tmp_path / name).open("r+b") as file:
        file.truncate(100)
    assert torch.equal(map_slices(LABELLED, tmp_path).images, Slices.from_volumes(LABELLED).images)


def test_a_file_in_use_can_be_deleted(tmp_path):
    mapped = map_slices(LABELLED, tmp_path)
    next(tmp_path.iterdir()).unlink()
    assert mapped.take(torch.tensor([4]))[0][0, 0, 0, 0] == pytest.approx(5.01)


def test_a_temporary_file_is_gone_with_its_user(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    mapped = map_slices(LABELLED, None)
    assert len(mapped) == 9 and names(tmp_path) == []


@pytest.mark.parametrize("limit", [-1.0, float("nan")])
def test_a_limit_that_is_none(limit):
    with pytest.raises(ValueError, match=f"in_memory_gib must be at least 0, got {limit}"):
        Slices.from_volumes(LABELLED, in_memory_gib=limit)


def test_volumes_that_can_be_gone_through_only_once(tmp_path):
    with pytest.raises(ValueError, match="volumes must give the same slices each time .* got 9 and then 0"):
        map_slices(iter(LABELLED), tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize("cached", [True, False], ids=["cache folder", "temporary file"])
def test_no_room_is_told_before_anything_is_written(tmp_path, monkeypatch, cached):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**10))
    volumes = Counting(LABELLED)
    message = "must have room for the 9 slices: 0.00 MiB needed, 0.00 MiB free. Make room, or choose another cache_dir"
    with pytest.raises(OSError, match=message) as caught:
        map_slices(volumes, tmp_path / "cache" if cached else None)
    assert caught.value.errno == errno.ENOSPC and volumes.times == 1
    assert names(tmp_path) == []


@pytest.mark.parametrize("cached", [True, False], ids=["cache folder", "temporary file"])
def test_a_disk_that_fills_up_leaves_nothing(tmp_path, monkeypatch, cached):
    def fill_up(file, *_):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(slices_module, "write_store", fill_up)
    with pytest.raises(OSError, match="must have room for the 9 slices"):
        map_slices(LABELLED, tmp_path / "cache" if cached else None)
    assert names(tmp_path) in ([], ["cache"]) and names(tmp_path / "cache") == []


@pytest.mark.parametrize("progress", [True, False])
def test_progress_is_shown_if_wanted(tmp_path, capsys, progress):
    Slices.from_volumes(LABELLED, in_memory_gib=0, cache_dir=tmp_path, progress=progress)
    output = capsys.readouterr().err
    assert ("Collecting slices" in output, "Writing slices" in output) == (progress, progress)


def resident_file_mib():
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"^RssFile:\s+(\d+) kB", status, re.MULTILINE).group(1)) / 1024


@pytest.mark.skipif(platform.system() != "Linux", reason="the process's memory is read from /proc")
def test_what_was_read_does_not_stay_in_memory(tmp_path):
    shape = StoreShape(512, 256, 128, True)  # 80 MiB, of which none takes room on disk
    with (tmp_path / "a").open("wb") as file:
        file.truncate(shape.num_bytes)
    with (tmp_path / "a").open("rb") as file:
        mapped = MappedSlices(file, shape, torch.tensor([0, 512]))
    before = resident_file_mib()
    for indices in torch.arange(512).split(32):
        mapped.take(indices)
    assert resident_file_mib() - before < 8
    assert float(mapped.images.sum()) == 0 and resident_file_mib() - before > 60  # what would have stayed


@pytest.mark.gpu
@pytest.mark.parametrize("volumes", [LABELLED, UNLABELLED], ids=["labelled", "unlabelled"])
def test_both_kinds_give_the_same_on_a_gpu(tmp_path, volumes):
    memory, mapped = Slices.from_volumes(volumes, "cuda"), map_slices(volumes, tmp_path, device="cuda")
    indices = torch.tensor([8, 0, 3, 3])
    read, _ = mapped.read(indices)
    assert read.is_pinned() and read.device.type == "cpu"
    for first, second in zip(memory.take(indices), mapped.take(indices), strict=True):
        if first is None:
            assert second is None
        else:
            assert torch.equal(first, second) and second.device.type == "cuda"


@pytest.mark.parametrize("in_memory_gib", [1.0, 0.0], ids=["in memory", "in a file"])
def test_of_a_volume_with_labelled_slices_only_these_are_taken(in_memory_gib):
    images = torch.arange(5.0).expand(1, 4, 6, 5)
    volume = {"image": images, "label": images, LABELLED_SLICES: torch.tensor([False, True, False, False, True])}
    whole = {"image": images + 10, "label": images}
    slices = Slices.from_volumes([volume, whole], in_memory_gib=in_memory_gib, progress=False)
    assert slices.starts.tolist() == [0, 2, 7] and [own.tolist() for own in slices.numbers] == [[1, 4], [0, 1, 2, 3, 4]]
    images, labels = slices.take(torch.arange(7))
    assert images[:, 0, 0, 0].tolist() == [1, 4, 10, 11, 12, 13, 14]
    assert labels[:, 0, 0].tolist() == [1, 4, 0, 1, 2, 3, 4]
