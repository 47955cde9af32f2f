"""Segmentations of files: the grid they are written on, and what happens to good and bad files."""

from __future__ import annotations

import errno
import logging
import os
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.data import Dataset
from monai.engines import SupervisedEvaluator
from monai.transforms import Compose, Invertd, LoadImaged, ResizeWithPadOrCropd

import common.outputs as outputs
from bundles.run import load_config
from common.coverage import body_outside
from common.data.datalists import acdc
from common.data.nifti import NiftiReader
from common.files import WriteError
from common.outputs import save_segmentation, segmentation_path
from common.segmentation import segment_volumes
from common.transforms import CheckVolumed
from tests.places import REPOSITORY

SHAPE = (7, 6, 3)
NAMES = ["background", "object"]
# Oblique and left-handed, with voxels of 1.5 x 1.25 x 8 mm and an origin.
ROTATION = np.array([[0.6, 0, 0.8], [0, -1, 0], [0.8, 0, -0.6]])
AFFINE = nibabel.affines.from_matvec(ROTATION @ np.diag([1.5, 1.25, 8.0]), [10, -20, 30])


def labels_of(shape=SHAPE):
    return np.random.default_rng(1).integers(0, 4, shape).astype(np.int64)


def make_image(sform=1, qform=1, dtype=np.int16, shape=SHAPE):
    image = nibabel.Nifti1Image(np.arange(np.prod(shape)).reshape(shape).astype(dtype), None)
    image.header.set_zooms((1.5, 1.25, 8.0, 1.0, 1.0)[: len(shape)])
    image.set_sform(AFFINE, code=sform)
    image.set_qform(AFFINE, code=qform)
    if not sform and not qform:
        image = nibabel.Nifti1Image(np.asanyarray(image.dataobj), None, image.header)
    image.header.set_xyzt_units("mm", "sec")
    return image


# ---- names


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("a.nii.gz", "a"),
        ("a.nii", "a"),
        ("a.b.nii.gz", "a.b"),
        ("nii.gz.nii", "nii.gz"),
        ("scan.hdr", "scan"),
        ("X.NII.GZ", "X"),
        ("scan.nrrd", "scan.nrrd"),
    ],
)
def test_name_of_a_segmentation(image, expected):
    assert segmentation_path(f"/in/folder/{image}", "/out") == Path("/out") / f"{expected}_seg.nii.gz"


