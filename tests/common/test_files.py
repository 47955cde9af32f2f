"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import stat

import pytest
import torch

from common.files import atomic_file, write_text_atomically


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "deep" / "a.nii.gz"
    with atomic_file(str(path)) as temporary:
        temporary.write_bytes(b"new")
        assert temporary.name == "a.nii.gz"  # the format is often chosen by the name
        assert not path.exists()
        assert all(name.startswith(".") for name in names(path.parent))
    assert path.read_bytes() == b"new"
    assert names(path.parent) == ["a.nii.gz"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("old", [None, "old"], ids=["new file", "old file"])
def test_a_failure_changes_nothing(tmp_path, old, error):
    path = tmp_path / "a.txt"
    if old:
        path.write_text(old)
    with pytest.raises(error), atomic_file(path) as temporary:
        temporary.write_text("half")
        raise error
    assert names(tmp_path) == (["a.txt"] if old else [])
    assert not old or path.read_text() == old


def test_a_block_that_writes_nothing(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "a.txt"):
        pass
    assert names(tmp_path) == []


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o002, 0o664)])
def test_permissions_are_those_of_any_new_file(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        write_text_atomically(tmp_path / "a.txt", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == mode


def test_text_is_written_as_it_is(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("something longer than what comes now")
    write_text_atomically(path, "± –\r\n\n")
    assert path.read_bytes() == "± –\r\n\n".encode()
    assert names(tmp_path) == ["a.txt"]


def test_text_that_cannot_be_encoded_leaves_nothing(tmp_path):
    with pytest.raises(UnicodeEncodeError):
        write_text_atomically(tmp_path / "a.txt", "\ud800")
    assert names(tmp_path) == []


def test_equal_content_under_one_name_gives_equal_files(tmp_path):
    for folder in ("a", "b"):
        with atomic_file(tmp_path / folder / "weights.pt") as temporary:
            torch.save({"x": torch.arange(3)}, temporary)
    assert (tmp_path / "a" / "weights.pt").read_bytes() == (tmp_path / "b" / "weights.pt").read_bytes()
