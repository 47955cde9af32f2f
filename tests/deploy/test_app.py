"""The application for MONAI Deploy and its operator, on DICOM studies, against what the bundle itself writes.

Everything runs in the environment that `deploy/install.sh` builds, of which MONAI_DEPLOY_PYTHON names the Python.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pytest

from phantom import write_acdc_phantom, write_reoriented
from release.export import export
from tests.places import REPOSITORY

pytestmark = pytest.mark.deploy

APP = REPOSITORY / "deploy" / "app.py"
DICOM = Path(__file__).with_name("dicom.py")
STUDIES = ("phantom", "turned", "real")
OPERATOR = Path(__file__).with_name("operator_on_arrays.py")


def run(*words, cwd, check=True):
    """Run a command in the environment of MONAI Deploy, which must not see the repository."""
    python = os.environ.get("MONAI_DEPLOY_PYTHON", "")
    if not python:
        pytest.skip("MONAI_DEPLOY_PYTHON does not name the Python of an environment made by deploy/install.sh")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
    done = subprocess.run(
        [python, *map(str, words)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_STACK, (hard, hard)),  # Holoscan asks for 32 MB
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def voxels(path):
    return np.asanyarray(nibabel.load(path).dataobj)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    """The release of the bundle that has weights."""
    out = tmp_path_factory.mktemp("released")
    export(str(REPOSITORY / "bundle_acdc"), out=str(out))
    return out / "bundle_acdc"


@pytest.fixture(scope="session")
def studies(tmp_path_factory):
    """Volumes as NIfTI files and as DICOM studies, by name; "turned" is the phantom with other axes."""
    root = tmp_path_factory.mktemp("studies")
    (name,) = write_acdc_phantom(root / "data", 1, size=(64, 72))
    image = nibabel.load(root / "data" / "training" / name / f"{name}_frame01.nii.gz")
    whole = np.asanyarray(image.dataobj).round().astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(whole, image.affine), root / "phantom.nii.gz")
    write_reoriented(root / "phantom.nii.gz", root / "turned.nii.gz", "RAS")
    return root


@pytest.fixture(params=STUDIES)
def study(request, studies):
    """The path of a volume, with its DICOM study beside it."""
    path = studies / f"{request.param}.nii.gz"
    if request.param == "real":
        acdc = request.getfixturevalue("acdc_dir")
        shutil.copy(next(acdc.rglob("patient001_frame01.nii.gz")), path)
    folder = studies / request.param
    if not folder.exists():
        run(DICOM, "write", path, folder, cwd=studies)
    return path


@pytest.fixture
def written(study, bundle, tmp_path):
    """What `inference.json` writes of a volume."""
    options = ["--input", study, "--output_dir", tmp_path / "written", "--pictures", "False"]
    run("-m", "monai.bundle", "run", "run", "--config_file", "configs/inference.json", *options, cwd=bundle)
    return tmp_path / "written" / study.name.replace(".nii.gz", "_seg.nii.gz")


def test_dicom_is_segmented_as_files_are(study, bundle, written, tmp_path):
    """To the voxel, from the folder of a release and from its TorchScript."""
    expected = voxels(written)
    assert len(np.unique(expected)) > 1
    for model in (bundle, bundle / "models" / "model.ts"):
        folder = study.parent / study.name.removesuffix(".nii.gz")
        out = tmp_path / model.name
        run(APP, "--input", folder, "--output", out, "--model", model, cwd=tmp_path)
        labels = tmp_path / f"{model.name}.nii.gz"
        done = run(DICOM, "read", folder, out, study, labels, cwd=tmp_path)
        assert done.stdout.strip() == "['RV', 'Myo', 'LV']"
        np.testing.assert_array_equal(voxels(labels), expected)


def test_operator_refuses_arrays_without_voxel_sizes(studies, bundle, tmp_path):
    """MONAI Deploy takes the slices of such a volume for channels, because the network is two-dimensional."""
    done = run(OPERATOR, bundle, studies / "phantom.nii.gz", cwd=tmp_path, check=False)
    assert done.returncode
    assert "must say how large its voxels are and how they lie, but is an array without an affine" in done.stderr


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("models/model.ts", "has no models/model.ts, so this release came without weights"),
        ("configs/inference.json", "--model must be the folder of a released bundle or its models/model.ts, got"),
    ],
)
def test_what_is_no_release_with_weights_is_refused(bundle, studies, tmp_path, gone, message):
    copy = tmp_path / "bundle_acdc"
    shutil.copytree(bundle, copy)
    (copy / gone).unlink()
    done = run(APP, "--input", studies, "--output", tmp_path, "--model", copy, cwd=tmp_path, check=False)
    assert done.returncode
    assert message in done.stderr
