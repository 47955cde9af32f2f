"""The whole chain on phantoms, through the bundle's configs: pre-training, fine-tuning, evaluation, inference."""

from __future__ import annotations

import csv
import itertools
import json
import os
import shutil
import subprocess
import sys

import matplotlib.image
import monai
import nibabel
import numpy as np
import pytest
import torch

from common.checkpoints import read_checkpoint, read_weights, save_atomically
from common.networks import UNet2d
from phantom import write_reoriented
from tests.phantoms import PREPROCESSING, STEPS, voxels
from tests.places import BUNDLE, REPOSITORY
from tests.processes import run_here

STAGES = ("pretrain_global", "pretrain_local", "train")
WEIGHTS = {
    "pretrain_global": "pretrained_encoder.pt",
    "pretrain_local": "pretrained_encoder_decoder.pt",
    "pretrain_joint": "pretrained_encoder_decoder.pt",
    "train": "model.pt",
}
CLASSES = ("RV", "Myo", "LV")
TEST_PATIENT = "patient007"
ORIENTATIONS = ("SAR", "RPI")


@pytest.fixture(scope="module")
def chain(phantom, tmp_path_factory):
    """Run every stage once, then segment a test volume and copies of it in other orientations."""
    folder = tmp_path_factory.mktemp("chain")
    for config in (*STAGES, "evaluate"):
        phantom.run(config, folder)
    (folder / "new").mkdir()
    shutil.copy(phantom.image(TEST_PATIENT), folder / "new" / "original.nii.gz")
    for axcodes in ORIENTATIONS:
        write_reoriented(phantom.image(TEST_PATIENT), folder / "new" / f"{axcodes}.nii.gz", axcodes)
    phantom.run("inference", folder, input=folder / "new")
    return folder


def fresh_network():
    """The network as every config initialises it: determinism comes first, then the network."""
    monai.utils.set_determinism(seed=0)
    network = UNet2d(num_classes=4)
    monai.utils.set_determinism(seed=None)
    return network


def parameters(path, parts=("",)):
    names = dict(UNet2d(num_classes=4).named_parameters())
    return {name: value for name, value in read_weights(path).items() if name in names and name.startswith(parts)}


def output(chain, name):
    return nibabel.load(chain / "inference" / f"{name}_seg.nii.gz")


# --- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "files",
    [
        ("models", sorted(set(WEIGHTS.values()))),
        ("pretrain_global", ["resume.pt", "events.out.tfevents.*"]),
        ("pretrain_local", ["resume.pt", "events.out.tfevents.*"]),
        (
            "train",
            [
                *("last.pt", "last_running_average.pt", "model_running_average.pt", "resume.pt"),
                "events.out.tfevents.*",
            ],
        ),
        (
            "evaluate",
            [
                "dice.csv",
                "surface_distances.csv",
                "volumes.csv",
                "volumes.png",
                "evaluation.json",
                "pictures",
                "report.html",
            ],
        ),
        (
            "inference",
            [
                "volumes.csv",
                "report.html",
                *(f"{name}_seg.{kind}" for name in ("original", *ORIENTATIONS) for kind in ("nii.gz", "png")),
            ],
        ),
    ],
    ids=lambda files: files[0],
)
def test_these_files_are_written_and_no_others(chain, files):
    folder, patterns = chain / files[0], files[1]
    found = [set(folder.glob(pattern)) for pattern in patterns]
    assert all(found) and set().union(*found) == set(folder.iterdir())


def test_global_stage_trains_the_encoder_only(chain):
    initial = fresh_network().state_dict()
    saved = parameters(chain / "models" / "pretrained_encoder.pt")
    assert set(saved) == {name for name in parameters(chain / "models" / "model.pt") if name.startswith("encoder.")}
    # Biases before a batch normalisation have no gradient; all kernels have moved.
    kernels = [name for name, value in saved.items() if value.ndim == 4]
    assert len(kernels) == 12 and not any(torch.equal(saved[name], initial[name]) for name in kernels)
    unused = read_checkpoint(chain / "pretrain_global" / "resume.pt")["objects"]["network"]
    for name in ("decoder.blocks.0.up.1.weight", "head.1.weight"):
        assert torch.equal(unused[f"unet.{name}"], initial[name])


