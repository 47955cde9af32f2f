"""A dataset folder is looked at before training: what is there, missing, wrong and odd."""

from __future__ import annotations

import json
import shutil

import nibabel
import numpy as np
import pytest

from bundles.check import check, findings
from common.data.volume_files import DatasetError
from phantom import write_acdc_phantom, write_phantom_splits
from tests.phantoms import change_voxels


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Six patients in the layout of ACDC, and a split file of them."""
    root = tmp_path_factory.mktemp("whole")
    ids = write_acdc_phantom(root / "data", 6, size=(48, 56))
    write_phantom_splits(root / "splits.json", ids, 3)
    return root


@pytest.fixture
def root(whole, tmp_path):
    """The same, to be changed."""
    shutil.copytree(whole, tmp_path / "root")
    return tmp_path / "root"


def found_in(root):
    return findings("acdc", str(root / "data"), str(root / "splits.json"))


def files(root, patient):
    folder = next((root / "data").rglob(patient))
    label = next(folder.glob("*_gt.nii.gz"))
    return label.with_name(label.name.replace("_gt", "")), label


def test_a_whole_dataset(whole, capsys):
    check("acdc", str(whole / "data"), str(whole / "splits.json"))
    said = capsys.readouterr().out
    assert "Missing: nothing.\nWrong: nothing.\nOdd: nothing." in said
    assert "6 images, 6 of them with a label" in said and "3 of 3 to pre-train on" in said
    assert "structures in 6 labels: RV in 6, Myo in 6, LV in 6" in said and "sizes: " in said


def test_what_the_split_asks_for_and_is_not_there(root):
    split = json.loads((root / "splits.json").read_text())
    image, _ = files(root, split["pretrain"][1])
    _, label = files(root, split["test"][0])
    shutil.rmtree(image.parent)
    label.unlink()
    found = found_in(root)
    assert f"no image of {split['pretrain'][1]} (to pre-train on" in found.missing[0]
    assert any(f"no label of {split['test'][0]} (to test on" in line for line in found.missing)
    with pytest.raises(SystemExit):
        check("acdc", str(root / "data"), str(root / "splits.json"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda image, label: image.write_bytes(image.read_bytes()[:-200]), "damaged"),
        (lambda image, label: change_voxels(image, lambda v: np.zeros_like(v)), "only zeros"),
        (lambda image, label: change_voxels(label, lambda v: v + 5), "must hold"),
        (lambda image, label: change_voxels(label, lambda v: v[:-1]), "size"),
    ],
    ids=["damaged image", "empty image", "other values", "another grid"],
)
def test_what_no_stage_can_use_is_named_and_the_others_are_read(damage, message, root):
    image, label = files(root, "patient002")
    damage(image, label)
    found = found_in(root)
    (line,) = found.wrong
    assert "patient002" in line and not found.missing
    assert any("structures in 5 labels" in there for there in found.there)


def test_what_is_odd(root):
    image, label = files(root, "patient001")
    other, other_label = files(root, "patient002")
    shutil.copy(image, other)
    shutil.copy(label, other_label)
    _, empty = files(root, "patient003")
    change_voxels(empty, np.zeros_like)
    image, _ = files(root, "patient004")
    loaded = nibabel.load(image)
    loaded.header.set_xyzt_units("micron")
    affine = loaded.affine * 1000
    affine[3, 3] = 1
    nibabel.save(nibabel.Nifti1Image(np.asanyarray(loaded.dataobj), affine, loaded.header), image)
    found = found_in(root)
    text = "\n".join(found.odd)
    assert "patient001, patient002 hold the same image" in text
    assert f"{empty} is empty: background only" in text
    assert "states its voxel size in units of" in text and not found.wrong


def test_volumes_that_no_list_has(root):
    split = json.loads((root / "splits.json").read_text())
    gone = split["pretrain"].pop()
    (root / "splits.json").write_text(json.dumps(split))
    assert any(f"has {gone}: unused" in line for line in found_in(root).odd)


def test_a_folder_without_the_dataset(tmp_path):
    with pytest.raises(DatasetError):
        check("acdc", str(tmp_path))


def test_photographs(cityscapes_phantom, capsys):
    check("cityscapes", str(cityscapes_phantom.dataset_dir), str(cityscapes_phantom.split_path))
    assert "7 images, 7 of them with a label" in capsys.readouterr().out


@pytest.mark.slow
def test_real_volumes(acdc_dir):
    """Whatever is there of ACDC is read without a fault."""
    found = findings("acdc", str(acdc_dir))
    assert not found.wrong and found.there
