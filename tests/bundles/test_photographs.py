"""All stages on photographs, which are volumes of one slice and three channels."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from bundles.facts import FACTS_FILE, read_facts
from common.checkpoints import read_weights
from common.data.datalists import cityscapes
from common.lineage import read_lineage
from common.strategies import make_layout
from common.transforms.views import local_photograph_views
from tests.made_up_photographs import write_label_map
from tests.phantoms import TRAINING, Phantom
from tests.places import BUNDLES

FIRST, TEST = "aachen_000000_000019", "aachen_000006_000019"
RANDOM = {"initialisation": "random", "steps": 1, "steps_per_epoch": 1}
# Labels are predicted before the third step, by a network that has learnt nothing yet.
TAUGHT = {**RANDOM, "steps": 4, "steps_per_epoch": 4, "self_training_rounds": 1}


@pytest.fixture(scope="module")
def stages(cityscapes_phantom, tmp_path_factory):
    """A folder in which all stages were run once."""
    folder = tmp_path_factory.mktemp("stages")
    for config in (*TRAINING[:2], "train", "evaluate"):
        cityscapes_phantom.run(config, folder)
    new = folder / "new"
    new.mkdir()
    shutil.copyfile(cityscapes_phantom.image(TEST), new / "street.png")
    Image.open(new / "street.png").resize((90, 70)).save(new / "small.jpg")
    cityscapes_phantom.run("inference", folder, input=new)
    return folder


@pytest.fixture
def copy(cityscapes_phantom, tmp_path):
    """The phantom, to be changed."""
    shutil.copytree(cityscapes_phantom.root, tmp_path / "copy")
    return Phantom(tmp_path / "copy", cityscapes_phantom.bundle)


def test_every_stage_leaves_its_weights(stages):
    weights = {name: read_weights(stages / "models" / f"{name}.pt") for name in ("pretrained_encoder", "model")}
    name = next(name for name in weights["model"] if name.startswith("encoder.") and weights["model"][name].ndim == 4)
    assert weights["model"][name].shape[1] == weights["pretrained_encoder"][name].shape[1] == 3
    assert len(read_lineage(stages / "models" / "pretrained_encoder.pt")["volumes"]["pre-training"]) == 4


def test_photographs_are_kept_in_8_bits(cityscapes_phantom, stages):
    entries = [torch.load(path, weights_only=True) for path in cityscapes_phantom.cache_dir.glob("*.pt")]
    assert len(entries) == 7
    assert {entry["volume"].dtype for entry in entries} == {torch.uint8}
    slices = cityscapes_phantom.config("pretrain_global").get_parsed_content("train#slices")
    assert slices.images.shape == (4, 3, 32, 64) and slices.images.dtype == torch.uint8


def test_evaluation_has_dice_and_iou_of_the_set(cityscapes_phantom, stages):
    summary = json.loads((stages / "evaluate" / "evaluation.json").read_text())
    names = read_facts(cityscapes_phantom.bundle / FACTS_FILE).class_names[1:]
    assert set(summary["mean_dice"]) == set(summary["mean_iou"]) == {*names, "mean"}
    for name in names:
        dice, iou = summary["mean_dice"][name], summary["mean_iou"][name]
        assert (dice is None and iou is None) or iou == pytest.approx(dice / (2 - dice))
    drawn = {path.stem for path in (stages / "evaluate" / "pictures").iterdir()}
    assert drawn == {row["id"] for row in summary["volumes"]} and TEST in drawn


def test_nothing_is_measured_in_mm(stages):
    assert {path.name for path in (stages / "evaluate").iterdir()} >= {"dice.csv", "evaluation.json", "report.html"}
    for stage in ("evaluate", "inference"):
        assert not [*(stages / stage).glob("volumes.*"), *(stages / stage).glob("surface_distances.*")]
    summary = json.loads((stages / "evaluate" / "evaluation.json").read_text())
    assert not {"surface_distances", "structure_volumes", "ejection_fractions"} & set(summary)


@pytest.mark.parametrize(("name", "size"), [("street", (64, 128)), ("small", (70, 90))])
def test_segmentations_have_the_size_of_the_photograph(stages, name, size):
    labels = Image.open(stages / "inference" / f"{name}_seg.png")
    assert np.array(labels).shape == size and np.array(labels).max() <= 12
    assert np.array(Image.open(stages / "inference" / f"{name}_overlay.png")).shape == (*size, 3)


def test_labels_of_one_level_are_those_that_dice_is_computed_of(cityscapes_phantom, stages):
    """Predictions of evaluation and inference are the same: a photograph of the test gets the Dice of the table."""
    found = np.array(Image.open(stages / "inference" / "street_seg.png"))
    facts = read_facts(cityscapes_phantom.bundle / FACTS_FILE)
    values = np.array(Image.open(cityscapes_phantom.label(TEST)))
    truth = np.vectorize(lambda value: facts.label_values[str(value)])(values)
    summary = json.loads((stages / "evaluate" / "evaluation.json").read_text())
    (row,) = [row for row in summary["volumes"] if row["id"] == TEST]
    for index, name in enumerate(facts.class_names[1:], start=1):
        total = (found == index).sum() + (truth == index).sum()
        expected = 2 * ((found == index) & (truth == index)).sum() / total if total else None
        assert row[name] == (None if expected is None else pytest.approx(expected))


def test_joint_training(cityscapes_phantom, tmp_path):
    cityscapes_phantom.run("pretrain_joint", tmp_path)
    assert (tmp_path / "models" / "pretrained_encoder_decoder.pt").is_file()


def test_a_run_that_was_interrupted_goes_on(cityscapes_phantom, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    cityscapes_phantom.run("train", whole, **{**RANDOM, "steps": 2})
    for steps in (1, 2):
        cityscapes_phantom.run("train", parts, **{**RANDOM, "steps": steps})
    one, other = (read_weights(folder / "train" / "last.pt") for folder in (whole, parts))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_file_of_slices_gives_the_same_batches(cityscapes_phantom, tmp_path):
    configs = [cityscapes_phantom.config("pretrain_global", tmp_path, slices_in_memory_gib=gib) for gib in (2.0, 0.0)]
    batches = [config.get_parsed_content("train#dataloader").batch(0)[0] for config in configs]
    assert batches[0].shape == (16, 3, 32, 64) and torch.equal(*batches)
    assert 0 <= batches[0].min() and batches[0].max() <= 1


@pytest.mark.parametrize(("least", "used"), [(0.0, True), (0.9, False)])
def test_a_round_needs_not_every_class(cityscapes_phantom, tmp_path, least, used):
    cityscapes_phantom.run("train", tmp_path, **TAUGHT, **{"train#self_training#least_mean_fit": least})
    state = torch.load(tmp_path / "train" / "resume.pt", weights_only=True)["objects"]["self_training"]
    assert state["round"] == 1 and (len(state["maps"]) > 0) == used


def test_nothing_is_turned_and_no_piece_removed(cityscapes_phantom, tmp_path):
    for config in ("train", "evaluate", "inference"):
        content = json.loads((BUNDLES["cityscapes"] / "configs" / f"{config}.json").read_text())
        assert "uncertainty" not in content and content["largest_component"] is False
    error = cityscapes_phantom.fail("train", tmp_path, **RANDOM, largest_component=True)
    assert "largest_component must be false for photographs" in str(error)


def test_dense_strategies_are_refused(cityscapes_phantom, tmp_path, stages):
    with pytest.raises(ValueError, match="strategy must be LR for photographs, got 'LE', whose views are turned"):
        local_photograph_views(make_layout("LE"))
    settings = {"pretrained_path": stages / "models" / "pretrained_encoder.pt"}
    error = cityscapes_phantom.fail("pretrain_local", tmp_path, strategy="LE", batch_size=4, **settings)
    assert "strategy must be LR for photographs, got 'LE'" in str(error)


def test_photographs_to_label_are_chosen(cityscapes_phantom, stages):
    """The list has the number that was asked for, and the picture shows photographs upright and in colour."""
    cityscapes_phantom.run("select", stages, number=2)
    folder = stages / "select"
    chosen = json.loads((folder / "selection.json").read_text())
    assert len(set(chosen)) == 2 and all(cityscapes_phantom.image(id_).is_file() for id_ in chosen)
    picture = np.array(Image.open(folder / "selection.png").convert("RGB")).astype(int)
    right = picture[:, picture.shape[1] // 2 :]
    assert (np.ptp(right, axis=2) > 40).sum() > 1000


@pytest.mark.parametrize("strategy", ["GD", "GD-"])
def test_strategies_of_volumes_are_refused(cityscapes_phantom, tmp_path, strategy):
    error = cityscapes_phantom.fail("pretrain_global", tmp_path, strategy=strategy, batch_size=24)
    assert "num_partitions must not exceed the slices of a volume, got 4, but aachen" in str(error)


# ---- bad input


def test_bad_photographs_are_named_after_the_others_are_prepared(copy, tmp_path):
    bad = [copy.image(name) for name in ("aachen_000003_000019", "bochum_000001_000019")]
    bad[0].write_bytes(bad[0].read_bytes()[:200])
    Image.fromarray(np.full((64, 128), 999, np.uint16)).save(bad[1])
    shutil.rmtree(copy.cache_dir)
    error = copy.fail("pretrain_global", tmp_path, "prepare")
    assert "2 of 7 volumes cannot be preprocessed" in str(error)
    assert f"{bad[0]} cannot be read as PNG or JPEG" in str(error)
    assert f"{bad[1]} must have 8 bits a channel" in str(error)
    assert len(list(copy.cache_dir.glob("*.pt"))) == 5


def test_a_label_without_a_photograph_is_named_after_the_others_are_prepared(copy, tmp_path):
    copy.image(TEST).unlink()
    shutil.rmtree(copy.cache_dir)
    error = copy.fail("pretrain_global", tmp_path, "prepare")
    assert f"is a label without an image of the id {TEST}" in str(error)
    assert len(list(copy.cache_dir.glob("*.pt"))) == 6


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (np.full((64, 128), 34), "_labelIds.png has 1 values that stand for no class: 34"),
        (np.full((128, 64), 7), "_labelIds.png has 128 x 64 pixels (rows x columns), but its photograph"),
        (
            np.full((64, 128, 3), 7),
            "must be a PNG file with one class id of 8 bits for each pixel, got PNG of Pillow's",
        ),
        (np.zeros((64, 128)), "labelled volumes must have road or sidewalk"),
        (None, f"got {FIRST} without one"),
    ],
    ids=["unknown", "size", "colours", "empty", "none"],
)
def test_bad_labels_are_named(copy, tmp_path, classes, message):
    label = copy.label(FIRST)
    if classes is None:
        label.unlink()
    else:
        write_label_map(label, classes)
    assert message in str(copy.fail("train", tmp_path, **RANDOM))


def test_a_folder_one_level_too_deep_is_found(copy, tmp_path):
    shutil.move(copy.dataset_dir, copy.root / "inner")
    (copy.root / "data").mkdir()
    shutil.move(copy.root / "inner", copy.root / "data" / "unpacked")
    assert len(cityscapes(copy.dataset_dir)) == 7
    copy.run("train", tmp_path, **RANDOM)


def test_the_same_photograph_in_test_and_training_is_refused(copy, tmp_path):
    shutil.copyfile(copy.image(TEST), copy.image(FIRST))
    error = copy.fail("train", tmp_path, **RANDOM)
    assert f"{FIRST}" in str(error) and "must have no image in common" in str(error)


def test_a_bad_photograph_does_not_stop_the_others(cityscapes_phantom, stages, tmp_path, capsys):
    shutil.copytree(stages / "new", tmp_path / "new")
    (tmp_path / "new" / "broken.jpg").write_bytes(b"not a photograph")
    settings = {"input": tmp_path / "new", "checkpoint": stages / "models" / "model.pt"}
    with pytest.raises((SystemExit, RuntimeError)):
        cityscapes_phantom.run("inference", tmp_path, **settings)
    assert "1 of 3 files could not be segmented" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "inference").glob("*_seg.png")} == {"street_seg.png", "small_seg.png"}


def test_a_volume_is_not_taken_for_a_photograph(cityscapes_phantom, stages, tmp_path):
    (tmp_path / "a.nii.gz").touch()
    settings = {"input": tmp_path / "a.nii.gz", "checkpoint": stages / "models" / "model.pt"}
    error = cityscapes_phantom.fail("inference", tmp_path, **settings)
    assert "input must be photographs (.png, .jpg, .jpeg)" in str(error)
