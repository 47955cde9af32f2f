"""Room on disk: looked for before something large is written, and said in the same words when it runs out meanwhile."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from ..files import WriteError, free_bytes


@contextmanager
def room_on_disk(folder: str | os.PathLike[str], num_bytes: int, purpose: str, remedy: str) -> Iterator[None]:
    """Write something in the block: it is not entered if there is no room, and a full disk within is explained.

    Args:
        folder: where it is written; need not be there yet.
        num_bytes: how much is written.
        purpose: what for, as in "room for ...".
        remedy: what to do besides making room, an imperative without a full stop.

    Raises:
        WriteError: with `errno.ENOSPC`, if there is no room, before or within the block. It says how much is needed and
            how much is free after the block has cleaned up.
    """
    check_room(folder, num_bytes, purpose, remedy)
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise _no_room(folder, num_bytes, purpose, remedy) from error


def check_room(folder: str | os.PathLike[str], num_bytes: int, purpose: str, remedy: str) -> None:
    """Raise the error of `room_on_disk` if there is no room."""
    if free_bytes(folder) < num_bytes:
        raise _no_room(folder, num_bytes, purpose, remedy)


def _no_room(folder: str | os.PathLike[str], num_bytes: int, purpose: str, remedy: str) -> WriteError:
    return WriteError(
        errno.ENOSPC,
        f"{os.fspath(folder)} must have room for {purpose}: {num_bytes / 2**20:,.2f} MiB needed, "
        f"{free_bytes(folder) / 2**20:,.2f} MiB free. Make room, or {remedy}.",
    )
