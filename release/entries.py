"""The entries of a zip: plain files with one plain name each, not compressed, no larger than a bundle's."""

from __future__ import annotations

import re
import stat
import struct
import zipfile
from pathlib import Path

from .source import ReleaseError

LARGEST_FILE = 25_000_000
"""Bytes; what the model zoo allows in a bundle."""
_MOST_ENTRIES = 1000
_LONGEST_NAME = 240  # Windows allows 260 with the folder in which it is unpacked
_LOCAL, _CENTRAL = 30, 46  # bytes of an entry before its content and in the list, its name aside
_END = struct.Struct("<4s4H2LH")  # signature, disks (2), entries (2), size and place of the list, length of a comment
_LOCATOR_64 = struct.Struct("<4sLQL")
# Every system and tool takes such a name for the same place: no separators of Windows, empty parts, dots alone, dots or
# spaces at the end, control characters or letters that can be written in two ways.
_PART = r"[A-Za-z0-9_]([A-Za-z0-9_.+-]*[A-Za-z0-9_+-])?"
_NAME = re.compile(rf"{_PART}(/{_PART})*")
_ENCRYPTED = 0x1 | 0x40 | 0x2000  # flags: contents, contents strongly, names
_FOLDER_OF_DOS = 0x10


def check_end(path: Path) -> tuple[int, int]:
    """Check that the list of a zip's entries is as short as a bundle's, before `zipfile` reads all of it.

    Args:
        path: of the zip.

    Returns:
        How many entries there are, and at which byte their list begins.

    Raises:
        ReleaseError: if it is longer, or the file does not end as a release does.
    """
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LOCATOR_64.size - _END.size))
        tail = file.read()
    end = tail[-_END.size :]
    _, _, _, _, count, size, start, comment = _END.unpack(end) if len(end) == _END.size else (0,) * 8
    # A release has no comment, and no more than 4 GB, which would have a locator of another end.
    ends_well = end.startswith(b"PK\5\6") and not comment and not tail.startswith(b"PK\6\7")
    if not ends_well or start + size + _END.size != path.stat().st_size:
        raise ReleaseError(f"{path} is no zip or was cut short (it does not end as a release does): download it again.")
    if count > _MOST_ENTRIES or size > _MOST_ENTRIES * (_CENTRAL + _LONGEST_NAME):
        raise ReleaseError(
            f"{path} has {count:,} entries, listed in {size:,} bytes, a release at most {_MOST_ENTRIES:,}: discard it."
        )
    return count, start


def check_entries(path: Path, archive: zipfile.ZipFile, count: int, start: int) -> str:
    """Return the name of the one folder at the top of a zip whose entries can all be unpacked without harm.

    Nothing is read but the list of the entries.

    Args:
        path: of the zip, for errors.
        archive: the zip.
        count: see `check_end`.
        start: see `check_end`.

    Raises:
        ReleaseError: if an entry is no plain file, is encrypted, compressed or too large, its name is no plain one or
            stands for the place of another one, the entries have gaps between them or overlap, or if there is not one
            folder at the top.
    """
    entries = archive.infolist()
    places: dict[str, tuple[str, bool]] = {}
    for info in entries:
        _check_name(path, info)
        _check_kind(path, info)
        _check_size(path, info)
        _check_place(path, info.filename, places)
    filled = sum(_LOCAL + len(info.filename) + info.file_size for info in entries)
    listed = sum(_CENTRAL + len(info.filename) for info in entries)
    if (len(entries), filled, start + listed + _END.size) != (count, start, path.stat().st_size):
        raise ReleaseError(
            f"{path} has {count} entries, of which {len(entries)} can be read, and these do not lie one behind the "
            "other as in a release: download it again."
        )
    tops = sorted({info.filename.split("/")[0] for info in entries})
    if len(tops) != 1:
        raise ReleaseError(f"{path} must have one folder at its top, named like the bundle, got {tops}.")
    return tops[0]


def _check_name(path: Path, info: zipfile.ZipInfo) -> None:
    name = info.orig_filename  # Python cuts names at a zero byte and turns separators of Windows
    if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME or name != info.filename:
        raise ReleaseError(
            f"{path} has an entry {name[:_LONGEST_NAME]!r}: names must be plain paths below the bundle's folder, of "
            "letters and digits of ASCII, _, +, - and dots within a part, with single slashes and at most "
            f"{_LONGEST_NAME} characters. Discard it."
        )


def _check_kind(path: Path, info: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the tool that packed it has said nothing
    if kind not in (0, stat.S_IFREG) or info.external_attr & _FOLDER_OF_DOS:
        raise ReleaseError(
            f"{path} has {info.filename!r}, which is no plain file but a link, folder or device: discard it."
        )
    if info.flag_bits & _ENCRYPTED:
        raise ReleaseError(f"{path} has {info.filename!r} encrypted, which no release is: discard it.")
    # Without compression nothing can become larger than the zip.
    if info.compress_type != zipfile.ZIP_STORED:
        raise ReleaseError(f"{path} has {info.filename!r} compressed, which no release is: discard it.")


def _check_size(path: Path, info: zipfile.ZipInfo) -> None:
    if info.file_size > LARGEST_FILE:
        raise ReleaseError(
            f"{path} has {info.filename!r} of {info.file_size:,} bytes, a bundle's files have at most "
            f"{LARGEST_FILE:,}: discard it."
        )
    if info.file_size != info.compress_size:
        raise ReleaseError(
            f"{path} has {info.filename!r} with the sizes {info.file_size:,} and {info.compress_size:,}: discard it."
        )


def _check_place(path: Path, name: str, places: dict[str, tuple[str, bool]]) -> None:
    """Check that an entry has a place of its own, also where upper and lower case are one.

    Args:
        path: of the zip, for errors.
        name: of the entry.
        places: by path in lower case, the path and whether it is a file; gets those of the entry.
    """
    parts = name.split("/")
    for count in range(1, len(parts) + 1):
        place, is_file = "/".join(parts[:count]), count == len(parts)
        if is_file and places.get(place.lower()) == (place, True):
            raise ReleaseError(f"{path} has {place!r} twice: discard it.")
        known, was_file = places.setdefault(place.lower(), (place, is_file))
        if known != place:
            raise ReleaseError(f"{path} has {known!r} and {place!r}, which are one on many systems: discard it.")
        if was_file != is_file:
            raise ReleaseError(f"{path} has {place!r} as a file and as a folder: discard it.")
