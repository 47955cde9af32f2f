"""What MONAI does with the address of a release, from a server on loopback."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
import sys
import textwrap
import zipfile

import pytest
from monai.apps.utils import HashCheckError
from monai.bundle import download, download_large_files, load_bundle_config

from common.checkpoints import content_hash
from release.source import ReleaseError
from tests.places import REPOSITORY

from .clean_process import run_clean
from .made_up_repository import NAME, edit

ENCODER = "pretrained_encoder.pt"


@pytest.fixture
def site(released, server):
    """The files of a release on a server: their folder, its address, the zip's name."""
    folder, address = server
    for path in released.iterdir():
        if path.is_file():
            shutil.copyfile(path, folder / path.name)
    return folder, address, next(folder.glob("*.zip")).name


@pytest.fixture
def downloaded(released, tmp_path, site):
    """An unpacked bundle whose list of large files names the server."""
    _, address, _ = site
    shutil.copytree(released / NAME, tmp_path / NAME)
    path = tmp_path / NAME / "large_files.json"
    path.write_text(path.read_text().replace("https://example.org/releases", address))
    return tmp_path / NAME


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_commands_of_the_documents(site, released, tmp_path):
    _, address, archive = site
    page = (REPOSITORY / "docs" / "releases.md").read_text(encoding="utf-8")
    (command,) = re.findall("python -m (monai.bundle download .*)", page)
    command = command.replace("https://release-address.invalid/bundle_acdc_vX.Y.Z.zip", f"{address}/{archive}")
    run_clean(tmp_path, *command.split())
    assert files(tmp_path / "downloads" / NAME) == files(released / NAME)
    for name in files(released / NAME):
        assert (tmp_path / "downloads" / NAME / name).read_bytes() == (released / NAME / name).read_bytes()
    parser = load_bundle_config(str(tmp_path / "downloads" / NAME), "inference.json")
    assert parser["_meta_#version"] in archive
    manual = (tmp_path / "downloads" / NAME / "docs" / "README.md").read_text(encoding="utf-8")
    code = textwrap.dedent(manual.split("## From Python\n")[1].split("\nThe code")[0])
    (tmp_path / "use.py").write_text(f"{code}\nprint(type(network))")
    assert f"scripts.{NAME}.networks.unet2d.UNet2d" in run_clean(tmp_path, "use.py").stdout


def test_checksum_can_be_checked_without_python(site):
    if not (tool := shutil.which("sha256sum")):
        pytest.skip("sha256sum is not installed")
    folder, _, archive = site
    for expected in (0, 1):
        done = subprocess.run([tool, "-c", f"{archive}.sha256"], cwd=folder, capture_output=True, check=False)
        assert done.returncode == expected
        (folder / archive).write_bytes(b"other")


def test_large_files(downloaded, released):
    download_large_files(bundle_path=str(downloaded))
    metadata = json.loads((downloaded / "configs" / "metadata.json").read_text())
    for name in (ENCODER, "pretrained_encoder_decoder.pt"):
        assert content_hash(downloaded / "models" / name) == metadata["weights"][name]["sha256"]


def test_a_wrong_hash_leaves_no_file(downloaded, site):
    folder, _, _ = site
    (asset,) = folder.glob(f"*_{ENCODER}")
    asset.write_bytes(asset.read_bytes()[:-1] + b"x")
    before = files(downloaded)
    with pytest.raises(HashCheckError, match="sha256 hash check of downloaded file failed"):
        download_large_files(bundle_path=str(downloaded))
    assert files(downloaded) == before


def test_a_large_file_that_would_leave_the_bundle(downloaded):
    path = downloaded / "large_files.json"
    listed = json.loads(path.read_text())["large_files"]
    edit(path, large_files=[{**listed[0], "path": "../evil.pt"}])
    with pytest.raises(ValueError, match="Unsafe path: path traversal ../evil.pt"):
        download_large_files(bundle_path=str(downloaded))
    assert not (downloaded.parent / "evil.pt").exists()


def test_a_download_that_breaks_off(site, tmp_path):
    _, address, archive = site
    with pytest.raises(OSError, match="retrieval incomplete: got only"):
        download(name=NAME, url=f"{address}/short/{archive}", bundle_dir=tmp_path / "new", progress=False)
    assert not (tmp_path / "new").exists()


def test_a_zip_that_leaves_its_folder(site, tmp_path):
    folder, address, archive = site
    with zipfile.ZipFile(folder / archive, "a") as opened:
        opened.writestr(f"{NAME}/../../evil.py", "x")
    with pytest.raises(ValueError, match="Unsafe path"):
        download(name=NAME, url=f"{address}/{archive}", bundle_dir=tmp_path / "new", progress=False)
    assert not list(tmp_path.rglob("evil.py"))


def test_what_is_there_is_not_overwritten(site, tmp_path):
    _, address, archive = site
    (tmp_path / "new" / NAME).mkdir(parents=True)
    (tmp_path / "new" / NAME / "mine.txt").write_text("mine")
    download(name=NAME, url=f"{address}/{archive}", bundle_dir=tmp_path / "new", progress=False)
    assert files(tmp_path / "new" / NAME) == {"mine.txt"}


def test_command_that_verifies(site, monkeypatch):
    folder, _, archive = site
    monkeypatch.setattr(sys, "argv", ["release", "verify", str(folder / archive)])
    runpy.run_module("release", run_name="__main__")
    (folder / archive).write_bytes((folder / archive).read_bytes()[:1000])
    (folder / f"{archive}.sha256").unlink()
    with pytest.raises(ReleaseError, match=f"{archive} is no zip or was cut short"):
        runpy.run_module("release", run_name="__main__")
