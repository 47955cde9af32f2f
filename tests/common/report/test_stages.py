"""The reports of segmentations: the order of the files, and what is said of each."""

from __future__ import annotations

import json
import re

import nibabel
import numpy as np
import pytest

from common.pictures import VOLUMES
from common.report import SegmentationPage

CLASSES = ["background", "RV", "Myo"]


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image.nii.gz"
    array = np.random.default_rng(0).integers(0, 200, (12, 10, 4)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([-1.0, -1.0, 8.0, 1.0])), path)
    return str(path)


def cases_of(folder):
    page = (folder / "report.html").read_text(encoding="utf-8")
    texts = re.findall(r'<script type="application/json" id="case-\d+">(.*?)</script>', page, re.DOTALL)
    return page, [json.loads(text) for text in texts]


@pytest.mark.parametrize("sure", [True, False])
def test_the_least_sure_or_doubtful_file_comes_first(tmp_path, image, sure):
    page = SegmentationPage(CLASSES, VOLUMES, 3)
    labels = np.zeros((12, 10, 4), np.uint8)
    labels[3:6, 3:6, 2] = 1
    for dice, doubt in ((0.9, ""), (0.7, "no Myo was found"), (0.8, "")):
        expected = {"RV": dice, "Myo": dice, "mean": dice} if sure else {}
        entropy = np.full(labels.shape, 0.5) if sure else None
        page.add(image, labels, entropy, {"RV": 1.5, "Myo": 0.0}, expected, doubt)
    page.write(tmp_path / "out", {"checkpoint": "model.pt"}, {"/data/bad.nii.gz": "cannot be read"})
    text, cases = cases_of(tmp_path / "out")
    assert cases[0]["note"] == "no Myo was found" and [case["note"] for case in cases[1:]] == ["", ""]
    assert set(cases[0]["layers"]["maps"]) == {"prediction", *(["uncertainty"] if sure else [])}
    assert cases[0]["layers"]["start"] == 2
    assert cases[0]["structures"] == [
        ["RV", "1.5 ml", *(["0.700"] if sure else [])],
        ["Myo", "0.0 ml", *(["0.700"] if sure else [])],
    ]
    assert "not verified by anyone" in text and "/data/bad.nii.gz" in text and "model.pt" in text
    assert ("expected Dice" in text) is sure


def test_without_a_file_there_is_no_report(tmp_path):
    SegmentationPage(CLASSES, VOLUMES, 1).write(tmp_path, {}, {"a": "cannot be read"})
    assert not list(tmp_path.iterdir())
