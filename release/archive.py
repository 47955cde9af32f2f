"""The zip of a release: written the same to the byte every time, and checked before it is unpacked."""

from __future__ import annotations

import hashlib
import json
import re
import stat
import zipfile
from pathlib import Path
from typing import Any

from common.checkpoints import content_hash

from .entries import check_end, check_entries
from .source import ReleaseError, check_version
from .vendor import check_renamed

_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip can state
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_LARGEST_ARCHIVE = 300_000_000  # bytes, which are held in memory; ten times what a bundle with three networks has


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

    This says that nothing was damaged and that unpacking it touches no other folder. It does not say that the bundle is
    harmless: a bundle is code, which runs when it is loaded. Load only bundles of people whom you trust.

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
        ReleaseError: if the zip is missing, too large, damaged or cut short, has another hash, an entry that is no
            plain file, whose name could mean another place or that of another entry, or that is compressed, or does
            not hold a bundle as `release export` makes it.
    """
    _check_hash(path, sha256)
    count, start = check_end(path)
    try:
        with zipfile.ZipFile(path) as opened:
            name = check_entries(path, opened, count, start)
            contents = {info.filename: _read(path, opened, info) for info in opened.infolist()}
    except ReleaseError:
        raise
    # What `zipfile` raises for damaged zips is not documented, and more than `BadZipFile`.
    except Exception as error:
        raise ReleaseError(f"{path} is no zip or was cut short ({error!r}): download it again.") from error
    return name, _check_bundle(path, contents, name)


def _check_hash(path: Path, sha256: str | None) -> None:
    if not path.is_file():
        raise ReleaseError(f"archive must be a file, got {str(path)!r}.")
    if path.stat().st_size > _LARGEST_ARCHIVE:
        raise ReleaseError(
            f"{path} has {path.stat().st_size:,} bytes, a release at most {_LARGEST_ARCHIVE:,}: discard it."
        )
    stated, source = path.with_name(f"{path.name}.sha256"), "sha256"
    if sha256 is None and stated.is_file():
        source = str(stated)
        with stated.open("rb") as file:
            sha256 = file.read(1024).decode("ascii", errors="replace").partition(" ")[0].strip()
    if sha256 is None:
        return
    if not _SHA256.fullmatch(str(sha256)):
        raise ReleaseError(f"{source} must be a SHA-256, 64 digits from 0 to f, got {str(sha256)[:80]!r}.")
    if str(sha256).lower() != (found := content_hash(path)):
        raise ReleaseError(f"{path} has the SHA-256 {found} instead of {sha256}: download it again.")


def _read(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Return the content of an entry that is not compressed; `zipfile` compares its checksum."""
    try:
        content = archive.read(info)
    except zipfile.BadZipFile as error:
        raise ReleaseError(
            f"{path} is damaged: {info.filename} is not what was packed ({error}). Download it again."
        ) from error
    if len(content) != info.file_size:
        raise ReleaseError(f"{path} was cut short within {info.filename}: download it again.")
    return content


def _check_bundle(path: Path, contents: dict[str, bytes], name: str) -> str:
    """Return the version of the bundle in a zip of these entries."""
    parsed: dict[str, Any] = {}
    for entry, content in contents.items():
        if entry.endswith(".json"):
            try:
                parsed[entry] = json.loads(content)
                check_renamed(f"{path}: {entry}", parsed[entry])
            except ReleaseError:
                raise
            except (ValueError, RecursionError) as error:
                raise ReleaseError(f"{path}: {entry} is not JSON ({error}).") from error
    metadata = parsed.get(f"{name}/configs/metadata.json")
    if metadata is None:
        raise ReleaseError(f"{path} holds no bundle: there is no {name}/configs/metadata.json.")
    try:
        check_version(metadata, f"{path}: {name}/configs/metadata.json")
        listed = parsed.get(f"{name}/large_files.json", {"large_files": []})["large_files"]
        hashes = {item["path"]: item["hash_val"] for item in listed}
        stated = {f"models/{file}": about["sha256"] for file, about in metadata.get("weights", {}).items()}
    except (LookupError, TypeError, AttributeError) as error:
        raise ReleaseError(
            f"{path}: metadata.json or large_files.json of {name} has not the entries that `release export` writes "
            f"({error!r}): discard it."
        ) from error
    for entry, content in contents.items():
        if entry.endswith((".pt", ".ts")):
            hashes[entry.removeprefix(f"{name}/")] = hashlib.sha256(content).hexdigest()
    if hashes != stated:
        differing = sorted(str(file) for file in {*hashes, *stated} if hashes.get(file) != stated.get(file))
        raise ReleaseError(f"{path}: not the weights that its metadata describe: {', '.join(differing)}.")
    return metadata["version"]
