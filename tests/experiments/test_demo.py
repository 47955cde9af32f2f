from __future__ import annotations

import dataclasses
import functools
import json

import nibabel
import numpy as np
import pytest
from PIL import Image

from experiments import demo as module
from experiments.demo import TASKS, demo
from tests.processes import undisturbed

CLASSES = {"acdc": {"RV", "Myo", "LV"}, "prostate": {"PZ", "CZ"}, "mmwhs": {"Myo", "LA", "LV", "RA", "RV", "AA", "PA"}}
CLASSES["cityscapes"] = {"road", "sky", "car"}


@pytest.fixture
def tiny(monkeypatch):
    """A step or three of each stage on small phantoms, with an N4 that hardly iterates."""
    for name, value in {
        **{"NUM_PRETRAIN": 5, "NUM_TEST": 1, "GLOBAL_STEPS": 1, "FINE_TUNING_STEPS": 3},
        "CROP": {"crop_size": 33, "crop_start": [3, 23]},
    }.items():
        monkeypatch.setattr(module, name, value)
    for name, task in TASKS.items():
        geometry = {"image_size": [64, 64]}
        if "spacing_mm" in task.geometry:
            geometry |= {"spacing_mm": 1.5 * task.geometry["spacing_mm"], "n4_iterations": [5, 5]}
        write = functools.partial(task.write, size=(40, 48))
        monkeypatch.setitem(TASKS, name, dataclasses.replace(task, write=write, geometry=geometry))


# The bundles of all datasets are run by tests/bundles; here it is the demonstration that is tested.
@pytest.mark.parametrize(
    "dataset", ["acdc", *(pytest.param(name, marks=pytest.mark.slow) for name in TASKS if name != "acdc")]
)
def test_whole_chain_for_each_dataset(tiny, tmp_path, capsys, dataset):
    root = tmp_path / "demo"
    with undisturbed():
        demo(str(root), dataset)
    report = capsys.readouterr().out
    items = TASKS[dataset].datalist(root / "phantom")
    labelled = [item for item in items if "label" in item]
    assert len(labelled) == 7
    assert len(list((root / "cache").glob("*.pt"))) == len(items), "prepare has stored every volume"
    for start in ("random", "pre-trained"):
        means = json.loads((root / start / "test" / "evaluation.json").read_text())["mean_dice"]
        assert CLASSES[dataset] <= set(means)
        assert f"  {start:12s}" in report
    (segmentation,) = (root / "segmentations").glob(f"*{TASKS[dataset].suffix}")
    assert str(segmentation) in report
    (changed,) = (root / "new").iterdir()
    if dataset == "cityscapes":
        assert Image.open(changed).size == Image.open(segmentation).size == (24, 20)
    else:
        image, labels = nibabel.load(changed), nibabel.load(segmentation)
        assert nibabel.aff2axcodes(image.affine) == ("S", "A", "R")
        assert labels.shape == image.shape[:3]
        np.testing.assert_allclose(labels.affine, image.affine, atol=1e-5)
    (picture,) = (root / "pre-trained" / "test" / "pictures").iterdir()  # of the one for the test
    assert str(picture) in report


def test_phantoms_can_have_the_anatomy_of_real_labels(tiny, monkeypatch, tmp_path):
    """What is given as a folder of labels gets to what writes the phantoms; nothing else is run here."""
    given = {}

    def write(*_, **options):
        given.update(options)
        raise InterruptedError

    monkeypatch.setitem(TASKS, "prostate", dataclasses.replace(TASKS["prostate"], write=write))
    with pytest.raises(InterruptedError):
        demo(str(tmp_path / "demo"), "prostate", labels_dir=str(tmp_path))
    assert given == {"labels_dir": str(tmp_path)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset": "brats"}, "dataset must be one of acdc, prostate, mmwhs, cityscapes, got 'brats'"),
        ({"labels_dir": "."}, "labels_dir must be a folder .* dataset prostate, got '.' and 'acdc'"),
        ({"dataset": "prostate", "labels_dir": "nowhere"}, "labels_dir must be a folder .* got 'nowhere'"),
    ],
    ids=["dataset", "labels of another dataset", "no labels"],
)
def test_demo_rejects(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        demo(str(tmp_path / "demo"), **arguments)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_no_demo_has_made_is_left_alone(tmp_path):
    (tmp_path / "phantom").mkdir()
    with pytest.raises(ValueError, match="output_dir must be empty or the folder of an earlier demo"):
        demo(str(tmp_path))
    assert (tmp_path / "phantom").is_dir()
