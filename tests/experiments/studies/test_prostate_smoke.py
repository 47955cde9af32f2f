from __future__ import annotations

import json

import matplotlib.image
import nibabel
import numpy as np
import pytest

from common.records import read_record
from experiments.studies import prostate_smoke as module
from experiments.studies.prostate_smoke import prostate_smoke
from phantom import write_prostate_phantom
from tests.processes import undisturbed

SMALL = {
    **{"image_size": [64, 64], "spacing_mm": 2.0, "n4_iterations": [5, 5]},
    **{"crop_size": 33, "crop_start": [3, 23], "hidden_features": 16, "device": "cpu", "precision": "float32"},
}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Three 4-D volumes, one of them with a label, and four 3-D ones, as the real ones are stored."""
    root = tmp_path_factory.mktemp("data")
    four_d, three_d = root / "Task05_like", root / "T2_only"
    ids = write_prostate_phantom(four_d, 7, 0, (40, 48))
    three_d.mkdir()
    for name in ids[1:]:
        (four_d / "labelsTr" / f"{name}.nii.gz").unlink()
    for name in ids[3:]:
        path = four_d / "imagesTr" / f"{name}.nii.gz"
        nibabel.save(nibabel.load(path).slicer[..., 0], three_d / f"{name}_T2.nii.gz")
        path.unlink()
    return root


@pytest.fixture
def steps(monkeypatch):
    for name in ("GLOBAL_STEPS", "LOCAL_STEPS", "FINE_TUNING_STEPS"):
        monkeypatch.setattr(module, name, 1)


def test_few_volumes_go_through_all_stages(data_dir, steps, tmp_path):
    pictures = tmp_path / "pictures"
    with undisturbed():
        prostate_smoke(str(data_dir), str(tmp_path / "smoke"), str(pictures), **SMALL)
    result = read_record(tmp_path / "smoke" / "smoke.json", "")
    assert result["labelled"] == "prostate_00"
    assert result["not_pre_trained_on"] == ["prostate_02", "prostate_10_T2"]
    assert set(result["seconds"]) == {"prepare", "pretrain_global", "pretrain_local", "train"}
    assert len(result["zones_ml"]) == 7
    assert all(0 <= value <= 1 for value in result["dice_on_the_volume_trained_on"].values())

    split = json.loads((tmp_path / "smoke" / "splits.json").read_text())
    assert len(split["pretrain"]) == 5 and not set(split["pretrain"]) & set(split["test"])
    for name, zones in result["zones_ml"].items():
        image = nibabel.load(tmp_path / "smoke" / "segmentations" / f"{name}_seg.nii.gz")
        voxels = np.asanyarray(image.dataobj)
        assert voxels.ndim == 3
        ml = (voxels == 1).sum() * np.prod(image.header.get_zooms()) / 1000
        assert zones["PZ"] == pytest.approx(ml, abs=0.06)
    picture = matplotlib.image.imread(pictures / "smoke.png")
    assert min(picture.shape[:2]) > 300
    assert (pictures / "smoke.png").stat().st_size < 300_000


def test_a_label_is_needed(data_dir, tmp_path):
    (tmp_path / "Task05_like").mkdir()
    for folder in ("Task05_like/imagesTr", "T2_only"):
        (tmp_path / folder).symlink_to(data_dir / folder)
    with pytest.raises(ValueError, match="data_dir must have a label in Task05_like/labelsTr"):
        prostate_smoke(str(tmp_path), str(tmp_path / "smoke"))
