"""The network of a release as one file, as MONAI Deploy takes it."""

from __future__ import annotations

import json
import shutil
import zipfile

import pytest
import torch

from bundles.run import load_config
from common.checkpoints import content_hash, load_model
from release.archive import check_archive, write_zip
from release.source import ReleaseError
from release.torchscript import TORCHSCRIPT

from .made_up_repository import NAME


@pytest.fixture(scope="module")
def torchscript(released):
    return released / NAME / "models" / TORCHSCRIPT


def test_it_is_the_network_of_the_release(released, torchscript):
    network = load_config(released / NAME, "train")["network_def"]
    assert network["_target_"].startswith(f"scripts.{NAME}.")
    from common.networks import UNet2d

    expected = load_model(UNet2d(num_classes=4), torchscript.with_name("model.pt")).eval()
    slices = torch.rand(2, 1, 64, 96)
    scripted = torch.jit.load(str(torchscript))
    assert not scripted.training
    with torch.no_grad():
        torch.testing.assert_close(scripted(slices), expected(slices))


def test_it_holds_the_configs_where_monai_deploy_looks_for_them(released, torchscript):
    """A folder called like the file, `extra` in it; whatever else has these names would be taken instead."""
    with zipfile.ZipFile(torchscript) as archive:
        names = archive.namelist()
        assert {name.split("/")[0] for name in names} == {"model"}
        for name in ("inference", "metadata"):
            assert [entry for entry in names if f"{name}.json" in entry] == [f"model/extra/{name}.json"]
        inference = json.loads(archive.read("model/extra/inference.json"))
        metadata = json.loads(archive.read("model/extra/metadata.json"))
    configs = released / NAME / "configs"
    assert inference == json.loads((configs / "inference.json").read_text(encoding="utf-8"))
    described = json.loads((configs / "metadata.json").read_text(encoding="utf-8"))
    made = described["weights"].pop(TORCHSCRIPT)
    assert metadata == described
    assert made == {"made_from": "model.pt", "sha256": content_hash(torchscript)}


def test_it_does_not_say_where_it_was_made(torchscript):
    assert str(torchscript.parents[3]).encode() not in torchscript.read_bytes()
    with zipfile.ZipFile(torchscript) as archive:
        content = b"".join(archive.read(name) for name in archive.namelist() if name.startswith("model/code"))
    assert b"unet2d.py" not in content


def test_another_one_is_refused(released, tmp_path):
    shutil.copytree(released / NAME, tmp_path / NAME)
    for name in ("model.pt", TORCHSCRIPT):
        with (tmp_path / NAME / "models" / name).open("ab") as file:
            file.write(b" ")
        write_zip(tmp_path / NAME, tmp_path / "other.zip")
        with pytest.raises(ReleaseError, match=f"not the weights that its metadata describe: .*models/{name}"):
            check_archive(tmp_path / "other.zip")