# ---- save_segmentation


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
@pytest.mark.parametrize(
    ("sform", "qform"),
    [(1, 1), (2, 0), (0, 3), (0, 0), (4, 1)],
    ids=["both", "sform only", "qform only", "neither", "different codes"],
)
def test_grid_of_the_image_is_kept(tmp_path, sform, qform, suffix):
    path, target = tmp_path / f"image{suffix}", tmp_path / "out" / "image_seg.nii.gz"
    nibabel.save(make_image(sform, qform), path)
    stored = nibabel.load(path)
    assert (int(stored.header["sform_code"]), int(stored.header["qform_code"])) == (sform, qform)
    save_segmentation(labels_of(), str(path), target)

    written = nibabel.load(target)
    assert written.get_data_dtype() == np.uint8
    assert np.array_equal(np.asanyarray(written.dataobj), labels_of())
    assert np.asanyarray(written.dataobj).dtype == np.uint8
    assert np.array_equal(written.affine, stored.affine)
    for name in ("sform_code", "qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "srow_x", "srow_z"):
        assert np.array_equal(written.header[name], stored.header[name]), name
    assert np.array_equal(written.header["pixdim"], stored.header["pixdim"])
    assert written.header.get_xyzt_units() == ("mm", "sec")
    assert [entry.name for entry in target.parent.iterdir()] == [target.name]


def test_forms_that_differ_are_both_kept(tmp_path):
    image = make_image()
    moved = AFFINE.copy()
    moved[:3, 3] += 100
    image.set_qform(moved, code=1)
    nibabel.save(image, tmp_path / "image.nii.gz")
    save_segmentation(labels_of(), str(tmp_path / "image.nii.gz"), tmp_path / "seg.nii.gz")
    written, stored = nibabel.load(tmp_path / "seg.nii.gz"), nibabel.load(tmp_path / "image.nii.gz")
    assert np.array_equal(written.get_sform(), stored.get_sform())
    assert np.array_equal(written.get_qform(), stored.get_qform())
    assert not np.allclose(written.get_sform(), written.get_qform())


def test_scaling_and_display_range_of_the_image_are_not_taken_over(tmp_path):
    path, target = tmp_path / "image.nii", tmp_path / "seg.nii.gz"
    image = make_image()
    image.header.set_slope_inter(0.25, -100)
    image.header["cal_min"], image.header["cal_max"] = 10, 500
    nibabel.save(image, path)
    assert nibabel.load(path).dataobj.slope == 0.25
    save_segmentation(labels_of(), str(path), target)
    written = nibabel.load(target)
    assert (written.dataobj.slope, written.dataobj.inter) == (1, 0)
    assert np.array_equal(written.get_fdata(), labels_of())
    assert written.header["cal_min"] == written.header["cal_max"] == 0


@pytest.mark.parametrize("channels", [(1,), (2,), (1, 2)], ids=str)
def test_image_with_channels(tmp_path, channels):
    nibabel.save(make_image(shape=(*SHAPE, *channels)), tmp_path / "image.nii.gz")
    save_segmentation(labels_of(), str(tmp_path / "image.nii.gz"), tmp_path / "seg.nii.gz")
    written = nibabel.load(tmp_path / "seg.nii.gz")
    assert written.shape == SHAPE and written.header.get_zooms() == (1.5, 1.25, 8.0)
    assert np.allclose(written.affine, AFFINE, atol=1e-5)


@pytest.mark.parametrize("shape", [(6, 7, 3), (7, 6), (7, 6, 3, 1), (7, 6, 4)], ids=str)
def test_labels_of_another_shape(tmp_path, shape):
    nibabel.save(make_image(), tmp_path / "image.nii.gz")
    with pytest.raises(ValueError, match=r"labels must have the shape \(7, 6, 3\) of .*image\.nii\.gz, got"):
        save_segmentation(labels_of(shape), str(tmp_path / "image.nii.gz"), tmp_path / "out" / "seg.nii.gz")
    assert not (tmp_path / "out").exists()


def test_a_failure_leaves_the_old_segmentation(tmp_path, monkeypatch):
    path, target = tmp_path / "image.nii.gz", tmp_path / "out" / "seg.nii.gz"
    nibabel.save(make_image(), path)
    save_segmentation(labels_of(), str(path), target)
    before = target.read_bytes()

    def fail(image, where):
        Path(where).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(nibabel, "save", fail)
    with pytest.raises(KeyboardInterrupt):
        save_segmentation(0 * labels_of(), str(path), target)
    assert target.read_bytes() == before and len(list(target.parent.iterdir())) == 1


# ---- segment_volumes


class Threshold(torch.nn.Module):
    """Labels what is brighter than 50; fails on a volume that contains the value 99, is interrupted by 98."""

    def forward(self, images):
        if (images == 99).any():
            raise RuntimeError("out of memory")
        if (images == 98).any():
            raise KeyboardInterrupt
        return (images > 50).float()


def save_volume(path, seed, spoil=None):
    array = np.random.default_rng(seed).integers(0, 97, SHAPE).astype(np.int16)
    if spoil is not None:
        array[0, 0, 0] = spoil
    nibabel.save(nibabel.Nifti1Image(array, AFFINE), path)
    return array


def run(paths, folder, pictures=False):
    transform = Compose(
        [
            LoadImaged("image", reader=NiftiReader(field_of_view_mm=(1, 1000)), ensure_channel_first=True),
            CheckVolumed("image"),
        ]
    )
    dataset = Dataset([{"id": Path(path).name, "image": str(path)} for path in paths], transform)
    evaluator = SupervisedEvaluator(device="cpu", val_data_loader=[], epoch_length=1, network=Threshold())
    return segment_volumes(evaluator, dataset, str(folder), NAMES, pictures)


def test_every_file_is_segmented(tmp_path, caplog):
    arrays = {name: save_volume(tmp_path / name, seed) for seed, name in enumerate(["a.nii.gz", "b.nii", "c.nii.gz"])}
    with caplog.at_level(logging.INFO):
        written = run([tmp_path / name for name in arrays], tmp_path / "out", pictures=True)
    assert [path.name for path in written] == ["a_seg.nii.gz", "b_seg.nii.gz", "c_seg.nii.gz"]
    for path, array in zip(written, arrays.values(), strict=True):
        assert np.array_equal(np.asanyarray(nibabel.load(path).dataobj), array > 50)
    pictures = [f"{name}_seg.png" for name in "abc"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        [*pictures, *(p.name for p in written), "report.html", "volumes.csv"]
    )
    assert "Wrote 3 of 3 segmentations" in caplog.text


def make_missing(path):
    pass


def make_damaged(path):
    save_volume(path, 7)
    path.write_bytes(path.read_bytes()[:100])


def make_constant(path):
    nibabel.save(nibabel.Nifti1Image(np.ones(SHAPE, np.int16), AFFINE), path)


def make_too_large(path):
    save_volume(path, 7, spoil=99)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (make_missing, r"bad\.nii\.gz does not exist"),
        (make_damaged, r"bad\.nii\.gz cannot be read as NIfTI"),
        (make_constant, r"bad\.nii\.gz has a constant intensity"),
        (make_too_large, r"bad\.nii\.gz could not be preprocessed\. \(RuntimeError: out of memory\)"),
    ],
    ids=["missing", "damaged", "constant", "network fails"],
)
def test_a_bad_file_costs_no_other(tmp_path, caplog, make, message):
    first, last = (save_volume(tmp_path / name, seed) for seed, name in enumerate(["a.nii.gz", "z.nii.gz"]))
    make(tmp_path / "bad.nii.gz")
    with pytest.raises(SystemExit) as exit_, caplog.at_level(logging.INFO):
        run([tmp_path / name for name in ("a.nii.gz", "bad.nii.gz", "z.nii.gz")], tmp_path / "out")
    assert exit_.value.code == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a_seg.nii.gz", "volumes.csv", "z_seg.nii.gz"]
    table = (tmp_path / "out" / "volumes.csv").read_text().splitlines()
    voxel_ml = 1.5 * 1.25 * 8 / 1000
    assert table[0] == "segmentation,object_ml"  # the files that were segmented, and no others
    for line, (name, array) in zip(table[1:], (("a", first), ("z", last)), strict=True):
        assert line.split(",")[0] == f"{name}_seg.nii.gz"
        assert float(line.split(",")[1]) == pytest.approx((array > 50).sum() * voxel_ml)
    for name, array in (("a", first), ("z", last)):
        assert np.array_equal(np.asanyarray(nibabel.load(tmp_path / "out" / f"{name}_seg.nii.gz").dataobj), array > 50)
    (error,) = [record.getMessage() for record in caplog.records if record.name == "common.segmentation"][1:]
    assert error.startswith("1 of 3 files could not be segmented:\n")
    assert len(error.splitlines()) == 2 and re.search(message, error)
    assert "Wrote 2 of 3 segmentations" in caplog.text