def test_local_stage_trains_its_decoder_blocks_only(chain):
    initial = fresh_network().state_dict()
    encoder = parameters(chain / "models" / "pretrained_encoder.pt")
    saved = parameters(chain / "models" / "pretrained_encoder_decoder.pt")
    for name, value in encoder.items():
        assert torch.equal(saved[name], value), name
    blocks = {name: value for name, value in saved.items() if name not in encoder}
    assert {name[:17] for name in blocks} == {f"decoder.blocks.{index}." for index in range(3)}
    kernels = [name for name, value in blocks.items() if value.ndim == 4]
    assert len(kernels) == 9 and not any(torch.equal(blocks[name], initial[name]) for name in kernels)
    unused = read_checkpoint(chain / "pretrain_local" / "resume.pt")["objects"]["network"]
    for name in ("decoder.blocks.3.up.1.weight", "decoder.blocks.4.up.1.weight", "head.1.weight"):
        assert torch.equal(unused[f"unet.{name}"], initial[name])


@pytest.mark.parametrize(
    ("initialisation", "parts"),
    [
        ("random", ()),
        ("encoder", ("encoder.",)),
        ("encoder_decoder", ("encoder.", "decoder.blocks.0.", "decoder.blocks.1.", "decoder.blocks.2.")),
    ],
)
def test_fine_tuning_starts_from_what_was_pretrained(phantom, chain, tmp_path, initialisation, parts):
    """With a learning rate of 0 the model holds the weights that fine-tuning began with."""
    phantom.run(
        "train",
        tmp_path,
        initialisation=initialisation,
        pretrained_dir=chain / "models",
        learning_rate=0.0,
        steps=1,
    )
    expected = dict(fresh_network().named_parameters())
    if parts:
        expected.update(parameters(chain / "models" / f"pretrained_{initialisation}.pt", parts))
    model = parameters(tmp_path / "models" / "model.pt")
    assert set(model) == set(expected)
    for name, value in expected.items():
        assert torch.equal(model[name], value), name


def test_fine_tuning_trains_the_whole_network(chain):
    model = parameters(chain / "models" / "model.pt")
    start = {
        **dict(fresh_network().named_parameters()),
        **parameters(chain / "models" / "pretrained_encoder_decoder.pt"),
    }
    kernels = [name for name, value in model.items() if value.ndim == 4]
    assert len(kernels) == 29 and not any(torch.equal(model[name], start[name]) for name in kernels)


@pytest.mark.parametrize("folder", ["models/model", "train/last"])
def test_model_fits_the_network_and_differs_from_its_twin_in_statistics_only(chain, folder):
    twin = {"models/model": "train/model_running_average", "train/last": "train/last_running_average"}[folder]
    recomputed, running = (
        torch.load(chain / f"{name}.pt", map_location="cpu", weights_only=True) for name in (folder, twin)
    )
    network = UNet2d(num_classes=4)
    for weights in (recomputed, running):
        network.load_state_dict(weights)
        assert all(value.isfinite().all() for value in weights.values())
    for name, _ in network.named_parameters():
        assert torch.equal(recomputed[name], running[name]), name
    means = [name for name in recomputed if name.endswith("running_mean")]
    # 2 per level of the encoder, 3 per block of the decoder, 1 in the head.
    assert len(means) == 28 and not any(torch.equal(recomputed[name], running[name]) for name in means)


