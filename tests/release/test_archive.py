"""Zips of bundles that must not be unpacked."""

from __future__ import annotations

import json
import re
import shutil
import stat
import zipfile

import pytest

from release.archive import verify
from release.source import ReleaseError

from .conftest import NAME


@pytest.fixture
def archive(released, tmp_path):
    """A good zip, to be made a bad one, and the hash that it should have."""
    (path,) = released.glob("*.zip")
    shutil.copyfile(path, tmp_path / path.name)
    return tmp_path / path.name


def test_good(archive, released, capsys):
    digest = archive.with_name(f"{archive.name}.sha256")
    shutil.copyfile(released / digest.name, digest)
    verify(str(archive))
    verify(str(archive), sha256=digest.read_text().split()[0].upper())
    assert re.search(rf"{NAME} \d+\.\d+\.\d+, whole; SHA-256 [0-9a-f]{{64}}\.", capsys.readouterr().out)


def test_nothing_is_unpacked(archive):
    before = {path.name for path in archive.parent.iterdir()}
    verify(str(archive))
    assert {path.name for path in archive.parent.iterdir()} == before


def cut_short(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    """Change a byte of the weights."""
    content = bytearray(path.read_bytes())
    content[content.index(b"models/model.pt") + 1_000_000] ^= 1
    path.write_bytes(content)


def add(name, content="x", mode=stat.S_IFREG | 0o644):
    def apply(path):
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(info, content)

    return apply


def rewrite(change):
    """Pack the entries anew: `change` gets name and content, and returns what to pack, or None."""

    def apply(path):
        with zipfile.ZipFile(path) as archive:
            entries = [change(name, archive.read(name)) for name in archive.namelist()]
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in filter(None, entries):
                archive.writestr(name, content)

    return apply


def without(pattern):
    return rewrite(lambda name, content: None if re.search(pattern, name) else (name, content))


def with_metadata(**changes):
    def change(name, content):
        if name.endswith("configs/metadata.json"):
            content = json.dumps({**json.loads(content), **changes})
        return name, content

    return rewrite(change)


BAD = {
    "cut short": (cut_short, "is no zip or was cut short .*: download it again"),
    "no zip": (lambda path: path.write_text("<html>not found</html>"), "is no zip or was cut short"),
    "empty": (lambda path: path.write_bytes(b""), "is no zip or was cut short"),
    "damaged": (flip, "is damaged: bundle_acdc/models/model.pt is not what was packed"),
    "missing": (lambda path: path.unlink(), "archive must be a file"),
    "path above": (
        add(f"{NAME}/../../evil.py"),
        r"an entry that would leave its folder, 'bundle_acdc/\.\./\.\./evil.py'",
    ),
    "absolute path": (add("/etc/evil"), "an entry that would leave its folder, '/etc/evil'"),
    "drive": (add("C:/evil"), "an entry that would leave its folder, 'C:/evil'"),
    "path of Windows": (add("..\\evil.py"), "an entry that would leave its folder"),
    "link": (add(f"{NAME}/link", "/etc/passwd", stat.S_IFLNK | 0o777), "has a link, 'bundle_acdc/link'"),
    "beside the folder": (add("evil.py"), r"must have one folder at its top, .* got \['bundle_acdc', 'evil.py'\]"),
    "another bundle": (without("metadata"), "holds no bundle: there is no bundle_acdc/configs/metadata.json"),
    "metadata that are not JSON": (
        rewrite(lambda name, content: (name, b"{" if name.endswith("metadata.json") else content)),
        "metadata.json is not JSON",
    ),
    "version not in the changelog": (with_metadata(version="9.9.9"), "version 9.9.9 is not in its changelog"),
    "names the repository's package": (
        with_metadata(x="$import common.errors"),
        "bundle_acdc/configs/metadata.json still names `common`",
    ),
    "model left out": (without(r"model\.pt"), "not the weights that its metadata describe: models/model.pt"),
    "weights that are not described": (add(f"{NAME}/models/more.pt"), "metadata describe: models/more.pt"),
    "other weights": (
        rewrite(lambda name, content: (name, b"other" if name.endswith("model.pt") else content)),
        "metadata describe: models/model.pt",
    ),
    "list left out": (without("large_files"), "metadata describe: models/pretrained_encoder.pt, models/pretrained_enc"),
}


@pytest.mark.parametrize(("fault", "message"), BAD.values(), ids=BAD)
def test_bad(archive, fault, message):
    fault(archive)
    with pytest.raises(ReleaseError, match=message):
        verify(str(archive))


def test_an_entry_that_comes_twice(archive):
    with pytest.warns(UserWarning, match="Duplicate name"):
        add(f"{NAME}/configs/train.json", "{}")(archive)
    with pytest.raises(ReleaseError, match=r"has 'bundle_acdc/configs/train.json' twice"):
        verify(str(archive))


@pytest.mark.parametrize("beside", [True, False], ids=["file beside it", "argument"])
def test_another_hash(archive, beside):
    wrong = "0" * 64
    if beside:
        archive.with_name(f"{archive.name}.sha256").write_text(f"{wrong}  {archive.name}\n")
    with pytest.raises(ReleaseError, match=f"has the SHA-256 [0-9a-f]{{64}} instead of {wrong}"):
        verify(str(archive), **({} if beside else {"sha256": wrong}))
