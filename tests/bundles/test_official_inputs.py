"""The bundles of prostate and whole heart on files as their owners distribute them, and what may be wrong with these.

Real volumes of the prostate are used where they are at hand, everything else is phantoms in the official layouts.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import nibabel
import nibabel.processing
import numpy as np
import pytest
import torch

from common.checkpoints import read_checkpoint, read_weights, save_atomically
from common.networks import UNet2d
from common.transforms import VolumeError
from phantom import write_reoriented
from tests.phantoms import Phantom, change_voxels, contents, dice, load_small, voxels
from tests.places import BUNDLES, REPOSITORY

ORIENTATIONS = ("SAR", "LPI")  # the second is left-handed


def class_names(phantom):
    return contents(phantom.bundle)["train"]["class_names"]


def split_of(phantom):
    return json.loads(phantom.split_path.read_text(encoding="utf-8"))


def on_grid_of(moving, fixed):
    """Return the label map that one NIfTI image holds at the voxels of another, by their places in the patient."""
    # Beyond the edge by a rounding error is not outside.
    resampled = nibabel.processing.resample_from_to(moving, fixed, order=0, mode="nearest")
    return np.asanyarray(resampled.dataobj)


# --- the whole chain -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chain(other_phantom, tmp_path_factory):
    """Run every stage once, then segment the first test volume and copies of it in other orientations."""
    folder = tmp_path_factory.mktemp(f"chain {other_phantom.bundle.name}")
    for config in ("pretrain_global", "pretrain_local"):
        other_phantom.run(config, folder, steps=1)
    other_phantom.run("train", folder, steps_per_epoch=2)
    other_phantom.run("evaluate", folder)
    (folder / "new").mkdir()
    image = other_phantom.image(split_of(other_phantom)["test"][0])
    shutil.copy(image, folder / "new" / "original.nii.gz")
    for axcodes in ORIENTATIONS:
        write_reoriented(image, folder / "new" / f"{axcodes}.nii.gz", axcodes)
    other_phantom.run("inference", folder, input=folder / "new")
    return folder


def test_chain_writes_weights_of_its_network(other_phantom, chain):
    network = UNet2d(num_classes=len(class_names(other_phantom)))
    network.load_state_dict(read_weights(chain / "models" / "model.pt"))
    assert {path.name for path in (chain / "models").iterdir()} == {
        *("model.pt", "pretrained_encoder.pt", "pretrained_encoder_decoder.pt"),
    }


def test_report_has_every_structure(other_phantom, chain):
    report = json.loads((chain / "evaluate" / "evaluation.json").read_text())
    assert [row["id"] for row in report["volumes"]] == split_of(other_phantom)["test"]
    assert list(report["mean_dice"]) == [*class_names(other_phantom)[1:], "mean"]
    assert report["mean_dice"]["mean"] is not None
    pictures = {path.stem for path in (chain / "evaluate" / "pictures").iterdir()}
    assert pictures == set(split_of(other_phantom)["test"])


def test_reported_dice_is_that_of_the_segmentation_on_disk(other_phantom, chain):
    """Against the label as it was delivered, with its raw values: 4-D image, 3-D label; any orientation."""
    patient = split_of(other_phantom)["test"][0]
    report = json.loads((chain / "evaluate" / "evaluation.json").read_text())
    (reported,) = (row for row in report["volumes"] if row["id"] == patient)
    segmentation, label = voxels(chain / "inference" / "original_seg.nii.gz"), voxels(other_phantom.label(patient))
    values = other_phantom.config("evaluate").get_parsed_content("label_values")
    index_of = values or {index: index for index in range(len(class_names(other_phantom)))}
    truth = np.full(label.shape, -1)
    for value, index in index_of.items():
        truth[label == int(value)] = index
    assert truth.min() == 0
    for index, name in enumerate(class_names(other_phantom)):
        if index > 0 and reported[name] is not None:
            assert reported[name] == pytest.approx(dice(segmentation == index, truth == index), abs=1e-12)
    assert sum(reported[name] or 0 for name in class_names(other_phantom)[1:]) > 0


def test_segmentations_are_3d_and_lie_where_their_image_does(other_phantom, chain):
    for name in ("original", *ORIENTATIONS):
        image, found = (nibabel.load(chain / path) for path in (f"new/{name}.nii.gz", f"inference/{name}_seg.nii.gz"))
        assert found.shape == image.shape[:3] and found.get_data_dtype() == np.uint8
        assert np.array_equal(found.affine, image.affine)
        assert set(np.unique(np.asanyarray(found.dataobj))) <= set(range(len(class_names(other_phantom))))
        assert (chain / "inference" / f"{name}_seg.png").is_file()


@pytest.mark.parametrize("axcodes", ORIENTATIONS)
def test_orientation_makes_no_difference(chain, axcodes):
    original, reoriented = (nibabel.load(chain / "inference" / f"{name}_seg.nii.gz") for name in ("original", axcodes))
    assert "".join(nibabel.aff2axcodes(reoriented.affine)) == axcodes
    assert (on_grid_of(reoriented, original) == np.asanyarray(original.dataobj)).mean() > 0.99


def test_volumes_without_a_label_are_pretrained_on_where_the_paper_has_them(other_phantom, chain):
    used = read_checkpoint(chain / "pretrain_global" / "resume.pt")["settings"]["ids"]
    split = split_of(other_phantom)
    further = ["prostate_03"] if other_phantom.bundle == BUNDLES["prostate"] else []
    assert used == [*split["pretrain"], *further]


def test_statistics_are_from_the_studies_beside_the_labelled_ones(prostate_phantom, copy, tmp_path, capsys):
    """As MONAI Label has them: studies in one folder, labels in another, and any file among the studies."""
    phantom = copy(prostate_phantom)
    patient = split_of(phantom)["test"][0]
    image = phantom.image(patient)
    (image.parent / "damaged.nii.gz").write_bytes(b"no volume")
    lists = {
        "train#dataset#data": [{"image": str(image), "label": str(phantom.label(patient))}],
        "validate#dataset#data": [],
        "dataset_dir": tmp_path / "nowhere",
    }
    phantom.run("train", tmp_path / "all", initialisation="random", **lists)
    printed = " ".join(capsys.readouterr())
    assert "1 of " in printed and "damaged.nii.gz" in printed and "They are left out." in printed
    for other in set(image.parent.iterdir()) - {image}:
        other.unlink()
    phantom.run("train", tmp_path / "one", initialisation="random", **lists)
    everything, one = (read_weights(tmp_path / name / "models" / "model.pt") for name in ("all", "one"))
    differing = {name for name, value in everything.items() if not torch.equal(value, one[name])}
    assert {name.rsplit(".", 1)[1] for name in differing} == {"running_mean", "running_var", "num_batches_tracked"}


def test_labels_in_which_a_class_does_not_occur(prostate_phantom, tmp_path):
    """Two of the real label volumes have the whole gland as 1; here one is trained on, the other chooses weights."""
    for patient in ("prostate_18", "prostate_32"):
        assert set(np.unique(voxels(prostate_phantom.label(patient)))) == {0, 1}
    split = split_of(prostate_phantom)
    split["draws"]["1"]["c1"] = {"labelled": ["prostate_18"], "validation": ["prostate_32"]}
    split["test"] = ["prostate_34"]
    (tmp_path / "splits.json").write_text(json.dumps(split))
    prostate_phantom.run("train", tmp_path, initialisation="random", split_path=tmp_path / "splits.json")
    weights = read_weights(tmp_path / "models" / "model.pt")
    assert all(value.isfinite().all() for value in weights.values())


# --- geometry --------------------------------------------------------------------------------------------------------


def round_trip(phantom, patient):
    """Take a label through what training does to it, and back as a prediction; returns both on the native grid."""
    # N4 changes no geometry; images of fuller size, so that what is lost is little.
    settings = {"image_size": [128, 128], "spacing_mm": phantom.settings("train", phantom.root)["spacing_mm"] / 2}
    config = phantom.config("train", n4_iterations=[1], cache_dir=None, **settings)
    item = phantom.items[patient]
    data = config.get_parsed_content("train#preprocessing")(item)
    assert data["label"].shape == data["image"].shape
    assert torch.allclose(data["label"].affine, data["image"].affine, atol=1e-4)
    num_classes = len(class_names(phantom))
    one_hot = torch.nn.functional.one_hot(data["label"][0].as_tensor().long(), num_classes).permute(3, 0, 1, 2)
    invert, argmax = config.get_parsed_content("validate#postprocessing").transforms[1:3]
    found = argmax(invert({"image": data["image"], "pred": type(data["image"])(one_hot.float())}))["pred"]
    native = config.get_parsed_content("validate#preprocessing")(item)["label"]
    return found[0].numpy().astype(int), native[0].numpy().astype(int), found.affine.numpy()


@pytest.mark.parametrize(
    ("name", "number"), [("acdc", 0), ("prostate", 0), *(("mmwhs", number) for number in range(6))]
)
def test_labels_survive_the_way_there_and_back(request, name, number):
    """The volumes of MM-WHS's phantom lie in six ways, among them an oblique and two left-handed ones."""
    phantom = request.getfixturevalue("phantom" if name == "acdc" else f"{name}_phantom")
    patient = [name for name, item in phantom.items.items() if "label" in item][number]
    found, truth, affine = round_trip(phantom, patient)
    assert found.shape == truth.shape == nibabel.load(phantom.image(patient)).shape[:3]
    assert np.allclose(affine, nibabel.load(phantom.image(patient)).affine, atol=1e-4)
    for index in np.unique(truth)[1:]:
        assert dice(found == index, truth == index) > 0.9, index


