"""The start of a run: its checks, and the folders that it writes to, made, tried and claimed until it ends.

Of two runs in one folder each would overwrite what the other one has saved, so the second is refused. The lock is one
of the system (`filelock`), which ends with its process however that ends: a killed run leaves nothing to clear up by
hand. On network file systems it holds between machines where these do locks (NFS 4, SMB, most cluster file systems do);
where they do not, nobody is refused, and the log says so.
"""

from __future__ import annotations

import atexit
import errno
import json
import logging
import os
import socket
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import ignite.distributed as idist
import torch
from filelock import FileLock, Timeout
from monai.utils import set_determinism

from . import command_line, devices, errors
from .files import sweep, write_errors_explained

logger = logging.getLogger(__name__)

LOCK = ".run.lock"
"""Name of the file in a folder that is locked while a run writes there; it also says which process that is."""

_TIMEOUT = 1.0  # seconds: the lock of a killed process is free as soon as the system has cleared it up
_TRIAL_BYTES = 4096
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)


class FolderInUse(ValueError):
    """Another run writes to a folder."""


class _Claim(NamedTuple):
    lock: FileLock
    thread: int
    is_new: bool  # whether the folder was made for this run


_claims: dict[Path, _Claim] = {}
_guard = threading.RLock()


def start(*folders: str | os.PathLike[str], device: torch.device | str = "cpu", seed: int | None = None) -> None:
    """Check what can be checked before a run, and claim the folders that it writes to.

    Args:
        folders: see `claim`.
        device: that the run is to use.
        seed: of all random numbers of the process; None leaves them as they are.

    Raises:
        CommandLineError: if an option on the command line cannot be meant, see `command_line`.
        ValueError: if there is no such device.
        FolderInUse: see `claim`.
        WriteError: see `claim`.
    """
    errors.show_cause_last()
    command_line.check()
    devices.check_device(device)
    claim(*folders)
    if seed is not None:
        set_determinism(seed=seed)


def claim(*folders: str | os.PathLike[str]) -> None:
    """Make folders, try to write to them, delete what killed processes have left there, and keep other processes out.

    Until `release`, or until this thread claims folders for another run, since a thread does one run at a time: what a
    run that failed had claimed is free then. Within a process a folder can be claimed again; it then belongs to the
    later run. Of several processes of one run only the first claims.

    Args:
        folders: that the run writes to; duplicates count once.

    Raises:
        FolderInUse: if a run of another process has claimed one of them; none is claimed then.
        WriteError: if one cannot be written to.
    """
    if idist.get_rank() > 0:
        return
    with _guard:
        release()
        try:
            for folder in dict.fromkeys(Path(folder).resolve() for folder in folders):
                with write_errors_explained(folder):
                    is_new = not folder.exists()
                    folder.mkdir(parents=True, exist_ok=True)
                    sweep(folder)
                    _try_writing(folder)
                    _lock(folder, is_new)
        except BaseException:
            release()
            raise


def release() -> None:
    """Let go of what this thread has claimed last; a folder that was made for it and is still empty goes too."""
    _release(threading.get_ident())


def claimed() -> list[Path]:
    """Return the folders that this thread has claimed, in the order of `claim`."""
    return [folder for folder, held in _claims.items() if held.thread == threading.get_ident()]


def _try_writing(folder: Path) -> None:
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(_TRIAL_BYTES))
        file.flush()


def _lock(folder: Path, is_new: bool) -> None:
    held = _claims.pop(folder, None)
    path = folder / LOCK
    # Not a "soft" lock where the file system has none: that of a killed process would stay.
    lock = held.lock if held else FileLock(path, thread_local=False, fallback_to_soft=False)
    if held is None:
        try:
            lock.acquire(timeout=_TIMEOUT)
        except Timeout:
            raise FolderInUse(
                f"{folder} is in use by another run{_owner(path)}: wait until that has ended, or choose another "
                "folder. If that process lives on after a run that has failed in it, as in a notebook, call "
                f"{__name__}.release() there."
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            with suppress(OSError):
                path.unlink()
            logger.warning(f"{folder} cannot be locked on its file system: see to it that no other run writes there.")
            return
        if os.name == "posix":  # elsewhere nobody may write to a locked file, or delete it
            owner = {**_own(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
            path.write_text(json.dumps(owner) + "\n", encoding="utf-8")
    _claims[folder] = _Claim(lock, threading.get_ident(), is_new or (held is not None and held.is_new))


def _own() -> dict[str, Any]:
    return {"process": os.getpid(), "host": socket.gethostname()}


def _read_owner(path: Path) -> dict[str, Any]:
    """Return what a lock file says of its process; empty if it says nothing."""
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) and {"process", "host", "since"} <= set(owner) else {}


def _owner(path: Path) -> str:
    owner = _read_owner(path)
    return f" (process {owner['process']} on {owner['host']}, since {owner['since']})" if owner else ""


def _release(thread: int | None = None) -> None:
    with _guard:
        for folder, held in list(_claims.items()):
            if thread in (None, held.thread):
                # Before the lock is given up, so that nobody else has it by then. Whoever waits for this file notices
                # that it has no name any more (`filelock` does), and takes a new one. If the folder was made anew
                # meanwhile, the file in it is another run's.
                if _own().items() <= _read_owner(folder / LOCK).items():
                    with suppress(OSError):
                        (folder / LOCK).unlink()
                held.lock.release()
                del _claims[folder]
                if held.is_new:
                    with suppress(OSError):  # most often it is not empty
                        folder.rmdir()


def _forget() -> None:
    """Leave the claims to the process that this one was forked from."""
    _claims.clear()


atexit.register(_release)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
