"""Memory that a process has freed stays with it, so that the next step does not ask the system for it again."""

from __future__ import annotations

import ctypes
import os

# Names and numbers of glibc's <malloc.h>.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_MOST = 2**31 - 1  # bytes, an int; a process that has freed more gives some back
_AHEAD = 64 * 2**20  # bytes that are asked for beyond what is needed
_OWN_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_")


def keep_freed_memory() -> bool:
    """Make the allocator of the C library keep freed memory.

    By itself glibc maps every large tensor anew and gives it back when it is freed; the system then clears its pages,
    one after another, as they are written to, in every step of a training. The price is memory: blocks that fit nothing
    any more stay, too, so this is for work that asks for the same sizes over and over.

    Returns:
        Whether that was done: not with a C library other than glibc, and not if the environment sets its allocator.
    """
    if os.name != "posix" or any(name in os.environ for name in _OWN_SETTINGS):
        return False
    setting = getattr(ctypes.CDLL(None), "mallopt", None)
    wanted = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _MOST), (_TOP_PAD, _AHEAD))
    return setting is not None and all(setting(name, value) for name, value in wanted)
