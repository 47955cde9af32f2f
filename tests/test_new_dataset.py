"""Follows docs/new_dataset.md: its files are written and its commands run, on a dataset that is made up here."""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
import runpy
import shlex
import sys

import nibabel
import numpy as np
import pytest

from bundles.facts import Facts
from bundles.new import propose_split
from common.data.datalists import image_label_folders, json_datalist

from .places import REPOSITORY
from .processes import undisturbed

DOCUMENT = REPOSITORY / "docs" / "new_dataset.md"
BLOCKS = [
    (match["language"], match["name"], match["content"])
    for match in re.finditer(
        r"^```(?P<language>\w+) ?(?P<name>\S*)\n(?P<content>.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL
    )
]
FILES = {name: content for _, name, content in BLOCKS if name}
COMMANDS = [line for language, _, content in BLOCKS if language == "sh" for line in content.splitlines()]
# What the document leaves at its defaults, and a test cannot: the length of a training, and an N4 of minutes.
SHORT = {
    "pretrain_global": ["--steps", "1", "--steps_per_epoch", "1", "--hidden_features", "16"],
    "train": ["--steps", "1", "--steps_per_epoch", "1", "--batch_size", "12"],
}
QUICK_N4 = ["--n4_iterations", "[5, 5]"]
CLASSES = ("cortex", "pelvis")
pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file")  # MONAI says so of every config


def write_kidneys(folder):
    """Write the volumes of the document: a ring of 10 around a disc of 20, in images of 60 x 52 x 8 voxels."""
    generator = np.random.default_rng(0)
    x, y, z = np.meshgrid(np.arange(60), np.arange(52), np.arange(8), indexing="ij")
    for directory in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / directory).mkdir(parents=True)
    for number in range(1, 9):
        centre_x, centre_y, radius = generator.uniform((25, 20, 13), (35, 30, 18))
        distance = np.hypot(x - centre_x, y - centre_y) + np.abs(z - 3.5)
        label = np.select([distance < radius / 2, distance < radius], [20, 10], 0).astype(np.uint8)
        image = 300.0 + 20.0 * label + generator.normal(0, 20, label.shape)
        name, affine = f"kidney_{number:02d}.nii.gz", np.diag([-1.8, -1.8, 5.0, 1.0])
        split = "imagesTs" if number == 8 else "imagesTr"
        nibabel.save(nibabel.Nifti1Image(image.astype(np.float32), affine), folder / split / name)
        if number in (1, 6, 7):
            nibabel.save(nibabel.Nifti1Image(label, affine), folder / "labelsTr" / name)


def write_files(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(FILES[name], encoding="utf-8")


def run(command, *options):
    """Run a line of the document in the current folder; in this process, since loading MONAI takes seconds."""
    program, flag, package, *words = [*shlex.split(command), *options]
    assert (program, flag) == ("python", "-m")
    path = importlib.import_module(package).__path__[0]
    with undisturbed(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"{path}/__main__.py", *words])  # as `python -m` sets it
        runpy.run_module(package, run_name="__main__")


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """Do all that the document says, with trainings of one step."""
    root = tmp_path_factory.mktemp("repository")
    write_kidneys(root / "data" / "kidney")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for language, name, content in BLOCKS:
            if name:
                write_files(root, [name])
            elif language == "sh":
                for command in content.splitlines():
                    config = re.search(r"configs/(\w+)\.json", command)
                    training = " training " in command
                    short = [*QUICK_N4, *(SHORT[config[1]] if training else [])] if config else []
                    run(command, *short, *(["--device", "cpu"] if config else []))
    return root


def read(followed, *path):
    return json.loads(followed.joinpath("bundle_kidney", *path).read_text())


def test_document_has_what_is_tested():
    assert {language for language, _, _ in BLOCKS} == {"json", "sh"}
    assert COMMANDS[0] == "python -m bundles new kidney --facts kidney.json"
    stages = [re.search(r"run (\w+) .*configs/(\w+)\.json", line) for line in COMMANDS[1:]]
    assert [match.groups() for match in stages] == [
        ("prepare", "pretrain_global"),
        ("training", "pretrain_global"),
        ("training", "train"),
        ("run", "evaluate"),
        ("run", "inference"),
    ]


def test_nothing_of_the_library_is_touched():
    assert set(FILES) == {"kidney.json", "bundle_kidney/configs/splits.json", "data/kidney/datalist.json"}
    assert not [line for line in COMMANDS if "common" in line]


def test_table_explains_the_facts():
    explained = re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`.*?) \|", DOCUMENT.read_text(), re.MULTILINE)))
    assert sorted(explained) == sorted(field.name for field in dataclasses.fields(Facts))


def test_proposed_split_is_the_one_that_the_document_describes(followed):
    proposed = propose_split(image_label_folders(followed / "data" / "kidney"))
    shown = json.loads(FILES["bundle_kidney/configs/splits.json"])
    assert {key: proposed[key] for key in ("test", "draws")} == {key: shown[key] for key in ("test", "draws")}
    assert proposed["pretrain"] == [*shown["pretrain"], "kidney_08"]


def test_nothing_is_claimed_that_was_not_measured(followed):
    metadata = read(followed, "configs", "metadata.json")
    assert metadata["weights"] == metadata["eval_metrics"] == {}
    assert "**Not measured.**" in (followed / "bundle_kidney" / "docs" / "README.md").read_text()


def test_metadata_has_the_classes(followed):
    metadata = read(followed, "configs", "metadata.json")
    output = metadata["network_data_format"]["outputs"]["pred"]
    assert output["num_channels"] == 3
    assert output["channel_def"] == {"0": "background", "1": "cortex", "2": "pelvis"}
    assert metadata["label_classes"] == "0 background, 10 cortex, 20 pelvis"
    assert metadata["pred_classes"] == "0 background, 1 cortex, 2 pelvis"


def test_every_stage_leaves_what_the_document_says(followed):
    bundle = followed / "bundle_kidney"
    assert len(list((bundle / "cache").glob("*.pt"))) == 8, "prepare has stored every volume"
    weights = {path.name for path in (bundle / "models").glob("*.pt")}
    assert weights == {"pretrained_encoder.pt", "model.pt"}
    evaluation = json.loads((bundle / "output" / "evaluate" / "evaluation.json").read_text())
    assert set(CLASSES) <= set(evaluation["mean_dice"])
    assert "kidney_07" in (bundle / "output" / "evaluate" / "dice.csv").read_text()
    assert (bundle / "output" / "evaluate" / "pictures" / "kidney_07.png").is_file()
    image = nibabel.load(followed / "data" / "kidney" / "imagesTs" / "kidney_08.nii.gz")
    segmentation = nibabel.load(bundle / "output" / "inference" / "kidney_08_seg.nii.gz")
    assert segmentation.shape == image.shape
    np.testing.assert_allclose(segmentation.affine, image.affine)
    assert set(np.unique(segmentation.dataobj)) <= {0, 1, 2}


def test_datalist_gives_the_same_volumes_as_the_folders(followed):
    """The other layout: the same items, and the same command with the other key finds all of them in the cache."""
    folder = followed / "data" / "kidney"
    assert json_datalist(folder) == image_label_folders(folder)
    cache = followed / "bundle_kidney" / "cache"
    before = {path: path.stat().st_mtime_ns for path in cache.glob("*.pt")}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(followed)
        run(COMMANDS[1], *QUICK_N4, "--datalist", "$datalists.json_datalist")
    assert {path: path.stat().st_mtime_ns for path in cache.glob("*.pt")} == before
