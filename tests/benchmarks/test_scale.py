from __future__ import annotations

import shutil
import tempfile
from types import SimpleNamespace

import pytest
import torch

from benchmarks import scale
from benchmarks.scale import Trial, Volumes, measure

KIB_OF_A_SLICE = 64 * 64 * 4 / 2**10
SMALL = {"side": 64, "batch_size": 16}


@pytest.fixture(autouse=True)
def denormals():
    """Trials in this process leave no trace in it."""
    yield
    torch.set_flush_denormal(False)


def gib(num_slices):
    return num_slices * KIB_OF_A_SLICE / 2**20


def test_all_sizes_in_turn(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(scale, "PARTS", {"draw": 2, "data": 1, "step": 1})
    outcome = measure((20, 40, 80), gib(20), gib(40), repetitions=1, own_processes=False, **SMALL)
    rows = outcome["rows"]
    assert [(row["slices"], row["kind"]) for row in rows] == [
        (20, "in memory"),
        (40, "memory-mapped"),
        (80, "memory-mapped"),
    ]
    assert [row["GiB"] for row in rows] == [gib(20), gib(40), gib(80)]
    assert rows[0]["step, times 20 slices"] == rows[0]["data"] == rows[0]["draw"] == 1
    assert all(row["step, times 20 slices"] > 0 and row["data"] > 0 and row["draw"] > 0 for row in rows)
    assert rows[0]["MiB while made"] is not None and rows[2]["MiB while made"] is None
    assert outcome["targets"][0]["measured"] == max(row["step, times 20 slices"] for row in rows)
    assert outcome["targets"][1]["measured"] == rows[2]["resident MiB"] / rows[1]["resident MiB"]
    assert list(tmp_path.rglob("*.slices")) == []


def test_it_stops_where_the_disk_would_fill_up(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    free = 1.9 * 40 * KIB_OF_A_SLICE * 2**10
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    with pytest.raises(OSError, match="must have room for twice the files of slices: 1.25 MiB needed, 1.19 MiB free"):
        measure((20, 40, 80), gib(20), gib(40), own_processes=False, **SMALL)
    assert list(tmp_path.rglob("*.slices")) == []


def test_a_file_with_a_hole_has_what_the_smaller_one_had(tmp_path):
    written = Trial(20, 64, 16, 0.0, str(tmp_path), "")
    (path,) = tmp_path.iterdir()
    extended = Trial(400, 64, 16, 0.0, str(tmp_path), str(path))
    assert len(written.slices) == 20 and len(extended.slices) == 400 and extended.slices.num_volumes == 40
    images, _ = extended.slices.take(torch.arange(30))
    assert torch.equal(images[:20], written.slices.images) and not images[20:].any()
    assert path.stat().st_size == 400 * KIB_OF_A_SLICE * 2**10


def test_volumes_differ_and_are_the_same_again():
    volumes = Volumes(4, 8)
    first, again = [volume["image"] for volume in volumes], [volume["image"] for volume in volumes]
    assert len(volumes) == len(first) == 4 and first[0].shape == (1, 8, 8, 10)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first[1:], again, strict=False))
