"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
import time

import pytest
import torch

from common import files
from common.files import WriteError, atomic_file, sweep, write_errors_explained, write_text_atomically


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


# ---- what killed processes leave


def kill_while_writing(path):
    """Leave what a killed process leaves."""
    child = os.fork()
    if child == 0:
        try:
            with atomic_file(path) as temporary:
                temporary.write_text("half")
                os.kill(os.getpid(), 9)
        finally:
            os._exit(1)
    os.waitpid(child, 0)


def test_next_process_deletes_what_a_killed_one_left(tmp_path):
    kill_while_writing(tmp_path / "a.txt")
    assert [name.startswith(".unfinished-") for name in names(tmp_path)] == [True]
    write_text_atomically(tmp_path / "a.txt", "whole")
    assert names(tmp_path) == ["a.txt"]


def test_what_a_living_process_writes_is_left(tmp_path):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        started = files._started(other.pid)
        mine = tmp_path / f".unfinished-{files._host()}-{other.pid}-{started}-abc"
        before = tmp_path / f".unfinished-{files._host()}-{other.pid}-{int(started or 1) - 1}-abc"
        for folder in (mine, before):
            folder.mkdir()
        with atomic_file(tmp_path / "own.txt") as temporary:
            temporary.write_text("x")
            sweep(tmp_path)
            assert mine.exists() and not before.exists()  # its number was that of an earlier process
        other.communicate()
    sweep(tmp_path)
    assert names(tmp_path) == ["own.txt"]


@pytest.mark.parametrize("name", ["otherhost.4-17-99-abc", "a-b-17-99-abc", "xyz"], ids=["host", "dashes", "old name"])
def test_what_others_write_is_left_for_a_day(tmp_path, name):
    left = tmp_path / f".unfinished-{name}"
    left.mkdir()
    (tmp_path / "kept").mkdir()
    sweep(tmp_path)
    assert left.exists()
    day_ago = time.time() - 90_000
    os.utime(left, (day_ago, day_ago))
    os.utime(tmp_path / "kept", (day_ago, day_ago))
    sweep(tmp_path)
    assert names(tmp_path) == ["kept"]


# ---- what cannot be written


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, r"its disk is full \([0-9,.]+ MiB free\)\. Make room"),
        (errno.EDQUOT, "quota of its disk is used up"),
        (errno.EFBIG, "a file of that size is not allowed"),
        (errno.EROFS, "its file system is read-only"),
        (errno.EACCES, "you have no right to write there"),
        (errno.EPERM, "writing there is not permitted"),
    ],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else "",
)
@pytest.mark.parametrize("where", ["folder", "block", "end"])
def test_reason_is_given_with_the_folder(tmp_path, monkeypatch, number, message, where):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    name = {"folder": (files.tempfile, "TemporaryDirectory"), "end": (os, "replace")}
    if where in name:
        monkeypatch.setattr(*name[where], refuse)
    message = rf"out cannot be written to: .*{message}.* or choose another folder\.$"
    with pytest.raises(WriteError, match=message) as caught:
        with atomic_file(tmp_path / "out" / "a.txt") as temporary:
            temporary.write_text("x")
            if where == "block":
                refuse()
    assert caught.value.errno == number and names(tmp_path / "out") == []


def test_a_device_that_is_really_full(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    with pytest.raises(WriteError, match="disk is full"), atomic_file(tmp_path / "a") as temporary:
        with open("/dev/full", "wb", buffering=0) as file:
            shutil.copyfileobj(open(__file__, "rb"), file)
        temporary.touch()


def test_errors_about_other_files_pass(tmp_path):
    error = PermissionError(errno.EACCES, "Permission denied", "/elsewhere/image.nii.gz")
    with pytest.raises(PermissionError, match=r"elsewhere/image\.nii\.gz"), write_errors_explained(tmp_path):
        raise error
    with pytest.raises(WriteError, match="no right"), write_errors_explained(tmp_path / "a" / "b"):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "a"))


def test_an_error_is_explained_once(tmp_path):
    with pytest.raises(WriteError, match="inner cannot be written to:"):
        with write_errors_explained(tmp_path / "outer"), write_errors_explained(tmp_path / "inner"):
            raise OSError(errno.EROFS, "Read-only file system")
