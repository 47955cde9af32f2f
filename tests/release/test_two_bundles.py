"""Several bundles in one process: each finds its own code, whoever loads them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from phantom import write_acdc_phantom
from release.export import export
from tests.phantoms import PREPROCESSING

from .clean_process import run_clean
from .made_up_repository import NAME, copy_bundle

OTHER = "bundle_other"


def test_every_bundle_of_the_repository_finds_its_code(exported, tmp_path):
    bundles, out = exported
    run_clean(tmp_path, Path(__file__).with_name("all_bundles.py"), out, tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    assert list(found) == bundles
    for about in found.values():
        assert about["names"] > 30 and about["missing"] == [] and about["own"]


@pytest.mark.parametrize("way", ["plainly", "as MONAI Label"])
def test_each_has_its_own_code(released, tmp_path, way):
    export(str(copy_bundle(tmp_path / "source", OTHER)), out=str(tmp_path / "second"))
    shutil.copytree(released / NAME, tmp_path / "first" / NAME)
    roots = [tmp_path / "first" / NAME, tmp_path / "second" / OTHER]
    for root in roots:
        with (root / "scripts" / root.name / "networks" / "unet2d.py").open("a") as code:
            code.write(f"\nMARK = {root.name!r}\n")
    (roots[1] / "models").mkdir(exist_ok=True)
    weights = torch.load(roots[0] / "models" / "model.pt", weights_only=True)
    torch.save({name: value + 1 for name, value in weights.items()}, roots[1] / "models" / "model.pt")
    (tmp_path / "zoo" / "scripts").mkdir(parents=True)
    (tmp_path / "zoo" / "scripts" / "__init__.py").touch()
    (tmp_path / "zoo" / "scripts" / "losses.py").write_text("MARK = 'zoo'\n")
    (patient,) = write_acdc_phantom(tmp_path / "data", 1, size=(32, 36))
    settings = {
        "way": way,
        "roots": [str(root) for root in roots],
        "image": str(tmp_path / "data" / "training" / patient / f"{patient}_frame01.nii.gz"),
        "preprocessing": PREPROCESSING,
        "other": str(tmp_path / "zoo") if way == "plainly" else "",
    }
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    script = Path(__file__).with_name("two_bundles.py")
    run_clean(tmp_path, script, tmp_path / "settings.json", tmp_path / "found.json")
    *found, last = json.loads((tmp_path / "found.json").read_text())
    if way == "plainly":
        assert last == "zoo"
    else:
        found.append(last)
    for entry, root in zip(found, (*roots, *roots), strict=True):
        assert entry["mark"] == root.name and entry["module"] == f"scripts.{root.name}.networks.unet2d"
        assert entry["output"] == [1, 4, 32, 32]
        if way == "plainly":
            assert Path(entry["file"]).is_relative_to(root)
        else:
            assert entry["preprocessed"][:3] == [1, 64, 64]
