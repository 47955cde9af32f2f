"""What befalls a process: it dies at a write, its disk is full, a folder is read-only or belongs to someone else.

All but the first are real ones of the kernel: small file systems in memory, mounted read-only or too small, a limit to
the size of files, and the loss of root's right to write anywhere. Linux, as root; elsewhere `available` says no.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BEFORE, HALF, AFTER = "before", "half-way through", "after"
_NO_OVERRIDE = 1 << 1  # CAP_DAC_OVERRIDE
_CAPABILITIES_VERSION_3 = 0x20080522


def die_at_write(number: int, moment: str, name: str = "") -> None:
    """Let this process be killed at the n-th time that a written file takes its place.

    Args:
        number: which of them, from 1.
        moment: before the file takes its place, after it, or before it with half of the file lost.
        name: count only files of this name.
    """
    count = 0

    def dying(move: Callable[..., Any]) -> Callable[..., Any]:
        def moved(source: Any, target: Any, *args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += not name or Path(os.fspath(target)).name == name
            if count < number:
                return move(source, target, *args, **kwargs)
            if moment == HALF and os.path.isfile(source):
                os.truncate(source, os.path.getsize(source) // 2)
            if moment == AFTER:
                move(source, target, *args, **kwargs)
            os.kill(os.getpid(), signal.SIGKILL)

        return moved

    os.replace, os.rename = dying(os.replace), dying(os.rename)


def count_writes(path: Path) -> None:
    """Let this process add a byte to a file whenever a written file takes its place."""

    def counting(move: Callable[..., Any]) -> Callable[..., Any]:
        def moved(*args: Any, **kwargs: Any) -> Any:
            with open(path, "ab") as file:
                file.write(b".")
            return move(*args, **kwargs)

        return moved

    os.replace, os.rename = counting(os.replace), counting(os.rename)


def limit_file_size(size: int) -> None:
    """Let this process write no file beyond a size; Python ignores the signal, so that it sees an error instead."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def obey_permissions() -> None:
    """Take from this process root's right to write to folders without permission."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()
    for call in (libc.capget, libc.capset):
        if call(header, data) != 0:
            raise OSError(ctypes.get_errno(), "capabilities cannot be read or set")
        data[0] &= ~_NO_OVERRIDE


@contextlib.contextmanager
def small_disk(folder: Path, free_kib: int, read_only: bool = False) -> Iterator[Callable[[], object]]:
    """Mount a file system in memory over a folder, which keeps what is in it.

    Args:
        folder: the folder; made if needed.
        free_kib: KiB that fit in besides what is there; with 0 no file can be made.
        read_only: nothing can be written.

    Yields:
        A function that takes the trouble away: more room, and writable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    held = folder.with_name(folder.name + ".held")
    shutil.copytree(folder, held)
    files = list(held.rglob("*"))
    taken = sum(path.stat().st_size // 4096 * 4 + 4 for path in files)  # KiB, in whole pages
    limits = f"size={max(4, free_kib + taken)}k" + ("" if free_kib else f",nr_inodes={len(files) + 1}")
    subprocess.run(["mount", "-t", "tmpfs", "-o", limits, "tmpfs", str(folder)], check=True)
    try:
        shutil.copytree(held, folder, dirs_exist_ok=True)
        if read_only:
            subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        yield (
            lambda: (
                subprocess.run(["mount", "-o", "remount,rw,size=300m,nr_inodes=10000", str(folder)], check=True)
                and None
            )
        )
    finally:
        shutil.rmtree(held)
        subprocess.run(["umount", "-l", str(folder)], check=True)


def available(folder: Path) -> bool:
    """Whether file systems can be mounted below a folder."""
    try:
        with small_disk(folder / "probe", 64):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False