def test_slices_of_all_hearts_show_the_same_view(mmwhs_phantom):
    """From front to back and from right to left, whatever way the volumes are stored."""
    preprocess = mmwhs_phantom.config("train").get_parsed_content("train#preprocessing")
    stored = set()
    for item in mmwhs_phantom.items.values():
        data = preprocess(item)
        stored.add("".join(nibabel.aff2axcodes(nibabel.load(item["image"]).affine)))
        assert "".join(nibabel.aff2axcodes(data["image"].affine.numpy())) == "LPS"
        label = data["label"][0].numpy()
        left, right = ((label == index).nonzero() for index in (3, 5))  # ventricles
        assert left[0].mean() > right[0].mean()
    assert len(stored) > 3


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path):
    """Copy a phantom's dataset to break something in it."""

    def make(phantom):
        shutil.copytree(phantom.dataset_dir, tmp_path / "data")
        for name in ("splits.json", "cache"):
            (tmp_path / name).symlink_to(phantom.root / name)
        return Phantom(tmp_path, phantom.bundle)

    return make


def test_missing_channel(prostate_phantom, copy):
    phantom = copy(prostate_phantom)
    image = phantom.image("prostate_00")
    change_voxels(image, lambda voxels: voxels[..., 0])
    error = phantom.fail("pretrain_global", phantom.root, channel=1, cache_dir=None, **{"train#dataset#num_workers": 0})
    assert isinstance(error, VolumeError)
    assert f"1 of 5 volumes cannot be used:\n{image} must have the channel 1, counted from 0" in str(error)


