"""Datasets fetched by MONAI's downloader from a stand-in on loopback, after their terms were shown."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import tarfile
import threading

import pytest
from monai.apps import DecathlonDataset

from bundles.data import DownloadError, data
from bundles.facts import FactsError

TASK = "Task05_Prostate"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """An archive in the place of the real one, which is half a gigabyte."""
    (tmp_path / "www" / TASK).mkdir(parents=True)
    (tmp_path / "www" / TASK / "dataset.json").write_text(json.dumps({"name": "PROSTATE"}))
    path = tmp_path / "www" / f"{TASK}.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(tmp_path / "www" / TASK, TASK)
    handler = functools.partial(Quiet, directory=str(tmp_path / "www"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setitem(DecathlonDataset.resource, TASK, f"http://127.0.0.1:{server.server_address[1]}/{TASK}.tar")
        monkeypatch.setitem(DecathlonDataset.md5, TASK, hashlib.md5(path.read_bytes()).hexdigest())
        yield path
        server.shutdown()


def test_nothing_is_fetched_before_the_terms_are_accepted(archive, tmp_path, capsys):
    data("prostate", out=str(tmp_path / "out"))
    said = capsys.readouterr().out
    assert "CC BY-SA 4.0" in said and "imagesTr/prostate_00.nii.gz" in said and "--accept_terms" in said
    assert not (tmp_path / "out").exists()


def test_it_is_fetched_once_and_whole(archive, tmp_path, capsys):
    out = tmp_path / "out"
    data("prostate", out=str(out), accept_terms=True)
    assert [path.name for path in out.iterdir()] == [TASK] and (out / TASK / "dataset.json").is_file()
    assert f"python -m bundles check prostate --dataset_dir {out / TASK}" in capsys.readouterr().out
    archive.unlink()
    data("prostate", out=str(out), accept_terms=True)
    assert "is there already" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["other content", "cut short", "not there"])
def test_what_is_not_the_archive_leaves_nothing(damage, archive, tmp_path):
    match damage:
        case "other content":
            archive.write_bytes(archive.read_bytes() + b"x")
        case "cut short":
            archive.write_bytes(archive.read_bytes()[:-1])
        case "not there":
            archive.unlink()
    with pytest.raises(DownloadError, match=rf"{TASK}.tar could not be fetched to .*MD5 is") as caught:
        data("prostate", out=str(tmp_path / "out"), accept_terms=True)
    assert DecathlonDataset.md5[TASK] in str(caught.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_an_archive_that_is_there_is_taken_if_it_is_the_right_one(archive, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / archive.name).write_bytes(b"half of it")
    with pytest.raises(DownloadError, match="move away a file of that name"):
        data("prostate", out=str(out), accept_terms=True)
    archive.rename(out / archive.name)
    data("prostate", out=str(out), accept_terms=True)
    assert (out / TASK / "dataset.json").is_file()


@pytest.mark.parametrize(
    ("name", "address", "layout"),
    [
        ("acdc", "https://www.creatis.insa-lyon.fr/Challenge/acdc/", "dataset_dir/training/patientXXX"),
        ("mmwhs", "https://zmiclab.github.io/zxh/0/mmwhs/", "mr_train/mr_train_1001_image.nii.gz"),
        ("cityscapes", "https://www.cityscapes-dataset.com", "gtFine_trainvaltest.zip"),
    ],
)
def test_where_the_others_are_to_be_had(name, address, layout, tmp_path, capsys):
    data(name)
    said = capsys.readouterr().out
    assert address in said and layout in said and f"python -m bundles check {name} --dataset_dir" in said
    with pytest.raises(FactsError, match="out must be left out"):
        data(name, out=str(tmp_path / "out"), accept_terms=True)
    assert not (tmp_path / "out").exists()
