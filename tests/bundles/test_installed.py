"""The wheel alone: bundles, phantoms and demonstration without the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bundles.facts import FactsError
from bundles.places import bundle_folder, copy, path
from tests.phantoms import as_text, make_phantom
from tests.places import BUNDLES, REPOSITORY


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from what git tracks or could."""
    root = tmp_path_factory.mktemp("wheel")
    command = ["git", "-C", str(REPOSITORY), "ls-files", "-co", "--exclude-standard"]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    for name in names:
        if (REPOSITORY / name).is_file() and not name.startswith("experiments/results/"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPOSITORY / name, root / name)
    for bundle in BUNDLES.values():  # as runs leave them
        (root / bundle.name / "output" / "train").mkdir(parents=True)
        (root / bundle.name / "output" / "train" / "left.json").touch()
    code = "from setuptools import build_meta; build_meta.build_wheel('dist')"
    subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=True)
    (built,) = (root / "dist").glob("*.whl")
    return zipfile.ZipFile(built)


@pytest.fixture(scope="module")
def site(wheel: zipfile.ZipFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like `site-packages` with what the wheel installs."""
    folder = tmp_path_factory.mktemp("site")
    wheel.extractall(folder)
    return folder


def run(site: Path, cwd: Path, *command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_has_what_bundles_need_and_nothing_else(wheel):
    names = set(wheel.namelist())
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {
        "common",
        "bundles",
        "phantom",
        "release",
        "label",
        "experiments",
        *(f.name for f in BUNDLES.values()),
    }
    for bundle in BUNDLES.values():
        own = {name.split("/", 1)[1] for name in names if name.startswith(f"{bundle.name}/")}
        configs = {f"configs/{file.name}" for file in (bundle / "configs").iterdir()}
        assert {"LICENSE", "dataset.json", "docs/README.md", "docs/data_license.txt", *configs} <= own
        assert {name.split("/")[0] for name in own} == {"LICENSE", "dataset.json", "configs", "docs"}
    data = [
        file for room in ("common", "bundles", "label") for file in (REPOSITORY / room).rglob("*") if file.is_file()
    ]
    assert {file.relative_to(REPOSITORY).as_posix() for file in data if "__pycache__" not in file.parts} <= names
    assert "experiments/paper.json" in names
    assert "common/py.typed" in names and not [name for name in names if name.endswith((".pt", ".nii.gz"))]


def test_a_bundle_is_found_where_it_is_installed(site, tmp_path):
    assert run(site, tmp_path, "bundles", "path", "acdc").strip() == str((site / "bundle_acdc").resolve())
    run(site, tmp_path, "bundles", "copy", "mmwhs")
    assert (tmp_path / "bundle_mmwhs" / "configs" / "train.json").is_file()


def test_a_bundle_is_found_here(tmp_path):
    assert path("prostate") == str(BUNDLES["prostate"]) == str(bundle_folder("bundle_prostate"))
    with pytest.raises(FactsError, match="name must be acdc, cityscapes, mmwhs, prostate"):
        path("heart")


def test_a_copy_has_no_traces_of_runs_and_replaces_nothing(tmp_path, monkeypatch):
    source = tmp_path / "source" / "bundle_mine"
    for name in ("dataset.json", "configs/train.json", "cache/a.pt", "output/train/model.pt", "models/model.pt"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).touch()
    (tmp_path / "out").mkdir()
    copy(str(source), out=str(tmp_path / "out"))
    files = {file.relative_to(tmp_path / "out" / "bundle_mine").as_posix() for file in tmp_path.glob("out/*/**/*.*")}
    assert files == {"dataset.json", "configs/train.json", "models/model.pt"}
    with pytest.raises(FactsError, match="out must be a folder without bundle_mine"):
        copy(str(source), out=str(tmp_path / "out"))


def test_the_licence_is_one():
    """The wheel has no other file of the repository's own folder, so that the text is among the templates as well."""
    texts = {(folder / "LICENSE").read_text() for folder in (REPOSITORY, REPOSITORY / "bundles" / "stages")}
    assert len(texts) == 1


@pytest.mark.slow
def test_training_on_a_phantom_with_the_wheel_alone(site, tmp_path):
    phantom = make_phantom("acdc", tmp_path / "phantom")
    root = run(site, tmp_path, "bundles", "path", "acdc").strip()
    settings = phantom.settings("pretrain_global", tmp_path / "out")
    options = [f"--{key}={str(as_text(value)).replace(' ', '')}" for key, value in settings.items()]
    run(
        *(site, tmp_path, "monai.bundle", "run", "training", f"--config_file={root}/configs/pretrain_global.json"),
        *(f"--bundle_root={root}", *options),
    )
    assert (tmp_path / "out" / "models" / "pretrained_encoder.pt").is_file()
    assert not (site / "bundle_acdc" / "models").exists() and not (site / "bundle_acdc" / "output").exists()
