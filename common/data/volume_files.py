"""Files that hold a volume: how they are called, and which of them are in a folder.

A volume is a NIfTI file, compressed or not, or the header of a pair, whose voxels are in the `.img` beside it. Suffixes
may be in capitals. Some programs write a folder called like a file, with the file in it; this counts as that file.
Files and folders whose names begin with a dot are ignored everywhere, also the `._*` that macOS puts into archives.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_SUFFIX = re.compile(r"\.(nii|hdr)(\.gz)?$", re.IGNORECASE)
_PAIRS = {".hdr": (".img", ".IMG", ".Img"), ".img": (".hdr", ".HDR", ".Hdr")}


class DatasetError(FileNotFoundError):
    """A folder is missing or does not hold the files that are looked for in it.

    Args:
        message: what is wrong and what to do.
        usable: the items that nothing is wrong with.
    """

    def __init__(self, message: str, usable: Sequence[dict[str, str]] = ()) -> None:
        super().__init__(message)
        self.usable = list(usable)


def stem(path: str | os.PathLike[str]) -> str:
    """Return the name of a file without folder and without the suffix of a volume, if it has one."""
    return _SUFFIX.sub("", Path(path).name)


def entries(folder: Path) -> list[Path]:
    """Return what is in a folder, ordered by name; nothing if there is no such folder.

    Raises:
        DatasetError: if the folder may not be read.
    """
    try:
        found = folder.iterdir() if folder.is_dir() else ()
        return sorted(entry for entry in found if not entry.name.startswith("."))
    except OSError as error:
        raise DatasetError(
            f"{folder} must be a folder that can be read, but: {error.strerror}. Get the right to read it, or choose "
            "another one."
        ) from error


def volumes_in(folder: Path) -> list[Path]:
    """Return the volumes directly in a folder, ordered by name; none if it does not exist.

    A link that leads nowhere is among them, so that reading it says so.

    Raises:
        DatasetError: if the folder may not be read.
    """
    found = [entry for entry in entries(folder) if _SUFFIX.search(entry.name)]
    found = [file for entry in found for file in (entries(entry) if entry.is_dir() else [entry])]
    return [file for file in found if is_volume(file)]


def is_volume(path: Path) -> bool:
    """Tell from its name whether a file is a volume; a header is one if it has its voxels beside it."""
    if not _SUFFIX.search(path.name) or (path.exists() and not path.is_file()):  # a pipe, for example
        return False
    return kind_of_pair(path) != ".hdr" or partner(path) is not None


def kind_of_pair(path: Path) -> str:
    """Return ".hdr" or ".img" for a file of a pair, compressed or not, and "" for any other."""
    plain = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    return plain.suffix.lower() if plain.suffix.lower() in _PAIRS else ""


def partner(path: Path) -> Path | None:
    """Return the `.img` that belongs to a `.hdr`, or the other way round; None if there is none."""
    compressed = path.suffix if path.suffix.lower() == ".gz" else ""
    plain = path.with_suffix("") if compressed else path
    paths = (plain.with_suffix(suffix + compressed) for suffix in _PAIRS.get(plain.suffix.lower(), ()))
    return next((found for found in paths if found.is_file()), None)


def volume_called(folder: Path, name: str) -> Path | None:
    """Return the volume of this name, without suffix, that is directly in a folder, or None if there is none."""
    return next((path for path in volumes_in(folder) if stem(path) == name), None)


def few(values: Sequence[Any]) -> str:
    """Write out the first ten of some values."""
    return ", ".join(map(str, values[:10])) + (f", ... ({len(values)} in all)" if len(values) > 10 else "")
