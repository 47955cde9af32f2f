"""Files that are there whole or not at all, so that an interrupted run of the paper's stages leaves nothing half-made.

What cannot be written is said with the folder's name and the reason. What a killed process has left is swept away by
the next one that writes to the same folder. A power failure is not provided for: nothing is forced to the disk (no
fsync).
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

logger = logging.getLogger(__name__)

_PREFIX = ".unfinished-"
_SECONDS_OF_A_DAY = 86400
_REASONS = {  # why, and what to do
    errno.ENOSPC: ("its disk is full ({free:,.2f} MiB free)", "Make room"),
    errno.EDQUOT: ("your quota of its disk is used up", "Make room"),
    errno.EFBIG: ("a file of that size is not allowed", "Raise the limit (ulimit -f)"),
    errno.EROFS: ("its file system is read-only", "Mount it for writing"),
    errno.EACCES: ("you have no right to write there", "Get it"),
    errno.EPERM: ("writing there is not permitted", "Get the right to"),
    errno.EEXIST: ("a file has the name of the folder", "Move it away"),
    errno.ENOTDIR: ("a file has the name of a folder on the way to it", "Move it away"),
}


class WriteError(OSError):
    """A folder cannot be written to; `errno` is that of the system's error."""


@contextmanager
def write_errors_explained(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Write something in the block; that the folder is full, read-only and so on is then said in one sentence.

    Args:
        folder: where it is written. Errors about files elsewhere get through as they are.

    Raises:
        WriteError: if it cannot be written.
    """
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        folder = Path(folder)
        if folder.name.startswith(_PREFIX):  # made by `atomic_file` within the folder that the user knows
            folder = folder.parent
        if error.errno not in _REASONS or not _concerns(error, folder):
            raise
        reason, remedy = _REASONS[error.errno]
        reason = reason.format(free=free_bytes(folder) / 2**20)
        raise WriteError(
            error.errno, f"{os.fspath(folder)} cannot be written to: {reason}. {remedy}, or choose another folder."
        ) from error


def _concerns(error: OSError, folder: Path) -> bool:
    """Whether an error is about the folder, something in it, or a folder on the way to it."""
    if not isinstance(error.filename, (str, os.PathLike)):
        return True
    place, folder = Path(error.filename).absolute(), folder.absolute()
    return folder.is_relative_to(place) or place.is_relative_to(folder)


def free_bytes(folder: str | os.PathLike[str]) -> int:
    """Return the free bytes of a folder's disk; the folder need not be there yet."""
    path = Path(folder).absolute()
    return shutil.disk_usage(next(place for place in (path, *path.parents) if place.exists())).free


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a path to write to; what was written there replaces `path` when the block ends without an error.

    Until then, and after an error, `path` is what it was. The file gets the permissions of any newly made file.

    Args:
        path: the file to be; its folder is made if needed.

    Yields:
        A path of the same name in a hidden folder beside `path`, which is gone after the block.

    Raises:
        FileNotFoundError: if the block wrote nothing.
        WriteError: if the folder cannot be written to.
    """
    path = Path(path)
    with write_errors_explained(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep_once(path.parent.absolute())
        # A folder rather than a file: the name stays, by which nibabel and Matplotlib choose the format, and the
        # permissions too, which `mkstemp` would restrict to the owner.
        prefix = f"{_PREFIX}{_host()}-{os.getpid()}-{_started(os.getpid())}-"
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=prefix) as folder:
            temporary = Path(folder, path.name)
            yield temporary
            os.replace(temporary, path)


def write_text_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file in UTF-8 so that it is there whole or not at all; line ends are kept as they are."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(text.encode())


def sweep(folder: str | os.PathLike[str]) -> None:
    """Delete what processes that were killed have left in a folder of files that `atomic_file` had begun.

    That of a living process stays, and so does what is younger than a day and of another machine, container or
    program, of which nobody here knows whether it lives.
    """
    for left in Path(folder).glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another process may be sweeping too
            if _is_abandoned(left):
                shutil.rmtree(left)
                logger.info(f"{left}: deleted, left over from a process that was killed.")


_sweep_once = cache(sweep)  # of a folder, in this process


def _is_abandoned(left: Path) -> bool:
    host, pid, start = [*left.name.removeprefix(_PREFIX).rsplit("-", 3), "", "", ""][:3]
    if host == _host() and pid.isdecimal() and os.name == "posix":
        return not _is_alive(int(pid)) or _started(int(pid)) != start
    return time.time() - left.stat().st_mtime > _SECONDS_OF_A_DAY


@cache
def _host() -> str:
    """Name the machine and, on Linux, the container within which process numbers mean something."""
    name = "".join(letter for letter in socket.gethostname() if letter.isalnum() or letter in ".-")
    with suppress(OSError):
        name += "." + "".join(filter(str.isdecimal, os.readlink("/proc/self/ns/pid")))
    return name


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # of another user
    return True


def _started(pid: int) -> str:
    """Return when a process was started, in the system's own units, since its number is given out again some day.

    Empty where the system does not tell, and for a process that has ended without its parent's notice.
    """
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state == "Z" else fields[18]
