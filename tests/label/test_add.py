"""A release is put into MONAI Label's app by one command, from a stand-in for the release address on loopback."""

from __future__ import annotations

import json
import shutil

import monai.bundle
import pytest

from common.checkpoints import content_hash
from label.add import add
from release.export import export
from release.source import ReleaseError
from tests.release.conftest import _repository, bundle  # noqa: F401  fixtures
from tests.release.conftest import server as address  # noqa: F401

NAME = "bundle_acdc"


@pytest.fixture
def app(tmp_path):
    """What MONAI Label makes of its app, without the folder for bundles."""
    (tmp_path / "monaibundle").mkdir()
    (tmp_path / "monaibundle" / "main.py").touch()
    return tmp_path / "monaibundle"


@pytest.fixture
def release(bundle, address):  # noqa: F811
    """Release a bundle, pre-trained weights beside it; return the folder and the address of the zip."""
    folder, url = address
    export(str(bundle), out=str(folder), large_files_url=url)
    shutil.rmtree(folder / bundle.name)
    (archive,) = folder.glob("*.zip")
    return folder, f"{url}/{archive.name}"


def models(app):
    return {path.name: content_hash(path) for path in (app / "model" / NAME / "models").glob("*.pt")}


def test_everything_is_fetched_and_checked(app, release, bundle, capsys):  # noqa: F811
    add(release[1], str(app))
    stated = json.loads((bundle / "configs" / "metadata.json").read_text())["weights"]
    assert (
        models(app) == {name: entry["sha256"] for name, entry in stated.items()} and "pretrained_encoder.pt" in stated
    )
    assert [path.name for path in (app / "model").iterdir()] == [NAME]
    assert f"Added {NAME}" in capsys.readouterr().out
    with pytest.raises(ReleaseError, match="is there already, perhaps with weights that were trained there"):
        add(release[1], str(app))


def test_a_file_will_do(app, release):
    archive = next(release[0].glob("*.zip"))
    add(str(archive), str(app))
    assert "model.pt" in models(app)


def test_an_encoder_alone_is_enough(app, bundle, tmp_path, capsys):  # noqa: F811
    path = bundle / "configs" / "metadata.json"
    metadata = json.loads(path.read_text())
    encoder = {"pretrained_encoder.pt": metadata["weights"]["pretrained_encoder.pt"]}
    path.write_text(json.dumps(metadata | {"weights": encoder, "eval_metrics": {}}))
    for path in (bundle / "models").glob("*.pt"):
        if path.name not in encoder:
            path.unlink()
    export(str(bundle), out=str(tmp_path / "out"))
    add(str(next((tmp_path / "out").glob("*.zip"))), str(app))
    assert list(models(app)) == ["pretrained_encoder.pt"]
    assert "segments after the first training, which starts from pretrained_encoder.pt" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: next(folder.glob("*encoder.pt")).write_bytes(b"other"), "hash check of downloaded file failed"),
        (lambda folder: next(folder.glob("*encoder.pt")).unlink(), "could not be fetched"),
        (lambda folder: next(folder.glob("*.zip")).write_bytes(b"PK"), "has the SHA-256"),
        (lambda folder: next(folder.glob("*.zip")).unlink(), "could not be fetched .*check the address"),
        (lambda folder: next(folder.glob("*.sha256")).unlink(), "could not be fetched .*give --sha256"),
    ],
    ids=["other weights", "no weights", "other zip", "no zip", "no hash"],
)
def test_what_is_not_right_leaves_nothing(damage, message, app, release):
    folder, url = release
    damage(folder)
    with pytest.raises(ReleaseError, match=message):
        add(url, str(app))
    assert list((app / "model").iterdir()) == []


def test_another_hash_is_refused(app, release):
    with pytest.raises(ReleaseError, match="instead of 0000"):
        add(release[1], str(app), sha256="0" * 64)


def test_an_app_is_needed(tmp_path):
    with pytest.raises(ReleaseError, match="app must be the folder of MONAI Label's app"):
        add("x.zip", str(tmp_path))


def test_the_file_names_are_those_that_monai_asks_a_release_page_for(app, release, monkeypatch):
    """`monai.bundle download --source github`, with loopback in the place of github.com."""
    folder, url = release
    asked = []

    def stand_in(owner, repository, tag_name, filename):
        asked.append((owner, repository, tag_name, filename))
        return f"{url.rpartition('/')[0]}/{filename}"

    monkeypatch.setattr("monai.bundle.scripts._get_git_release_url", stand_in)
    version = next(folder.glob("*.zip")).stem.rpartition("_v")[2]
    monai.bundle.download(NAME, version, app / "model", source="github", repo="owner/repository/tag", progress=False)
    assert asked == [("owner", "repository", "tag", f"{NAME}_v{version}.zip")]
    monai.bundle.download_large_files(str(app / "model" / NAME))
    assert {"model.pt", "pretrained_encoder.pt"} <= set(models(app))
