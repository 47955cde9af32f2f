"""The zip of a release: written the same to the byte every time, and checked before it is unpacked."""

from __future__ import annotations

import hashlib
import json
import stat
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

from common.checkpoints import content_hash

from .source import ReleaseError, check_version
from .vendor import check_renamed

_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip can state


def write_zip(folder: Path, target: Path) -> None:
    """Write all files of a folder to a zip whose bytes depend on nothing but their names and contents.

    Args:
        folder: becomes the one folder at the top of the zip.
        target: the file to write.
    """
    # Not compressed: weights hardly get smaller, and the bytes would depend on the version of zlib.
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(path.relative_to(folder.parent).as_posix() for path in folder.rglob("*") if path.is_file()):
            info = zipfile.ZipInfo(name, _DATE)
            info.create_system = 3  # Unix, on which the permissions below have a meaning
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, (folder.parent / name).read_bytes())


def verify(archive: str, sha256: str | None = None) -> None:
    """Check the zip of a bundle before it is unpacked; nothing is written.

    `monai.bundle download` checks no hash of a zip, and stops at a bad entry when those before it are unpacked already;
    what it has left it then takes for the whole bundle when it is called again.

    Args:
        archive: the zip.
        sha256: what it must have; by default what a file `archive`.sha256 beside it says, if there is one.

    Raises:
        ReleaseError: see `check_archive`.
    """
    path = Path(archive)
    name, version = check_archive(path, sha256)
    print(f"{path}: {name} {version}, whole; SHA-256 {content_hash(path)}.")


def check_archive(path: Path, sha256: str | None = None) -> tuple[str, str]:
    """Return the name and version of the bundle in a zip, see `verify`.

    Raises:
        ReleaseError: if the zip is missing, damaged or cut short, has another hash, an entry that would leave the
            bundle's folder, that is a link or that comes twice, or does not hold a bundle as `release export` makes it.
    """
    _check_hash(path, sha256)
    try:
        with zipfile.ZipFile(path) as opened:
            name = _check_entries(path, opened)
            if (damaged := opened.testzip()) is not None:
                raise ReleaseError(f"{path} is damaged: {damaged} is not what was packed. Download it again.")
            return name, _check_bundle(path, opened, name)
    except (zipfile.BadZipFile, EOFError) as error:
        raise ReleaseError(f"{path} is no zip or was cut short ({error}): download it again.") from error


def _check_hash(path: Path, sha256: str | None) -> None:
    found, stated = content_hash(path), path.with_name(f"{path.name}.sha256")
    if found is None:
        raise ReleaseError(f"archive must be a file, got {str(path)!r}.")
    if sha256 is None and stated.is_file():
        sha256 = stated.read_text(encoding="utf-8").split()[0]
    if sha256 is not None and str(sha256).lower() != found:
        raise ReleaseError(f"{path} has the SHA-256 {found} instead of {sha256}: download it again.")


def _check_entries(path: Path, archive: zipfile.ZipFile) -> str:
    """Return the name of the one folder at the top of a zip whose entries all stay within it."""
    seen: set[str] = set()
    tops: set[str] = set()
    for info in archive.infolist():
        parts = PurePosixPath(info.filename).parts
        # `orig_filename`, since Python cuts names at a zero byte and turns separators of Windows.
        if info.filename.startswith("/") or ".." in parts or any(sign in info.orig_filename for sign in "\\:\0"):
            raise ReleaseError(f"{path} has an entry that would leave its folder, {info.orig_filename!r}: discard it.")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise ReleaseError(f"{path} has a link, {info.filename!r}, which may lead anywhere: discard it.")
        if info.filename.lower() in seen:
            raise ReleaseError(f"{path} has {info.filename!r} twice: discard it.")
        seen.add(info.filename.lower())
        tops.add(parts[0])
    if len(tops) != 1:
        raise ReleaseError(f"{path} must have one folder at its top, named like the bundle, got {sorted(tops)}.")
    return tops.pop()


def _check_bundle(path: Path, archive: zipfile.ZipFile, name: str) -> str:
    """Return the version of the bundle in a zip whose entries are safe."""
    contents: dict[str, Any] = {}
    for entry in archive.namelist():
        if entry.endswith(".json"):
            try:
                contents[entry] = json.loads(archive.read(entry))
            except ValueError as error:
                raise ReleaseError(f"{path}: {entry} is not JSON ({error}).") from error
            check_renamed(f"{path}: {entry}", contents[entry])
    metadata = contents.get(f"{name}/configs/metadata.json")
    if metadata is None:
        raise ReleaseError(f"{path} holds no bundle: there is no {name}/configs/metadata.json.")
    check_version(metadata, f"{path}: {name}/configs/metadata.json")
    listed = contents.get(f"{name}/large_files.json", {"large_files": []})["large_files"]
    hashes = {item["path"]: item["hash_val"] for item in listed}
    for entry in archive.namelist():
        if entry.endswith(".pt"):
            hashes[entry.removeprefix(f"{name}/")] = hashlib.sha256(archive.read(entry)).hexdigest()
    stated = {f"models/{file}": about["sha256"] for file, about in metadata.get("weights", {}).items()}
    if hashes != stated:
        differing = sorted(file for file in {*hashes, *stated} if hashes.get(file) != stated.get(file))
        raise ReleaseError(f"{path}: not the weights that its metadata describe: {', '.join(differing)}.")
    return metadata["version"]
