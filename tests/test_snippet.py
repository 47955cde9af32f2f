"""The Python in the README and in docs/python.md, run as it is there, on a phantom and small weights."""

from __future__ import annotations

import json
import re
import shutil

import nibabel
import numpy as np
import torch

from common.checkpoints import save_atomically, select_parts
from common.networks import UNet2d
from phantom import write_acdc_phantom
from tests.places import REPOSITORY


def python_of(page):
    return re.findall(r"```python\n(.*?)```", (REPOSITORY / page).read_text(encoding="utf-8"), re.DOTALL)


def test_readme_fine_tunes_and_describes(tmp_path, monkeypatch):
    (fine_tuning,) = python_of("README.md")
    description, *_ = python_of("docs/python.md")
    assert 'torch.device("cpu"), 100,' in fine_tuning
    assert len([line for line in fine_tuning.splitlines() if line and "import " not in line]) == 10

    shutil.copytree(REPOSITORY / "bundle_acdc" / "configs", tmp_path / "bundle_acdc" / "configs")
    path = tmp_path / "bundle_acdc" / "configs" / "train.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config.update(image_size=[64, 64], spacing_mm=2.4, n4_iterations=[5, 5])
    path.write_text(json.dumps(config), encoding="utf-8")
    weights = select_parts(UNet2d(num_classes=4).state_dict(), ["encoder."])
    save_atomically(weights, tmp_path / "bundle_acdc" / "models" / "pretrained_encoder.pt")
    (patient,) = write_acdc_phantom(tmp_path, 1, size=(64, 72))
    stem = tmp_path / "training" / patient / f"{patient}_frame01"
    stem.with_suffix(".nii.gz").rename(tmp_path / "image.nii.gz")
    label = nibabel.load(f"{stem}_gt.nii.gz")
    lesion = nibabel.Nifti1Image((np.asanyarray(label.dataobj) == 3).astype(np.uint8), label.affine)
    nibabel.save(lesion, tmp_path / "label.nii.gz")

    monkeypatch.chdir(tmp_path)
    names: dict = {}
    torch.manual_seed(0)
    exec(fine_tuning.replace('"cpu"), 100,', '"cpu"), 10,'), names)
    network, volume = names["network"].eval(), names["volume"]
    assert network.head[-1].out_channels == 2
    assert not network.encoder.levels[0][0][0].weight.equal(weights["encoder.levels.0.0.0.weight"])  # it was trained
    with torch.no_grad():
        found = network(volume["image"].as_tensor().permute(3, 0, 1, 2)).argmax(1)
    true = volume["label"].as_tensor()[0].permute(2, 0, 1) == 1
    dice = 2 * (found & true).sum() / (found.sum() + true.sum())
    assert dice > 0.3  # all foreground would have 0.1

    exec(description, names)
    for name, value in names["encoder"].state_dict().items():
        assert value.equal(weights[f"encoder.{name}"])
    shapes = [tuple(level.shape) for level in names["levels"]]
    num_slices = label.shape[2]
    assert shapes[0] == (num_slices, 16, 64, 64) and shapes[-1] == (num_slices, 128, 2, 2)
    assert names["features"].shape == (128,) and names["features"].isfinite().all() and names["features"].std() > 0
