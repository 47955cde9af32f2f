"""Files that are there whole or not at all, so that an interrupted run of the paper's stages leaves nothing half-made.

A power failure is not provided for: nothing is forced to the disk (no fsync).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A folder rather than a file: the name stays, by which nibabel and Matplotlib choose the format, and the
    # permissions too, which `mkstemp` would restrict to the owner.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".unfinished-") as folder:
        temporary = Path(folder, path.name)
        yield temporary
        os.replace(temporary, path)


def write_text_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file in UTF-8 so that it is there whole or not at all; line ends are kept as they are."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(text.encode())
