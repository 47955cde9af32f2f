"""The folders that runs write to: one run in each, and none that cannot be written to, said before the work begins."""

from __future__ import annotations

import json
import shutil

import pytest
from filelock import FileLock

from common.checkpoints import save_atomically
from common.files import WriteError
from common.networks import UNet2d
from common.runs import LOCK, FolderInUse, claimed
from tests.phantoms import TRAINING, contents
from tests.places import BUNDLE


def test_every_run_claims_its_folders_before_it_works():
    for name, config in contents(BUNDLE).items():
        seed = "" if name == "inference" else ", seed=@seed"
        start = f"$runs.start(@output_dir{', @ckpt_dir' if name in TRAINING else ''}, device=@device{seed})"
        listed = config["training" if name in TRAINING else "run"]
        assert listed[0] == start, name
        assert (listed[-1] == "$runs.release()") == (name not in TRAINING), name  # the trainer releases by itself
        if name in TRAINING and name != "pretrain_joint":
            overlay = json.loads((BUNDLE / "configs" / f"multi_gpu_{name}.json").read_text())
            assert overlay["training"][:2] == ["$distributed.join()", start]


@pytest.mark.parametrize(
    ("config", "folder"), [("train", "output_dir"), ("train", "ckpt_dir"), ("inference", "output_dir")]
)
def test_second_run_in_a_folder_is_refused(phantom, tmp_path, config, folder):
    name = config if folder == "output_dir" else "models"
    (tmp_path / name).mkdir()
    with FileLock(tmp_path / name / LOCK):
        error = phantom.fail(config, tmp_path)
    assert isinstance(error, FolderInUse) and f"{tmp_path / name} is in use by another run" in str(error)
    assert claimed() == []


@pytest.mark.parametrize("config", ["train", "inference"])
def test_folder_that_is_a_file(phantom, tmp_path, config):
    (tmp_path / config).touch()
    error = phantom.fail(config, tmp_path)
    assert isinstance(error, WriteError) and f"{tmp_path / config} cannot be written to: a file has the" in str(error)


def test_failed_run_leaves_no_folder(phantom, tmp_path):
    assert "no such file" in str(phantom.fail("evaluate", tmp_path))
    assert claimed() == [] and list(tmp_path.iterdir()) == []


def test_segmenting_goes_on_beside_a_training(phantom, tmp_path):
    save_atomically(UNet2d(4).state_dict(), tmp_path / "models" / "model.pt")
    with FileLock(tmp_path / "models" / LOCK):
        phantom.run("inference", tmp_path, input=phantom.image("patient007"), pictures=False)
    assert len(list((tmp_path / "inference").glob("*.nii.gz"))) == 1


def test_model_of_a_finished_run_is_put_back(phantom, tmp_path, capsys):
    """Of another run with the same `ckpt_dir`, for instance."""
    phantom.run("train", tmp_path, initialisation="random")
    files = {path: path.read_bytes() for path in tmp_path.rglob("*.pt") if path.name != "resume.pt"}
    assert len(files) == 4
    for path in files:
        save_atomically(UNet2d(4).state_dict(), path)
    phantom.run("train", tmp_path, initialisation="random")
    assert {path: path.read_bytes() for path in files} == files
    assert "All 2 steps are done, but not all is written" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "models")
    phantom.run("train", tmp_path, initialisation="random")
    assert {path: path.read_bytes() for path in files} == files
    phantom.run("train", tmp_path, initialisation="random")
    assert "already finished, all 2 steps are done; --resume False trains again" in capsys.readouterr().out