def test_unknown_label_value(mmwhs_phantom, copy):
    phantom = copy(mmwhs_phantom)
    patient = split_of(phantom)["draws"]["1"]["c1"]["labelled"][0]
    change_voxels(phantom.label(patient), lambda voxels: np.where(voxels > 0, 10 + (voxels > 1), 0).astype(np.int16))
    error = phantom.fail("train", phantom.root, initialisation="random", **{"train#dataset#num_workers": 0})
    assert isinstance(error, VolumeError)
    assert f"{phantom.label(patient)} has" in str(error) and "that are no class index: " in str(error)
    assert "map the values of the file to these" in str(error)


def test_slip_in_a_label_is_counted(mmwhs_phantom, tmp_path, capsys):
    mmwhs_phantom.run("train", tmp_path, initialisation="random", num_labelled=2, steps=1)
    label = mmwhs_phantom.label("mr_train_1002")
    count = (voxels(label) == 421).sum()
    assert count > 0 and f"{label} has {count} voxels of 421, which are taken for 420." in capsys.readouterr().out


def prepare(phantom, **overrides):
    phantom.run("pretrain_global", phantom.root, run_id="prepare", **overrides)


def entries(phantom):
    return {path.name for path in phantom.cache_dir.iterdir()}


def test_prepare_says_what_it_has_done(prostate_phantom, capsys):
    before = entries(prostate_phantom)
    prepare(prostate_phantom)
    number = len(prostate_phantom.items)
    expected = f"All {number} volumes of {prostate_phantom.dataset_dir} are in {prostate_phantom.cache_dir}."
    assert expected in capsys.readouterr().out
    assert entries(prostate_phantom) == before and len(before) == number


