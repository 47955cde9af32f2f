from __future__ import annotations

import errno
import shutil
from types import SimpleNamespace

import pytest

from common.data.disk_space import check_room, room_on_disk

WORDS = ("ten things", "write less")


@pytest.fixture
def free(monkeypatch):
    def pretend(mib):
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=int(mib * 2**20)))

    return pretend


def test_a_block_without_room_is_not_entered(tmp_path, free):
    free(2.5)
    check_room(tmp_path, 5 * 2**19, *WORDS)
    entered = False
    message = r"a must have room for ten things: 1,024\.00 MiB needed, 2\.50 MiB free\. Make room, or write less\.$"
    with pytest.raises(OSError, match=message) as caught, room_on_disk(tmp_path / "not" / "yet" / "a", 2**30, *WORDS):
        entered = True
    assert caught.value.errno == errno.ENOSPC and not entered


def test_the_disk_is_that_of_the_folder(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: asked.append(path) or SimpleNamespace(free=1))
    check_room(tmp_path / "not" / "yet", 1, *WORDS)
    monkeypatch.chdir(tmp_path)
    check_room("relative", 1, *WORDS)
    assert asked == [tmp_path, tmp_path]


def test_a_disk_that_fills_up_within(tmp_path, free):
    free(5)
    with pytest.raises(OSError, match="ten things: 1.00 MiB needed, 5.00 MiB free") as caught:
        with room_on_disk(tmp_path, 2**20, *WORDS):
            raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("error", [PermissionError(errno.EACCES, "no"), ValueError("other")], ids=["OSError", "other"])
def test_other_errors_pass(tmp_path, error):
    with pytest.raises(type(error)) as caught, room_on_disk(tmp_path, 1, *WORDS):
        raise error
    assert caught.value is error
