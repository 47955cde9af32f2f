"""Ejection fractions: from volumes, and of the patients of a dataset through the config of the evaluation."""

from __future__ import annotations

import csv
import json

import nibabel
import numpy as np
import pytest

from common.checkpoints import save_atomically
from common.data.volume_files import DatasetError
from common.ejection_fractions import ejection_fraction
from common.networks import UNet2d
from phantom import write_acdc_phantom
from tests.phantoms import Phantom, voxels

VENTRICLES = {"RV": 1, "LV": 3}
TEST = ["patient006", "patient007"]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (200.0, 80.0, 60.0),
        (100.0, 100.0, 0.0),
        (100.0, 120.0, -20.0),
        (80.0, 0.0, 100.0),
        (0.0, 5.0, None),
        (None, 5.0, None),
        (80.0, None, None),
    ],
)
def test_by_hand(start, end, expected):
    assert ejection_fraction(start, end) == (expected if expected is None else pytest.approx(expected))


@pytest.fixture(scope="module")
def cine(tmp_path_factory):
    """Seven patients with both phases, and a network."""
    cine = Phantom(tmp_path_factory.mktemp("cine"))
    write_acdc_phantom(cine.dataset_dir, 7, size=(64, 72), end_systole=True)
    ids = [f"patient00{number}" for number in range(1, 8)]
    draws = {"1": {"c1": {"labelled": ids[:1], "validation": []}}}
    cine.split_path.write_text(json.dumps({"pretrain": ids[:5], "test": ids[5:], "draws": draws}))
    save_atomically(UNet2d(num_classes=4).state_dict(), cine.root / "models" / "model.pt")
    return cine


def frame(cine, patient, suffix=""):
    return cine.dataset_dir / "training" / patient / f"{patient}_frame12{suffix}.nii.gz"


def run(cine, folder, **options):
    options = {"pictures": False, "n4_shrink": None, "ejection_fractions": True, **options}
    cine.run("evaluate", folder, ckpt_dir=cine.root / "models", **{"dataset#num_workers": 0}, **options)
    return json.loads((folder / "evaluate" / "evaluation.json").read_text())


def expected_percent(cine, patient, value):
    counts = [
        (voxels(cine.dataset_dir / "training" / patient / f"{patient}_frame{number}_gt.nii.gz") == value).sum()
        for number in ("01", "12")
    ]
    return 100 * (counts[0] - counts[1]) / counts[0]


def test_of_the_patients_of_an_evaluation(cine, tmp_path):
    summary = run(cine, tmp_path, pictures=True)
    rows = summary["ejection_fractions"]["volumes"]
    assert [(row["id"], row["frame"]) for row in rows] == [(id_, f"{id_}_frame12") for id_ in TEST]
    for row in rows:
        for name, value in VENTRICLES.items():
            assert row[f"{name}_label_percent"] == pytest.approx(expected_percent(cine, row["id"], value))
            assert row[f"{name}_label_percent"] > 5  # the phantom's hearts contract
    assert set(summary["ejection_fractions"]["agreement"]) == set(VENTRICLES)
    with open(tmp_path / "evaluate" / "ejection_fractions.csv", newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == TEST
    # The frame is segmented as any volume is: an evaluation of that frame alone gives the same volume.
    items = [{"id": id_, "image": str(frame(cine, id_)), "label": str(frame(cine, id_, "_gt"))} for id_ in TEST]
    alone = run(cine, tmp_path / "alone", ejection_fractions=False, **{"dataset#data": items})
    for row, start, end in zip(
        rows, summary["structure_volumes"]["volumes"], alone["structure_volumes"]["volumes"], strict=True
    ):
        for name in VENTRICLES:
            volumes = [own[f"{name}_prediction_ml"] for own in (start, end)]
            wanted = ejection_fraction(*volumes)
            assert row[f"{name}_prediction_percent"] == (wanted if wanted is None else pytest.approx(wanted))
    # Dice is that of end-diastole, with the option and without.
    assert summary["mean_dice"] == run(cine, tmp_path / "without", ejection_fractions=False)["mean_dice"]
    # A second evaluation without the option leaves none of the first one's.
    assert run(cine, tmp_path, ejection_fractions=False)["ejection_fractions"] is None
    assert not list((tmp_path / "evaluate").glob("ejection_fractions*"))


def test_a_bad_or_unlabelled_frame_does_not_cost_the_others(cine, tmp_path, capsys):
    twin = Phantom(tmp_path / "twin")
    write_acdc_phantom(twin.dataset_dir, 7, size=(64, 72), end_systole=True)
    twin.split_path.write_bytes(cine.split_path.read_bytes())
    frame(twin, TEST[0]).write_bytes(b"no image")
    frame(twin, TEST[1], "_gt").unlink()
    twin.run(
        "evaluate",
        tmp_path,
        ckpt_dir=cine.root / "models",
        n4_shrink=None,
        ejection_fractions=True,
        **{"dataset#num_workers": 0},
    )
    summary = json.loads((tmp_path / "evaluate" / "evaluation.json").read_text())
    (row,) = summary["ejection_fractions"]["volumes"]
    assert row["id"] == TEST[1] and row["RV_label_percent"] is None
    assert summary["ejection_fractions"]["agreement"]["RV"]["number"] == 0
    assert not (tmp_path / "evaluate" / "ejection_fractions.png").exists()
    assert f"1 of 2 end-systolic frames cannot be used:\n{frame(twin, TEST[0])}" in capsys.readouterr().out


def test_no_frame_at_all_is_an_error_before_anything_is_evaluated(phantom, cine, tmp_path):
    error = phantom.fail("evaluate", tmp_path, ckpt_dir=cine.root / "models", ejection_fractions=True)
    assert isinstance(error, DatasetError)
    assert f"ejection_fractions needs the end-systolic frames of evaluated patients, but {phantom.dataset_dir}" in str(
        error
    )
    assert not list((tmp_path / "evaluate").glob("*.csv"))


def test_the_affine_of_the_frame_counts(cine, tmp_path):
    """A frame whose voxels are twice as thick holds twice the volume."""
    twin = Phantom(tmp_path / "twin")
    write_acdc_phantom(twin.dataset_dir, 7, size=(64, 72), end_systole=True)
    twin.split_path.write_bytes(cine.split_path.read_bytes())
    for suffix in ("", "_gt"):
        path = frame(twin, TEST[0], suffix)
        image = nibabel.load(path)
        affine = image.affine @ np.diag([1, 1, 2, 1])
        nibabel.save(nibabel.Nifti1Image(np.asanyarray(image.dataobj), affine), path)
    summary = run(twin, tmp_path, checkpoint=cine.root / "models" / "model.pt")
    row = summary["ejection_fractions"]["volumes"][0]
    once = expected_percent(twin, TEST[0], 3)
    assert row["LV_label_percent"] == pytest.approx(100 - 2 * (100 - once))