@pytest.mark.parametrize("config", STAGES)
def test_a_finished_stage_is_left_alone(phantom, chain, capsys, config):
    path = chain / "models" / WEIGHTS[config]
    before = path.read_bytes(), path.stat().st_mtime_ns
    phantom.run(config, chain)
    assert "Nothing to do" in capsys.readouterr().out
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


@pytest.mark.parametrize("config", ["pretrain_global", "pretrain_joint", "train"])
def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(phantom, chain, tmp_path, config):
    """Two steps, and two more when the run is started again: the same as four at once."""
    settings = {"pretrained_dir": chain / "models"} if config == "train" else {}
    for name, lengths in (("once", [4]), ("twice", [2, 4])):
        for steps in lengths:
            phantom.run(config, tmp_path / name, steps=steps, steps_per_epoch=2, **settings)
    once, twice = (read_weights(tmp_path / name / "models" / WEIGHTS[config]) for name in ("once", "twice"))
    assert set(once) == set(twice)
    for name, value in once.items():
        assert torch.equal(twice[name], value), name


# --- joint training --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def joint(phantom, tmp_path_factory):
    """Train encoder and decoder blocks at once."""
    folder = tmp_path_factory.mktemp("joint")
    phantom.run("pretrain_joint", folder)
    return folder


def test_joint_training_writes_both_files_of_weights(joint):
    files = {path.name for path in (joint / "models").iterdir()}
    assert files == {"pretrained_encoder.pt", "pretrained_encoder_decoder.pt"}
    initial = fresh_network().state_dict()
    encoder, both = (parameters(joint / "models" / name) for name in sorted(files))
    assert set(encoder) == {name for name in initial if name in both and name.startswith("encoder.")}
    assert all(torch.equal(both[name], value) for name, value in encoder.items())
    parts = {name[:17] for name in both if name not in encoder}
    assert parts == {f"decoder.blocks.{index}." for index in range(3)}
    kernels = [name for name, value in both.items() if value.ndim == 4]
    assert len(kernels) == 12 + 9 and not any(torch.equal(both[name], initial[name]) for name in kernels)
    unused = read_checkpoint(joint / "pretrain_joint" / "resume.pt")["objects"]["network"]
    for name in ("decoder.blocks.3.up.1.weight", "head.1.weight"):
        assert torch.equal(unused[f"unet.{name}"], initial[name])


@pytest.mark.parametrize("initialisation", ["encoder", "encoder_decoder"])
def test_fine_tuning_starts_from_joint_training(phantom, joint, tmp_path, initialisation):
    phantom.run(
        "train",
        tmp_path,
        initialisation=initialisation,
        pretrained_dir=joint / "models",
        learning_rate=0.0,
        steps=1,
    )
    model = parameters(tmp_path / "models" / "model.pt")
    expected = parameters(joint / "models" / f"pretrained_{initialisation}.pt")
    assert all(torch.equal(model[name], value) for name, value in expected.items())


def test_pretrained_parts_can_be_kept(phantom, joint, tmp_path):
    phantom.run("train", tmp_path, pretrained_dir=joint / "models", pretrained_rate=0.0, steps=1)
    model = parameters(tmp_path / "models" / "model.pt")
    kept = parameters(joint / "models" / "pretrained_encoder_decoder.pt")
    assert all(torch.equal(model[name], value) for name, value in kept.items())
    assert not torch.equal(model["head.1.weight"], fresh_network().state_dict()["head.1.weight"])