def test_prepare_goes_on_after_bad_files(prostate_phantom, copy):
    """A damaged image, an image that is there twice, a label without image: five of the volumes are left."""
    phantom = copy(prostate_phantom)
    (phantom.root / "cache").unlink()
    names = ("imagesTr/prostate_00.nii.gz", "imagesTr/prostate_01.nii.gz", "labelsTr/prostate_99.nii.gz")
    damaged, twice, orphan = (phantom.dataset_dir / name for name in names)
    num_volumes = len(phantom.items)
    damaged.write_bytes(damaged.read_bytes()[:1000])
    change_voxels(twice, lambda voxels: voxels[:-1])  # as .nii it would be a volume of its own
    second = twice.with_name(twice.name.removesuffix(".gz"))
    shutil.copy(twice, second)
    shutil.copy(orphan.parent / "prostate_00.nii.gz", orphan)
    error = phantom.fail("pretrain_global", phantom.root, run_id="prepare")
    assert isinstance(error, VolumeError)
    text = str(error)
    assert f"1 of {num_volumes - 1} volumes cannot be preprocessed:\n{damaged} cannot be read as NIfTI" in text
    assert f"{second}, {twice} have one id" in text
    assert f"{orphan} is a label without an image" in text
    assert len(entries(phantom)) == num_volumes - 2


# --- memory ----------------------------------------------------------------------------------------------------------

