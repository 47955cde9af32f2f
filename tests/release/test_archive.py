"""Zips of bundles that must not be unpacked."""

from __future__ import annotations

import json
import random
import re
import shutil
import stat
import struct
import zipfile

import pytest

from release.archive import check_archive, verify
from release.source import ReleaseError

from .made_up_repository import NAME


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


def add(name, content="x", mode=stat.S_IFREG | 0o644, compress_type=zipfile.ZIP_STORED):
    def apply(path):
        info = zipfile.ZipInfo("placeholder")
        info.filename = name  # as it is, which the constructor would cut and turn
        info.external_attr, info.compress_type = mode << 16, compress_type
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


def replaced(name, content):
    return rewrite(lambda entry, old: (entry, content if entry.endswith(name) else old))


# Where an entry of the list has what: its place from the start, and its form.
FLAGS, METHOD, SIZE, EXTERNAL_ATTRIBUTES = (8, "<H"), (10, "<H"), (20, "<L"), (38, "<L")


def with_central(field, value):
    """Change a field of the first entry in the list at the end."""
    place, form = field

    def apply(path):
        content = bytearray(path.read_bytes())
        (start,) = struct.unpack_from("<L", content, len(content) - 6)
        struct.pack_into(form, content, start + place, value)
        path.write_bytes(content)

    return apply


def many(path):
    with zipfile.ZipFile(path, "a") as archive:
        for number in range(2000):
            archive.writestr(f"{NAME}/{number}", "")