@pytest.mark.parametrize(
    "options",
    [
        {"local_weight": 1000.0},
        {"strategy": "GR", "local_strategy": "LD", "batch_size": 24, "num_blocks": 5, "region_size": 1},
        {"local_strategy": "LX", "batch_size": 16, "num_blocks": 4, "num_pixels": 40, "local_weight": 0.5},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
def test_options_of_joint_training(phantom, joint, tmp_path, options):
    phantom.run("pretrain_joint", tmp_path, steps=1, **options)
    written = parameters(tmp_path / "models" / WEIGHTS["pretrain_joint"])
    default = parameters(joint / "models" / WEIGHTS["pretrain_joint"])
    assert set(default) <= set(written) and all(value.isfinite().all() for value in written.values())
    for trained in ("encoder.levels.5.1.0.weight", "decoder.blocks.0.up.1.weight"):
        assert not torch.equal(written[trained], default[trained])


@pytest.mark.parametrize(("option", "value"), [("local_weight", 10.0), ("local_strategy", "LD")])
def test_joint_training_refuses_to_go_on_with_other_options(phantom, joint, tmp_path, option, value):
    shutil.copytree(joint, tmp_path / "joint")
    error = phantom.fail("pretrain_joint", tmp_path / "joint", **{"batch_size": 24, option: value})
    assert f"{option} was" in str(error)


# --- evaluation ------------------------------------------------------------------------------------------------------


def test_report_is_consistent(chain):
    report = json.loads((chain / "evaluate" / "evaluation.json").read_text(encoding="utf-8"))
    assert [row["id"] for row in report["volumes"]] == ["patient006", "patient007"]
    with open(chain / "evaluate" / "dice.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", *CLASSES, "mean"]
    for row, volume in zip(rows, report["volumes"], strict=True):
        assert row == {key: str(value) for key, value in volume.items()}
        assert volume["mean"] == pytest.approx(np.mean([volume[name] for name in CLASSES]))
    for name in (*CLASSES, "mean"):
        assert report["mean_dice"][name] == pytest.approx(np.mean([float(row[name]) for row in rows]))
    assert report["settings"]["checkpoint"] == str(chain / "models" / "model.pt")
    assert report["settings"]["num_labelled"] == 1 and report["settings"]["subset"] == "test"


def test_reported_dice_is_that_of_the_segmentation_on_disk(phantom, chain):
    """Recomputed from files: inference without the cache, nibabel, and the definition of the Dice coefficient."""
    report = json.loads((chain / "evaluate" / "evaluation.json").read_text(encoding="utf-8"))
    (reported,) = (row for row in report["volumes"] if row["id"] == TEST_PATIENT)
    label, segmentation = voxels(phantom.label(TEST_PATIENT)), voxels(chain / "inference" / "original_seg.nii.gz")
    for value, name in enumerate(CLASSES, start=1):
        truth, found = label == value, segmentation == value
        assert reported[name] == pytest.approx(2 * (truth & found).sum() / (truth.sum() + found.sum()), abs=1e-12)
    assert reported["mean"] > 0  # otherwise nothing but zeros was compared


def test_volumes_are_those_of_the_files_on_disk(phantom, chain):
    with open(chain / "inference" / "volumes.csv", newline="", encoding="utf-8") as file:
        rows = {row.pop("segmentation"): row for row in csv.DictReader(file)}
    assert set(rows) == {f"{name}_seg.nii.gz" for name in ("original", *ORIENTATIONS)}
    for name, row in rows.items():
        image = nibabel.load(chain / "inference" / name)
        labels, voxel_ml = np.asanyarray(image.dataobj), float(np.prod(image.header.get_zooms())) / 1000
        assert list(row) == [f"{structure}_ml" for structure in CLASSES]
        for value, structure in enumerate(CLASSES, start=1):
            assert float(row[f"{structure}_ml"]) == pytest.approx((labels == value).sum() * voxel_ml, rel=1e-5)
    report = json.loads((chain / "evaluate" / "evaluation.json").read_text(encoding="utf-8"))
    (evaluated,) = (row for row in report["structure_volumes"]["volumes"] if row["id"] == TEST_PATIENT)
    assert float(rows["original_seg.nii.gz"]["LV_ml"]) == pytest.approx(evaluated["LV_prediction_ml"])
    labels, image = voxels(phantom.label(TEST_PATIENT)), nibabel.load(phantom.label(TEST_PATIENT))
    wanted = (labels == 3).sum() * np.prod(image.header.get_zooms()) / 1000
    assert evaluated["LV_label_ml"] == pytest.approx(wanted)


@pytest.mark.parametrize(
    "picture",
    [
        *("evaluate/pictures/patient006.png", "evaluate/pictures/patient007.png"),
        *("inference/original_seg.png", "inference/SAR_seg.png"),
    ],
)
def test_pictures_show_something(chain, picture):
    pixels = matplotlib.image.imread(chain / picture)
    assert min(pixels.shape[:2]) > 200 and pixels[..., :3].std() > 0.1
    coloured = (pixels[..., :3].max(axis=-1) - pixels[..., :3].min(axis=-1)) > 0.3
    assert 0.001 < coloured.mean() < 0.5  # outlines on grey images


# --- inference -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["original", *ORIENTATIONS])
def test_segmentation_lies_on_the_grid_of_its_image(chain, name):
    image, segmentation = nibabel.load(chain / "new" / f"{name}.nii.gz"), output(chain, name)
    assert segmentation.get_data_dtype() == np.uint8 and segmentation.shape == image.shape
    assert np.array_equal(segmentation.affine, image.affine)
    for code in ("qform_code", "sform_code", "xyzt_units"):
        assert segmentation.header[code] == image.header[code]
    counts = np.bincount(np.asanyarray(segmentation.dataobj).ravel(), minlength=4)
    assert len(counts) == 4
    assert (counts > 0.005 * counts.sum()).sum() >= 3  # a network of four steps is wrong, but it is no constant


@pytest.mark.parametrize("axcodes", ORIENTATIONS)
def test_orientation_makes_no_difference(chain, axcodes):
    original, reoriented = output(chain, "original"), output(chain, axcodes)
    assert "".join(nibabel.aff2axcodes(reoriented.affine)) == axcodes
    back = reoriented.as_reoriented(
        nibabel.orientations.ornt_transform(
            nibabel.io_orientation(reoriented.affine), nibabel.io_orientation(original.affine)
        )
    )
    assert np.allclose(back.affine, original.affine, atol=1e-4)
    # The affines agree to rounding only, so that N4 and the resampling may move a voxel at a border.
    assert (np.asanyarray(back.dataobj) == np.asanyarray(original.dataobj)).mean() > 0.99


def test_a_single_file_is_segmented_like_a_folder(phantom, chain, tmp_path):
    phantom.run(
        "inference",
        tmp_path,
        input=phantom.image(TEST_PATIENT),
        checkpoint=chain / "models" / "model.pt",
        pictures=False,
    )
    (path,) = (tmp_path / "inference").glob("*.nii.gz")
    assert path.name == f"{TEST_PATIENT}_frame01_seg.nii.gz"
    assert np.array_equal(voxels(path), voxels(chain / "inference" / "original_seg.nii.gz"))


@pytest.fixture(scope="module")
def unsure(phantom, chain):
    """A test volume, as it is and reoriented, segmented with and without uncertainty."""
    options = {"input": [str(chain / "new" / f"{name}.nii.gz") for name in ("original", "RPI")]}
    options["checkpoint"] = chain / "models" / "model.pt"
    for name, uncertainty in (("plain", False), ("unsure", True)):
        phantom.run("inference", chain / name, uncertainty=uncertainty, **options)
    return chain / "unsure" / "inference"


def test_uncertainty_lies_on_the_grid_of_the_image(chain, unsure):
    for name in ("original", "RPI"):
        image, entropy = (
            nibabel.load(chain / "new" / f"{name}.nii.gz"),
            nibabel.load(unsure / f"{name}_uncertainty.nii.gz"),
        )
        assert entropy.get_data_dtype() == np.float32 and entropy.shape == image.shape
        assert np.array_equal(entropy.affine, image.affine)
        values = np.asanyarray(entropy.dataobj)
        assert 0 <= values.min() and values.max() <= 1 and values.std() > 0.01
        # The segmentation is the same with it and without.
        plain = chain / "plain" / "inference" / f"{name}_seg.nii.gz"
        assert np.array_equal(voxels(unsure / f"{name}_seg.nii.gz"), voxels(plain))
    assert not list((chain / "plain" / "inference").glob("*uncertainty*"))
    assert not (chain / "plain" / "inference" / "expected_dice.csv").exists()


def test_expected_dice_of_segmentations(unsure):
    with open(unsure / "expected_dice.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["segmentation"] for row in rows} == {"original_seg.nii.gz", "RPI_seg.nii.gz"}
    assert list(rows[0]) == ["segmentation", *CLASSES, "mean"]
    values = [[float(row[name]) for name in (*CLASSES, "mean")] for row in rows]
    assert values[0][-1] <= values[1][-1] and np.all(0 <= np.array(values)) and np.all(np.array(values) <= 1)
    assert values[0][-1] == pytest.approx(np.mean(values[0][:-1]))


def test_uncertainty_is_drawn_as_a_further_row(chain, unsure):
    pictures = [
        matplotlib.image.imread(folder / "original_seg.png") for folder in (unsure, chain / "plain" / "inference")
    ]
    assert pictures[0].shape[0] > 1.3 * pictures[1].shape[0]


def test_an_evaluation_compares_expected_with_true_dice(phantom, chain, tmp_path):
    shutil.copytree(chain / "models", tmp_path / "models")
    phantom.run("evaluate", tmp_path, uncertainty=True)
    report = json.loads((tmp_path / "evaluate" / "evaluation.json").read_text(encoding="utf-8"))
    rows = {row["id"]: row for row in report["expected_dice"]["volumes"]}
    for volume in report["volumes"]:
        assert all(rows[volume["id"]][f"{name}_true"] == volume[name] for name in (*CLASSES, "mean"))
        assert all(0 <= rows[volume["id"]][f"{name}_expected"] <= 1 for name in (*CLASSES, "mean"))
    assert report["expected_dice"]["calibration"]["mean"]["number"] == 2
    assert (tmp_path / "evaluate" / "expected_dice.png").is_file()
    # In the other evaluation, which was not asked, nothing is expected.
    assert json.loads((chain / "evaluate" / "evaluation.json").read_text())["expected_dice"] is None


# --- options ---------------------------------------------------------------------------------------------------------


def test_augmentation_can_be_chosen(phantom, tmp_path):
    options = {
        "default": {},
        "none": {"augmentation": "none"},
        "intensity": {"augmentation": "paper+intensity"},
        "strong": {"augmentation": "strong"},
        "mixup": {"mixup_alpha": 0.1},
    }
    kernels = []
    for name, option in options.items():
        phantom.run("train", tmp_path / name, initialisation="random", steps=1, **option)
        kernels.append(read_weights(tmp_path / name / "train" / "last.pt")["head.1.weight"])
    assert not any(torch.equal(one, other) for one, other in itertools.combinations(kernels, 2))


def test_strength_of_mixup_must_be_positive(phantom, tmp_path):
    error = phantom.fail("train", tmp_path, initialisation="random", mixup_alpha=-0.1)
    assert "mixup_alpha must be a positive number, got -0.1" in str(error)


def test_fine_tuning_refuses_to_go_on_with_another_mixup(phantom, chain, tmp_path):
    shutil.copytree(chain, tmp_path / "chain")
    error = phantom.fail("train", tmp_path / "chain", mixup_alpha=0.1)
    assert "mixup_alpha was 0.0, is 0.1" in str(error)


@pytest.mark.parametrize(
    ("config", "options"),
    [
        ("pretrain_global", {"strategy": "GR"}),
        ("pretrain_global", {"strategy": "GD-", "batch_size": 24}),
        ("pretrain_global", {"gd_pairs": "all", "batch_size": 24, "head_norm": False}),
        ("pretrain_local", {"strategy": "LD", "batch_size": 24}),
        ("pretrain_local", {"region_size": 1}),
        ("pretrain_local", {"region_vector": "mean", "encoder_batch_norm": "eval", "num_blocks": 5}),
        ("pretrain_local", {"strategy": "LE", "num_blocks": 5, "num_pixels": 40}),
        ("pretrain_local", {"strategy": "LX", "num_pixels": 40, "batch_size": 16, "freeze_encoder": False}),
    ],
    ids=lambda value: " ".join(map(str, value.values())) if isinstance(value, dict) else value,
)
def test_other_strategies(phantom, chain, tmp_path, config, options):
    settings = {"pretrained_path": chain / "models" / "pretrained_encoder.pt"} if config == "pretrain_local" else {}
    phantom.run(config, tmp_path, steps=1, **settings, **options)
    written = parameters(tmp_path / "models" / WEIGHTS[config])
    default = parameters(chain / "models" / WEIGHTS[config])
    assert set(default) <= set(written) and all(value.isfinite().all() for value in written.values())
    trained = "encoder.levels.5.1.0.weight" if config == "pretrain_global" else "decoder.blocks.0.up.1.weight"
    start = fresh_network().state_dict()[trained]
    assert not torch.equal(written[trained], default[trained]) and not torch.equal(written[trained], start)


def test_running_averages_can_be_evaluated(phantom, chain, tmp_path):
    phantom.run("train", tmp_path, pretrained_dir=chain / "models", batch_norm_statistics="running_average", steps=1)
    model = read_weights(tmp_path / "models" / "model.pt")
    twin = read_weights(tmp_path / "train" / "model_running_average.pt")
    assert all(torch.equal(model[name], twin[name]) for name in twin)
    # Momentum 0.01: one step from 0 and 1 leaves the averages close to those.
    assert model["encoder.levels.0.0.1.running_var"].sub(1).abs().max() < 0.2


def test_validation_volumes_can_be_left_out(phantom, tmp_path):
    """As in MONAI Label: lists of files instead of a dataset folder, and none of them for validation."""
    item = {"image": str(phantom.image("patient002")), "label": str(phantom.label("patient002"))}
    lists = {"train#dataset#data": [item], "validate#dataset#data": [], "dataset_dir": tmp_path / "nowhere"}
    phantom.run("train", tmp_path, initialisation="random", **lists)
    model = read_weights(tmp_path / "models" / "model.pt")
    UNet2d(num_classes=4).load_state_dict(model)
    assert not torch.equal(model["head.1.weight"], fresh_network().state_dict()["head.1.weight"])


def test_weights_without_validation_have_recomputed_statistics(phantom, tmp_path):
    item = {"image": str(phantom.image("patient002")), "label": str(phantom.label("patient002"))}
    lists = {"train#dataset#data": [item], "validate#dataset#data": [], "dataset_dir": tmp_path / "nowhere"}
    for statistics in ("recomputed", "running_average"):
        options = {"initialisation": "random", "batch_norm_statistics": statistics, **lists}
        phantom.run("train", tmp_path / statistics, **options)
    recomputed, running = (
        read_weights(tmp_path / name / "models" / "model.pt") for name in ("recomputed", "running_average")
    )
    for name, _ in UNet2d(num_classes=4).named_parameters():
        assert torch.equal(recomputed[name], running[name])
    name = "encoder.levels.0.0.1.running_var"
    assert (running[name] - 1).abs().max() < 0.05 < (recomputed[name] - 1).abs().max()  # momentum .01, two steps


def test_other_lists_of_files_are_trained_afresh(phantom, tmp_path):
    """MONAI Label trains again in the same folder whenever there are more labels."""
    for patients in (["patient002"], ["patient002", "patient003"]):
        items = [{"image": str(phantom.image(name)), "label": str(phantom.label(name))} for name in patients]
        lists = {"train#dataset#data": items, "validate#dataset#data": [], "dataset_dir": tmp_path / "nowhere"}
        phantom.run("train", tmp_path, initialisation="random", **lists)
        model = tmp_path / "models" / "model.pt"
        assert model.is_file()
        model.unlink()
    assert not list(tmp_path.rglob("resume.pt"))


def test_a_stage_refuses_to_go_on_from_other_pretrained_weights(phantom, chain, tmp_path):
    shutil.copytree(chain, tmp_path / "chain")
    encoder = tmp_path / "chain" / "models" / "pretrained_encoder.pt"
    weights = read_weights(encoder)
    save_atomically({name: value + 1 for name, value in weights.items()}, encoder)
    error = phantom.fail("pretrain_local", tmp_path / "chain")
    assert "other settings (made_from: pretrained_encoder.pt changed" in str(error)


def test_prepare_fills_the_cache(phantom, tmp_path):
    dataset_dir, cache_dir = tmp_path / "data", tmp_path / "cache"
    shutil.copytree(phantom.image("patient003").parent, dataset_dir / "patient003")
    phantom.run("pretrain_global", tmp_path, run_id="prepare", dataset_dir=dataset_dir, cache_dir=cache_dir)
    (entry,) = cache_dir.iterdir()
    assert entry.name in {path.name for path in phantom.cache_dir.iterdir()}  # what it holds decides on its name
    assert not (tmp_path / "models").exists()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_every_stage_runs_on_a_gpu(phantom, tmp_path):
    for config in (*STAGES, "evaluate"):
        phantom.run(config, tmp_path, device="cuda")
    phantom.run("inference", tmp_path, device="cuda", input=phantom.image(TEST_PATIENT))
    weights = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    assert {value.device.type for value in weights.values()} == {"cpu"}
    summary = json.loads((tmp_path / "evaluate" / "evaluation.json").read_text(encoding="utf-8"))
    assert summary["settings"]["device"] == "cuda" and summary["mean_dice"]["mean"] is not None


# --- the command line ------------------------------------------------------------------------------------------------


def run(cwd, *words):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}  # so that the package need not be installed
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, cwd=cwd, env=environment, timeout=300).returncode


@pytest.mark.parametrize(
    ("run", "cwd", "arguments"),
    [
        (run, BUNDLE, ["--config_file", "configs/train.json"]),
        (
            run_here,
            REPOSITORY,
            ["--config_file", "bundle_acdc/configs/train.json", "--bundle_root", "bundle_acdc"],
        ),
    ],
    ids=["in the bundle", "in the repository"],
)
def test_command_line(phantom, tmp_path, run, cwd, arguments):
    """The commands of the README, with devices and precision as they are by default."""
    options = {
        **PREPROCESSING,
        **STEPS,
        "initialisation": "random",
        "dataset_dir": phantom.dataset_dir,
        "split_path": phantom.split_path,
        "cache_dir": phantom.cache_dir,
        "ckpt_dir": tmp_path / "models",
        "output_dir": tmp_path / "output",
    }
    words = ["monai.bundle", "run", "training", *arguments]
    for key, value in options.items():
        words += [f"--{key}", str(value).replace(" ", "")]
    before = default_outputs()
    assert run(cwd, *words) == 0
    UNet2d(num_classes=4).load_state_dict(read_weights(tmp_path / "models" / "model.pt"))
    assert {"last.pt", "resume.pt"} <= {path.name for path in (tmp_path / "output").iterdir()}
    assert default_outputs() == before, "something was written beside the folders that were given"


def default_outputs():
    """What lies where a run writes if it is told nothing, or is told a bundle_root and does not heed it."""
    folders = [root / name for root in (BUNDLE, REPOSITORY) for name in ("models", "output")]
    return {path for folder in folders for path in (folder, *folder.rglob("*")) if path.exists()}
