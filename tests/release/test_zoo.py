"""The checks of the model zoo's own repository, where MODEL_ZOO names a checkout of it; nothing of it is here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def zoo(exported, monai_schema, tmp_path):
    """The zoo's scripts, with our released bundles in the place of its models; return a function that runs one."""
    checkout = os.environ.get("MODEL_ZOO", "")
    if not (Path(checkout) / "ci" / "verify_bundle.py").is_file():
        pytest.skip("MODEL_ZOO does not name a checkout of github.com/Project-MONAI/model-zoo")
    shutil.copytree(Path(checkout) / "ci", tmp_path / "ci")
    for name in exported[0]:
        shutil.copytree(exported[1] / name, tmp_path / "models" / name)
        (tmp_path / "models" / name / "eval").mkdir()
        shutil.copy(monai_schema, tmp_path / "models" / name / "eval" / "schema.json")
    (tmp_path / "models" / "model_info.json").write_text("{}")

    def verify(name: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "ci/verify_bundle.py", "-b", name, "-p", "models", "-m", "full"]
        environment = {**os.environ, "PYTHONPATH": str(tmp_path / "ci")}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return verify


def test_a_bundle_with_weights_passes(zoo):
    done = zoo("bundle_acdc")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "data shape is verified correctly" in done.stdout and "TorchScript module successfully" in done.stdout


@pytest.mark.parametrize("name", ["bundle_prostate", "bundle_mmwhs", "bundle_cityscapes"])
def test_of_the_others_only_weights_are_missing(zoo, name):
    done = zoo(name)
    assert done.stderr.rstrip().endswith("ValueError: necessary file models/model.pt is not existing.")