def shared(path):
    """Let 40 entries have the same 20 MB."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{NAME}/0", bytes(20_000_000))
        for number in range(1, 40):
            info = zipfile.ZipInfo(f"{NAME}/{number}")
            info.file_size = info.compress_size = 20_000_000
            info.CRC, info.header_offset = archive.infolist()[0].CRC, 0
            archive.filelist.append(info)
            archive.NameToInfo[info.filename] = info


def comment(path):
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"more"


def beside(content):
    return lambda path: path.with_name(f"{path.name}.sha256").write_bytes(content)


BAD_NAMES = (
    f"{NAME}/../../evil.py",
    f"{NAME}/configs/../x",
    f"./{NAME}/x",
    f"{NAME}/./x",
    f"{NAME}//x",
    f"{NAME}/",
    "/etc/evil",
    "//host/evil",
    "C:/evil",
    "..\\evil.py",
    f"{NAME}/a\\b",
    f"{NAME}/x\n",
    f"{NAME}/\x1b[2J",
    f"{NAME}/x ",
    f"{NAME}/x.",
    f"{NAME}/.hidden",
    f"{NAME}/caf\u00e9",
    f"{NAME}/x\u202egpj",
    f"{NAME}/" + "x" * 240,
)
BAD = {
    "cut short": (cut_short, "is no zip or was cut short .*: download it again"),
    "no zip": (lambda path: path.write_text("<html>not found</html>"), "is no zip or was cut short"),
    "empty": (lambda path: path.write_bytes(b""), "is no zip or was cut short"),
    "damaged": (flip, "is damaged: bundle_acdc/models/model.pt is not what was packed"),
    "missing": (lambda path: path.unlink(), "archive must be a file"),
    **{
        name: (add(name), f"has an entry {re.escape(repr(name[:240]))}: names must be plain paths")
        for name in BAD_NAMES
    },
    "link": (
        add(f"{NAME}/link", "/etc/passwd", stat.S_IFLNK | 0o777),
        "has 'bundle_acdc/link', which is no plain",
    ),
    "device": (add(f"{NAME}/null", "", stat.S_IFCHR | 0o666), "has 'bundle_acdc/null', which is no plain file"),
    "pipe": (add(f"{NAME}/pipe", "", stat.S_IFIFO | 0o666), "has 'bundle_acdc/pipe', which is no plain file"),
    "folder": (add(f"{NAME}/more", "", stat.S_IFDIR | 0o755), "has 'bundle_acdc/more', which is no plain file"),
    "folder of DOS": (with_central(EXTERNAL_ATTRIBUTES, 0x10), "which is no plain file"),
    "case": (add(f"{NAME}/configs/Train.json"), "and 'bundle_acdc/configs/Train.json', which are one on many systems"),
    "case of a folder": (add(f"{NAME}/Configs/new.json"), "and 'bundle_acdc/Configs', which are one on many systems"),
    "file where a folder is": (add(f"{NAME}/configs"), "has 'bundle_acdc/configs' as a file and as a folder"),
    "folder where a file is": (add(f"{NAME}/LICENSE/x"), "has 'bundle_acdc/LICENSE' as a file and as a folder"),
    "encrypted": (with_central(FLAGS, 1), "encrypted, which no release is"),
    "compressed": (
        add(f"{NAME}/x", "x" * 100, compress_type=zipfile.ZIP_DEFLATED),
        "'bundle_acdc/x' compressed, which no",
    ),
    "bomb": (
        add(f"{NAME}/x", bytes(30_000_000), compress_type=zipfile.ZIP_BZIP2),
        "'bundle_acdc/x' compressed, which no",
    ),
    "unknown compression": (with_central(METHOD, 99), "compressed, which no release is"),
    "large file": (
        add(f"{NAME}/x", bytes(25_000_001)),
        "of 25,000,001 bytes, a bundle's files have at most 25",
    ),
    "declared size": (with_central(SIZE, 5), "with the sizes"),
    "many entries": (many, r"has 2,\d{3} entries, listed in .* bytes, a release at most 1,000"),
    "shared content": (shared, "has 40 entries, of which 40 can be read, and these do not lie one behind the other"),
    "bytes before it": (lambda path: path.write_bytes(b"#!" + path.read_bytes()), "it does not end as a release does"),
    "comment": (comment, "is no zip or was cut short .it does not end as a release does"),
    "hash beside it that is none": (beside(b"\xff" * 5000), r"zip\.sha256 must be a SHA-256, 64 digits"),
    "empty hash beside it": (beside(b""), r"zip\.sha256 must be a SHA-256, 64 digits from 0 to f, got ''"),
    "weights that are no list": (with_metadata(weights=[1]), "has not the entries that `release export` writes"),
    "weights without a hash": (with_metadata(weights={"model.pt": {}}), "has not the entries .*KeyError"),
    "metadata that are a list": (replaced("configs/metadata.json", b"[]"), "has not the entries that `release export`"),
    "deep metadata": (replaced("configs/metadata.json", b"[" * 100_000), "metadata.json is not JSON"),
    "list of large files without entries": (replaced("large_files.json", b"{}"), "has not the entries .*KeyError"),
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
    "list left out": (without("large_files"), "metadata describe: models/model_all_labels.pt, models/pretrained_enc"),
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


def mutate(content, generator):
    """Flip, overwrite, cut out, repeat or exchange bytes; most often in the list at the end, where the structure is."""
    content = bytearray(content)
    (start,) = struct.unpack_from("<L", content, len(content) - 6)
    for _ in range(generator.choice((1, 1, 2, 8))):
        place = generator.randrange(start if generator.random() < 0.8 else 0, len(content))
        length = generator.choice((1, 2, 4, 30))
        match generator.randrange(5):
            case 0:
                content[place] ^= 1 << generator.randrange(8)
            case 1:
                content[place : place + length] = generator.randbytes(length)
            case 2:
                del content[place : place + length]
            case 3:
                content[place:place] = content[place : place + length]
            case 4:
                content[place : place + length] = generator.choice((b"\0", b"\xff")) * length
    return bytes(content)


@pytest.mark.parametrize("seed", range(5))
def test_mutated_zips_are_refused_or_hold_the_same(tmp_path, small, seed):
    """Whatever is done to the bytes: an error of ours, or a zip that is unpacked to what was packed."""
    whole, entries = small
    generator, path, refused = random.Random(seed), tmp_path / "mutated.zip", 0
    for _ in range(120):
        path.write_bytes(mutate(whole, generator))
        try:
            check_archive(path)
        except ReleaseError as error:
            assert str(path) in str(error)
            refused += 1
        else:
            with zipfile.ZipFile(path) as archive:
                assert {name: archive.read(name) for name in archive.namelist()} == entries
    assert 60 < refused < 120


@pytest.fixture(scope="module")
def small(released, tmp_path_factory):
    """The bytes of a release without its weights, which are most of it, and its entries."""
    path = tmp_path_factory.mktemp("small") / "small.zip"
    shutil.copyfile(next(released.glob("*.zip")), path)
    without(r"\.pt|\.ts|large_files|\.py|docs/")(path)
    with_metadata(weights={})(path)
    check_archive(path)
    with zipfile.ZipFile(path) as archive:
        return path.read_bytes(), {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("beside", [True, False], ids=["file beside it", "argument"])
def test_another_hash(archive, beside):
    wrong = "0" * 64
    if beside:
        archive.with_name(f"{archive.name}.sha256").write_text(f"{wrong}  {archive.name}\n")
    with pytest.raises(ReleaseError, match=f"has the SHA-256 [0-9a-f]{{64}} instead of {wrong}"):
        verify(str(archive), **({} if beside else {"sha256": wrong}))
