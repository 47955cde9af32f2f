"""The file of slices: its layout, and what it refuses."""

from __future__ import annotations

import hashlib
import mmap

import numpy as np
import pytest
import torch

from common.data.slice_store import MappedStore, StoreShape, add_to_hash, write_store


def make_volumes(labelled, depths=(2, 3)):
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.rand(depth, 1, 4, 6, generator=generator),
            torch.randint(4, (depth, 4, 6), generator=generator, dtype=torch.uint8) if labelled else None,
        )
        for depth in depths
    ]


def write(path, labelled):
    volumes, shape = make_volumes(labelled), StoreShape(5, 4, 6, labelled)
    with path.open("wb") as file:
        write_store(file, volumes, shape)
    return volumes, shape


@pytest.mark.parametrize("labelled", [False, True])
def test_what_was_written_is_mapped(tmp_path, labelled, recwarn):
    volumes, shape = write(tmp_path / "a", labelled)
    with (tmp_path / "a").open("rb") as file:
        store = MappedStore(file, shape)
    images = torch.cat([images for images, _ in volumes])
    labels = torch.cat([labels for _, labels in volumes]) if labelled else None
    indices = torch.tensor([4, 0, 0])
    copied_images, copied_labels = store.copy(indices)
    assert torch.equal(store.images, images) and torch.equal(copied_images, images[indices])
    if labelled:
        assert torch.equal(store.labels, labels) and torch.equal(copied_labels, labels[indices])
    else:
        assert store.labels is None and copied_labels is None
    assert shape.num_bytes == (tmp_path / "a").stat().st_size == (5 if labelled else 4) * 5 * 4 * 6
    assert not recwarn.list


def test_photographs_take_a_byte_for_each_value(tmp_path):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (5, 3, 4, 6), dtype=torch.uint8, generator=generator)
    labels = torch.randint(4, (5, 4, 6), dtype=torch.uint8, generator=generator)
    shape = StoreShape(5, 4, 6, True, channels=3, eight_bit=True)
    with (tmp_path / "a").open("w+b") as file:
        write_store(file, [(images[:2], labels[:2]), (images[2:], labels[2:])], shape)
        store = MappedStore(file, shape)
    assert shape.num_bytes == (tmp_path / "a").stat().st_size == 5 * 4 * 6 * (3 + 1)
    assert torch.equal(store.images, images) and torch.equal(store.labels, labels)
    indices = torch.tensor([3, 1])
    assert all(torch.equal(*pair) for pair in zip(store.copy(indices), (images[indices], labels[indices]), strict=True))


@pytest.mark.parametrize("missing", [["MADV_WILLNEED", "MADV_DONTNEED"], []], ids=["Windows", "Linux"])
def test_slices_that_begin_within_a_page(tmp_path, monkeypatch, missing):
    for name in missing:
        monkeypatch.delattr(mmap, name)
    images = torch.arange(7 * 40 * 50, dtype=torch.float32).view(7, 1, 40, 50)  # 8000 bytes each
    labels = torch.arange(7, dtype=torch.uint8).expand(40, 50, 7).permute(2, 0, 1).contiguous()
    with (tmp_path / "a").open("w+b") as file:
        write_store(file, [(images, labels)], StoreShape(7, 40, 50, True))
        store = MappedStore(file, StoreShape(7, 40, 50, True))
    indices = torch.tensor([6, 1, 3, 0])
    copied_images, copied_labels = store.copy(indices)
    assert torch.equal(copied_images, images[indices]) and torch.equal(copied_labels, labels[indices])


def test_images_come_first(tmp_path):
    volumes, _ = write(tmp_path / "a", labelled=True)
    content = (tmp_path / "a").read_bytes()
    assert np.array_equal(np.frombuffer(content[:480], np.float32), torch.cat([v for v, _ in volumes]).flatten())
    assert np.array_equal(np.frombuffer(content[480:], np.uint8), torch.cat([v for _, v in volumes]).flatten())


@pytest.mark.parametrize("depths", [(2, 2), (2, 3, 1)], ids=["fewer", "more"])
def test_other_volumes_than_expected(tmp_path, depths):
    with (tmp_path / "a").open("wb") as file, pytest.raises(ValueError, match="got 5 and then .: pass a list"):
        write_store(file, make_volumes(False, depths), StoreShape(5, 4, 6, False))


def test_a_file_of_another_size(tmp_path):
    write(tmp_path / "a", labelled=False)
    with (tmp_path / "a").open("rb") as file, pytest.raises(ValueError, match="file must have 600 bytes to hold .*480"):
        MappedStore(file, StoreShape(5, 4, 6, True))


def hash_of(volumes):
    digest = hashlib.sha256()
    for volume in volumes:
        add_to_hash(digest, *volume)
    return digest.hexdigest()


def test_the_hash_covers_everything():
    (images, labels), (more, more_labels) = make_volumes(True)
    changed_image, changed_label = images.clone(), labels.clone()
    changed_image[1, 0, 3, 5] += 1e-6
    changed_label[1, 3, 5] += 1
    both = (torch.cat([images, more]), torch.cat([labels, more_labels]))
    cases = [
        [(images, labels), (more, more_labels)],
        [(changed_image, labels), (more, more_labels)],
        [(images, changed_label), (more, more_labels)],
        [(more, more_labels), (images, labels)],
        [(images, labels)],
        [(images, None)],
        [(images.view(2, 1, 6, 4), labels)],
        [both],
    ]
    assert len({hash_of(case) for case in cases}) == len(cases)
    assert hash_of(make_volumes(True)) == hash_of(make_volumes(True))