def test_several_bad_files_are_all_named(tmp_path, caplog):
    for name in ("b.nii.gz", "c.nii.gz"):
        save_volume(tmp_path / name, 0, spoil=99)
    save_volume(tmp_path / "d.nii.gz", 1)
    with pytest.raises(SystemExit):
        run([tmp_path / f"{name}.nii.gz" for name in "abcd"], tmp_path / "out")
    assert "3 of 4 files" in caplog.text
    assert all(f"{name}.nii.gz" in caplog.text for name in "abc") and "d.nii.gz" not in caplog.text
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["d_seg.nii.gz", "volumes.csv"]


def test_interrupting_stops_at_once(tmp_path):
    save_volume(tmp_path / "a.nii.gz", 0, spoil=98)
    save_volume(tmp_path / "b.nii.gz", 1)
    with pytest.raises(KeyboardInterrupt):
        run([tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_one_evaluator_can_be_used_again(tmp_path):
    save_volume(tmp_path / "bad.nii.gz", 0, spoil=99)
    array = save_volume(tmp_path / "good.nii.gz", 1)
    evaluator = SupervisedEvaluator(device="cpu", val_data_loader=[], epoch_length=1, network=Threshold())
    transform = Compose(
        [LoadImaged("image", reader=NiftiReader(field_of_view_mm=(1, 1000)), ensure_channel_first=True)]
    )
    with pytest.raises(SystemExit):
        data = [{"image": str(tmp_path / "bad.nii.gz")}]
        segment_volumes(evaluator, Dataset(data, transform), str(tmp_path / "out"), NAMES, pictures=False)
    data = [{"image": str(tmp_path / "good.nii.gz")}]
    (path,) = segment_volumes(evaluator, Dataset(data, transform), str(tmp_path / "out"), NAMES, pictures=False)
    assert np.array_equal(np.asanyarray(nibabel.load(path).dataobj), array > 50)


# ---- what is said of a segmentation


def window(size):
    return Compose(
        [LoadImaged("image", ensure_channel_first=True), ResizeWithPadOrCropd("image", spatial_size=(*size, -1))]
    )


def run_window(paths, folder, size):
    """Segment what a window of this size shows; what is outside becomes background."""
    transform = window(size)
    dataset = Dataset([{"image": str(path)} for path in paths], transform)
    back = Compose([Invertd("pred", transform, "image")])
    evaluator = SupervisedEvaluator(
        device="cpu", val_data_loader=[], epoch_length=1, network=Threshold(), postprocessing=back
    )
    return segment_volumes(evaluator, dataset, str(folder), NAMES, pictures=False)


def save_blob(path, start, affine=AFFINE):
    """A bright block in 40 x 12 x 3 voxels of air."""
    array = np.zeros((40, 12, 3), np.int16)
    array[start : start + 10, 2:10] = 90
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


def test_nothing_found_and_nothing_seen_are_said_of_the_file_and_at_the_end(tmp_path, caplog):
    save_blob(tmp_path / "far.nii.gz", 29)
    save_blob(tmp_path / "near.nii.gz", 15)
    run_window([tmp_path / "far.nii.gz", tmp_path / "near.nii.gz"], tmp_path / "out", (16, 12))
    sentence = f"{tmp_path / 'far.nii.gz'}: no object was found; 100% of what is bright lies outside the window"
    assert [record.message.startswith(sentence) for record in caplog.records].count(True) == 1
    last = caplog.records[-1].message
    assert last.startswith("1 of 2 segmentations are doubtful:\n" + sentence) and "near" not in last


@pytest.mark.parametrize("start", [15, 20, 24])
def test_a_window_that_shows_enough_is_not_spoken_of(tmp_path, caplog, start):
    save_blob(tmp_path / "a.nii.gz", start)
    run_window([tmp_path / "a.nii.gz"], tmp_path / "out", (16, 12))
    assert "outside the window" not in caplog.text and "doubtful" not in caplog.text


@pytest.mark.parametrize(
    "affine", [AFFINE, np.diag([-2.0, 1.0, 5.0, 1.0])[[1, 0, 2, 3]]], ids=["oblique", "axes exchanged"]
)
def test_part_of_the_body_outside(tmp_path, affine):
    save_blob(tmp_path / "a.nii.gz", 20, affine)
    for size, outside in (((16, 12), 0.2), ((16, 6), 0.4), ((64, 64), 0.0)):
        image = window(size)({"image": str(tmp_path / "a.nii.gz")})["image"]
        assert body_outside(image, str(tmp_path / "a.nii.gz")) == pytest.approx(outside)


def test_structures_that_are_missing_are_named(tmp_path, caplog):
    save_volume(tmp_path / "a.nii.gz", 1)
    evaluator = SupervisedEvaluator(device="cpu", val_data_loader=[], epoch_length=1, network=Threshold())
    dataset = Dataset([{"image": str(tmp_path / "a.nii.gz")}], LoadImaged("image", ensure_channel_first=True))
    loader = evaluator.data_loader
    segment_volumes(evaluator, dataset, str(tmp_path / "out"), [*NAMES, "second", "third"], pictures=False)
    assert evaluator.data_loader is loader  # what belongs to the evaluator stays with it
    assert "a.nii.gz: no second, third were found." in caplog.text


def test_the_crop_of_no_real_volume_is_spoken_of(acdc_dir):
    config = load_config(REPOSITORY / "bundle_acdc", "inference")
    transform = config.get_parsed_content("preprocessing")
    everything = transform.transforms
    transform.transforms = tuple(each for each in everything if "N4" not in type(each).__name__)
    assert len(transform.transforms) == len(everything) - 1
    for item in acdc(acdc_dir)[::12]:
        assert 0.1 < body_outside(transform({"image": item["image"]})["image"], item["image"]) < 0.6


# ---- what the system refuses


def test_old_segmentations_that_are_replaced_are_named(tmp_path, caplog):
    save_volume(tmp_path / "a.nii.gz", 1)
    run([tmp_path / "a.nii.gz"], tmp_path / "out")
    assert "replaced" not in caplog.text
    run([tmp_path / "a.nii.gz"], tmp_path / "out")
    assert f"1 segmentations that are in {tmp_path / 'out'} will be replaced: {tmp_path / 'out'}" in caplog.text


@pytest.mark.parametrize("failing", ["draw_comparison", "save_segmentation"])
def test_both_files_or_neither(tmp_path, monkeypatch, caplog, failing):
    for name in "ab":
        save_volume(tmp_path / f"{name}.nii.gz", 1)
    run([tmp_path / "a.nii.gz"], tmp_path / "out", pictures=True)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def fail(*_, **__):
        raise RuntimeError("no font")

    monkeypatch.setattr(outputs, failing, fail)
    with pytest.raises(SystemExit):
        run([tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"], tmp_path / "out", pictures=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert "2 of 2 files could not be segmented" in caplog.text and "no font" in caplog.text


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, r"its disk is full \([\d,.]+ MiB free\)\. Make room"),
        (errno.EACCES, r"you have no right to write there\. Get it"),
        (errno.EROFS, r"its file system is read-only\. Mount it for writing"),
    ],
)
def test_a_refusal_of_the_system_stops_at_once_and_names_the_folder(tmp_path, monkeypatch, caplog, number, remedy):
    for name in "abc":
        save_volume(tmp_path / f"{name}.nii.gz", 1)
    save, saved = nibabel.save, []

    def refuse(image, path):
        if saved:
            raise OSError(number, os.strerror(number))
        saved.append(path)
        save(image, path)

    monkeypatch.setattr(nibabel, "save", refuse)
    with pytest.raises(WriteError, match=f"^.*{tmp_path / 'out'} cannot be written to: {remedy}"):
        run([tmp_path / f"{name}.nii.gz" for name in "abc"], tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a_seg.nii.gz"]
    assert "could not be segmented" not in caplog.text
    assert "1 of 3 segmentations were written" in caplog.text
