"""A folder that results are written to: whether that can be, said before they are computed, and why it could not."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_REMEDIES = {
    **dict.fromkeys((errno.EACCES, errno.EPERM), "Get the right to write there"),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "Make room"),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), "Move the file away that is in its place"),
    errno.EROFS: "Mount it for writing",
}


class OutputError(OSError):
    """A folder that cannot be written to. The message names it and what is missing, the right or the room."""


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Raise unless files can be made in a folder; it need not be there, and is not made.

    Raises:
        OutputError: if not.
    """
    path = Path(folder).absolute()
    with explained(folder, "nothing was computed"):
        place = next(place for place in (path, *path.parents) if os.path.lexists(place))
        with tempfile.TemporaryFile(dir=place):
            pass


@contextmanager
def explained(folder: str | os.PathLike[str], state: str) -> Iterator[None]:
    """Write to a folder in the block; if the system does not let it, say so in terms of the folder.

    Args:
        folder: what is written to.
        state: what is there and what is not, for the message.

    Raises:
        OutputError: for want of room or rights. Other errors are left as they are.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _REMEDIES or isinstance(error, OutputError):
            raise
        raise OutputError(
            error.errno,
            f"output_dir must be a folder that can be written to, got {os.fspath(folder)!r}: {error.strerror}"
            f"{_free(Path(folder))}. {_REMEDIES[error.errno]}, or choose another output_dir; {state}.",
        ) from error


def _free(folder: Path) -> str:
    place = next((place for place in (folder, *folder.parents) if place.is_dir()), None)
    return "" if place is None else f" ({shutil.disk_usage(place).free / 2**20:,.1f} MiB free)"