MEASURE = """
import resource, sys
from bundles.run import load_config, REPOSITORY
config = load_config(REPOSITORY / "bundle_mmwhs", "pretrain_global", **{
    "dataset_dir": sys.argv[1], "cache_dir": sys.argv[2], "n4_iterations": [1, 1, 1, 1],
})
item, = config.get_parsed_content("datalist")(sys.argv[1])
print(tuple(config.get_parsed_content("cached_preprocessing")(item)["image"].shape))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.slow
@pytest.mark.parametrize("axes", ["LPS", "PSL"], ids=["200 axial slices", "512 axial slices"])
def test_largest_volume_is_prepared_in_less_than_4_gib(tmp_path, axes):
    """512 x 512 x 200 voxels, all of them body, so that nothing is trimmed. Iterations of N4 cost time, not memory."""
    generator = np.random.default_rng(0)
    array = generator.integers(100, 200, (512, 512, 200), dtype=np.int16)
    spacing = np.diag([0.7, 0.7, 1.0])
    orientation = nibabel.orientations.axcodes2ornt(axes)
    affine = np.eye(4)
    affine[:3, :3] = 0
    affine[orientation[:, 0].astype(int), range(3)] = orientation[:, 1] * spacing.diagonal()
    path = tmp_path / "data" / "mr_train" / "mr_train_1001_image.nii.gz"
    path.parent.mkdir(parents=True)
    image = nibabel.Nifti1Image(array, affine)
    image.header.set_slope_inter(0.5, 3)  # so that it is read in double precision
    nibabel.save(image, path)
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "data"), str(tmp_path / "cache")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    shape, gib = done.stdout.splitlines()[-2:]
    assert shape == str((1, 160, 160, 200 if axes == "LPS" else 512))
    assert float(gib) < 4
    print(f"peak memory {gib} GiB")


# --- real volumes of the prostate ------------------------------------------------------------------------------------


MIDDLE = slice(6, 14)
QUICK_N4 = {"n4_iterations": [1], "n4_shrink": [12, 12, 1]}


@pytest.fixture(scope="module")
def real(prostate_dir, tmp_path_factory):
    """The labelled real case and copies: 3-D, reoriented, left-handed, oblique; each in a folder of its own."""
    root = tmp_path_factory.mktemp("real")
    source = prostate_dir / "Task05_like"
    name = "ProstateX-0000.nii.gz"

    def folder(kind):
        for part in ("imagesTr", "labelsTr"):
            (root / kind / part).mkdir(parents=True)
        return {part: root / kind / part / name for part in ("imagesTr", "labelsTr")}

    originals = {part: source / part / name for part in ("imagesTr", "labelsTr")}
    # The slices in the middle only, which saves half of the time.
    for part, path in folder("4-D").items():
        nibabel.save(nibabel.load(originals[part]).slicer[:, :, MIDDLE], path)
    originals = {part: root / "4-D" / part / name for part in originals}
    for part, path in folder("3-D").items():
        image = nibabel.load(originals[part])
        nibabel.save(image.slicer[..., 0] if image.ndim == 4 else image, path)
    for axcodes in ("SAR", "LPI"):
        for part, path in folder(axcodes).items():
            write_reoriented(originals[part], path, axcodes)
    turn = nibabel.affines.from_matvec(nibabel.eulerangles.euler2mat(0.2, -0.15, 0.3), [5, -3, 8])
    for part, path in folder("oblique").items():
        image = nibabel.load(originals[part])
        nibabel.save(nibabel.Nifti1Image(np.asanyarray(image.dataobj), turn @ image.affine), path)
    return root


def real_config(folder, **overrides):
    settings = {"dataset_dir": folder, "cache_dir": None, "n4_iterations": [2], **overrides}
    config = load_small(BUNDLES["prostate"], "train", settings)
    return config, config.get_parsed_content("datalist")(folder)[0]


def real_volume(folder, **overrides):
    config, item = real_config(folder, **overrides)
    return config.get_parsed_content("cached_preprocessing")(item)["image"]


def test_t2_is_the_channel_that_is_used(real):
    """A 3-D file of it gives the same volume; the apparent diffusion coefficient gives another."""
    both, t2 = real_volume(real / "4-D"), real_volume(real / "3-D")
    assert torch.equal(both.as_tensor(), t2.as_tensor()) and torch.allclose(both.affine, t2.affine)
    assert both.shape[:3] == (1, 192, 192)
    diffusion = real_volume(real / "4-D", channel=1)
    correlation = np.corrcoef(both.numpy().ravel(), diffusion.numpy().ravel())[0, 1]
    assert correlation < 0.8


@pytest.mark.parametrize("kind", ["4-D", "SAR", "LPI", "oblique"])
def test_label_and_prediction_align_in_physical_space(real, kind):
    """The prediction is the label itself, taken through the preprocessing and back."""
    config, item = real_config(real / kind)
    data = config.get_parsed_content("train#preprocessing")(item)
    one_hot = torch.nn.functional.one_hot(data["label"][0].as_tensor().long(), 3).permute(3, 0, 1, 2).float()
    invert, argmax = config.get_parsed_content("validate#postprocessing").transforms[1:3]
    found = argmax(invert({"image": data["image"], "pred": type(data["image"])(one_hot)}))["pred"]
    prediction = nibabel.Nifti1Image(found[0].numpy().astype(np.uint8), found.affine.numpy())
    label = nibabel.load(real / ("oblique" if kind == "oblique" else "4-D") / "labelsTr" / "ProstateX-0000.nii.gz")
    resampled = on_grid_of(prediction, label)
    for index in (1, 2):
        assert dice(resampled == index, np.asanyarray(label.dataobj) == index) > 0.97


def test_predictions_of_copies_align(real, tmp_path):
    """A whole inference of the 4-D file and of a reoriented copy: the same voxels of the patient."""
    torch.manual_seed(0)
    save_atomically(UNet2d(num_classes=3).state_dict(), tmp_path / "model.pt")
    (tmp_path / "new").mkdir()
    for kind in ("4-D", "SAR"):
        shutil.copy(real / kind / "imagesTr" / "ProstateX-0000.nii.gz", tmp_path / "new" / f"{kind}.nii.gz")
    settings = {
        "input": tmp_path / "new",
        "output_dir": tmp_path / "out",
        "checkpoint": tmp_path / "model.pt",
        "device": "cpu",
        "precision": "float32",
        "pictures": False,
        **QUICK_N4,
    }
    config = load_small(BUNDLES["prostate"], "inference", settings)
    config.get_parsed_content("run")
    reference = nibabel.load(tmp_path / "out" / "4-D_seg.nii.gz")
    expected = np.asanyarray(reference.dataobj)
    assert len(np.unique(expected)) > 1
    aligned = on_grid_of(nibabel.load(tmp_path / "out" / "SAR_seg.nii.gz"), reference)
    for index in np.unique(expected):
        assert dice(aligned == index, expected == index) > 0.98, index


def test_3d_files_of_another_study_are_usable(prostate_dir):
    """Volumes of Prostate-3T: T2 only, without labels."""
    path = sorted((prostate_dir / "T2_only").glob("*.nii.gz"))[0]
    config, _ = real_config(prostate_dir / "Task05_like")
    image = config.get_parsed_content("preprocessing")({"image": str(path)})["image"]
    assert image.shape[1:3] == (192, 192) and image.shape[3] == nibabel.load(path).shape[2]
