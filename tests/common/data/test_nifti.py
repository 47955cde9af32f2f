"""The reader of images and labels: what it refuses before and while reading, and that the rest is read as stored."""

from __future__ import annotations

import gzip
import hashlib
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import list_data_collate
from monai.transforms import LoadImaged

from common.data import nifti, nifti_header
from common.data.cache import CachedTransformd
from common.data.nifti import NiftiReader, nifti_files, read_header, read_nifti, voxels_hash
from common.data.volume_files import kind_of_pair, partner
from common.transforms import VolumeError

AFFINE = np.eye(4)
AFFINE[:3] = [[0, 1.3 * 0.28, 8 * 0.96, 5], [-1.4, 0, 0, -6], [0, 1.3 * 0.96, -8 * 0.28, 7]]
VOXELS = np.random.default_rng(0).integers(0, 900, (60, 50, 4)).astype(np.int16)
OTHER = np.diag([-2.0, 3.0, 4.0, 1.0])


def make_image(voxels=VOXELS, affine=AFFINE, qform=1, sform=1, kind=nib.Nifti1Image, units="mm"):
    image = kind(voxels, affine)
    image.set_qform(affine, qform)
    image.set_sform(affine, sform)
    image.header["qform_code"], image.header["sform_code"] = qform, sform
    image.header.set_xyzt_units(units)
    return image


def save(path: Path, **options) -> Path:
    nib.save(make_image(**options), path)
    return path


def patch(path: Path, **fields) -> Path:
    """Overwrite fields of a header without nibabel's corrections."""
    compressed = path.suffix == ".gz"
    content = bytearray(gzip.decompress(path.read_bytes()) if compressed else path.read_bytes())
    kind = nib.Nifti1Header if int.from_bytes(content[:4], "little") == 348 else nib.Nifti2Header
    header = kind(bytes(content[: kind.sizeof_hdr]), check=False)
    for name, value in fields.items():
        header[name] = value
    content[: kind.sizeof_hdr] = header.binaryblock
    path.write_bytes(gzip.compress(content) if compressed else content)
    return path


def load(path, **options):
    return LoadImaged("image", reader=NiftiReader(**options), ensure_channel_first=True)({"image": path})["image"]


# ---- what is read


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.nii", nib.Nifti1Image),
        ("a.nii.gz", nib.Nifti1Image),
        ("a.nii.gz", nib.Nifti2Image),
        ("a.hdr", nib.Nifti1Pair),
        ("a.img", nib.Nifti1Pair),
        ("a.hdr.gz", nib.Nifti1Pair),
        ("a.hdr", nib.Nifti2Pair),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_every_form_of_nifti_is_read_alike(tmp_path, caplog, name, kind):
    path = save(tmp_path / name, kind=kind)
    image = load(path)
    assert np.array_equal(image[0].numpy(), VOXELS)
    assert np.array_equal(image.affine.numpy(), nib.load(path).affine)
    assert list(image.meta["spatial_shape"]) == [60, 50, 4] and image.meta["filename_or_obj"] == str(path)
    assert image.meta["voxels_sha256"] == voxels_hash(VOXELS)
    assert np.array_equal(read_header(path).get_best_affine(), nib.load(path).affine)
    assert not caplog.text


def test_metadata_are_those_of_monai(tmp_path):
    path = save(tmp_path / "a.nii.gz")
    ours = load(path)
    monais = LoadImaged("image", reader="NibabelReader", ensure_channel_first=True)({"image": path})["image"]
    assert torch.equal(ours.as_tensor(), monais.as_tensor()) and ours.affine.dtype == monais.affine.dtype
    assert set(ours.meta) - set(monais.meta) == {"voxels_sha256"} and not set(monais.meta) - set(ours.meta)
    for key, value in monais.meta.items():
        assert np.array_equal(
            np.asarray(ours.meta[key]), np.asarray(value), equal_nan=key == "original_channel_dim"
        ) or (key in ("scl_slope", "scl_inter"))


@pytest.mark.parametrize("kind", ["scaled", "big-endian", "4-D", "float"])
def test_voxels_are_those_of_nibabel(tmp_path, kind):
    path = tmp_path / "a.nii.gz"
    if kind == "scaled":
        image = make_image()
        image.header.set_slope_inter(0.5, -7)
        nib.save(image, path)
    elif kind == "big-endian":
        nib.save(nib.Nifti1Image(VOXELS, AFFINE, nib.Nifti1Header(endianness=">")), path)
    else:
        save(path, voxels=np.stack([VOXELS, VOXELS + 1], -1) if kind == "4-D" else VOXELS / np.float32(7))
    expected = np.asarray(nib.load(path).dataobj, np.float32)
    image = load(path)
    assert np.array_equal(np.moveaxis(image.numpy(), 0, -1), expected if kind == "4-D" else expected[..., None])
    assert image.meta["voxels_sha256"] == voxels_hash(expected)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "A.NII.GZ"])
def test_what_a_file_is_called_does_not_matter(tmp_path, name):
    plain, compressed = save(tmp_path / "plain.nii"), save(tmp_path / "compressed.nii.gz")
    for source in (plain, compressed):
        shutil.copy(source, tmp_path / name)
        assert np.array_equal(load(tmp_path / name)[0].numpy(), VOXELS)


@pytest.mark.parametrize("parts", ["members", "padding"])
def test_several_gzip_members_and_padding_are_read(tmp_path, parts):
    content = save(tmp_path / "a.nii").read_bytes()
    blocks = [gzip.compress(content[start : start + 5000]) for start in range(0, len(content), 5000)]
    joined = b"".join(blocks) if parts == "members" else gzip.compress(content) + bytes(512)
    (tmp_path / "a.nii.gz").write_bytes(joined)
    assert np.array_equal(load(tmp_path / "a.nii.gz")[0].numpy(), VOXELS)


def test_several_files_are_stacked_as_channels(tmp_path):
    paths = [save(tmp_path / "a.nii.gz"), save(tmp_path / "b.nii.gz", voxels=VOXELS + 1)]
    image = load(paths)
    assert np.array_equal(image.numpy(), np.stack([VOXELS, VOXELS + 1]))


def test_the_hash_is_of_the_voxels(tmp_path):
    hashes = {
        load(save(tmp_path / "a.nii.gz")).meta["voxels_sha256"],
        load(save(tmp_path / "b.nii", voxels=VOXELS.astype(np.float64), affine=OTHER)).meta["voxels_sha256"],
        load(save(tmp_path / "c.nii", voxels=VOXELS[..., None])).meta["voxels_sha256"],
    }
    expected = hashlib.sha256(b"[60, 50, 4]" + VOXELS.astype("<f4").tobytes()).hexdigest()
    assert hashes == {expected}
    others = [VOXELS[::-1], VOXELS.reshape(50, 60, 4), VOXELS + (np.arange(4) == 2)]
    assert expected not in [voxels_hash(voxels) for voxels in others]


def test_the_cache_keeps_the_hash_and_reads_both_files_of_a_pair(tmp_path):
    cached = CachedTransformd("image", LoadImaged("image", reader=NiftiReader()), tmp_path / "cache")
    paths = [save(tmp_path / f"{k}.hdr", kind=nib.Nifti1Pair, voxels=VOXELS + k) for k in range(3)]
    assert len({path.read_bytes() for path in paths}) == 1
    assert len({cached.entry_path(path) for path in paths}) == 3
    assert cached.entry_path(paths[0]) == cached.entry_path(tmp_path / "0.img")
    for _ in range(2):
        volumes = [cached({"image": path})["image"] for path in paths]
        assert [volume.meta["voxels_sha256"] for volume in volumes] == [voxels_hash(VOXELS + k) for k in range(3)]
    assert isinstance(list_data_collate(volumes).meta["voxels_sha256"], str | list)


# ---- the affine that holds


@pytest.mark.parametrize(("qform", "sform"), [(0, 1), (1, 0), (1, 1), (0, 0)], ids=str)
def test_sform_then_qform_then_voxel_sizes(tmp_path, qform, sform):
    path = save(tmp_path / "a.nii", qform=qform, sform=sform)
    assert np.array_equal(load(path).affine.numpy(), nib.load(path).affine)
    if qform or sform:
        assert np.allclose(load(path).affine.numpy(), AFFINE, atol=1e-3)


@pytest.mark.parametrize("factor", [1.002, 1.5], ids=["slightly", "grossly"])
def test_a_valid_sform_is_not_replaced_where_pixdim_disagrees(tmp_path, caplog, factor):
    path = save(tmp_path / "a.nii.gz", qform=0)
    pixdim = nib.load(path).header["pixdim"] * np.float32([1, factor, 1, 1, 1, 1, 1, 1])
    patch(path, pixdim=pixdim, quatern_b=0, quatern_c=0, quatern_d=0)
    image = load(path)
    assert np.allclose(image.affine.numpy(), AFFINE) and np.allclose(image.meta["original_affine"], AFFINE)
    assert ("by its sform, but" in caplog.text) == (factor > 1.1)


def test_sform_and_qform_that_disagree_are_both_named(tmp_path, caplog):
    image = nib.Nifti1Image(VOXELS, np.diag([2.0, 2.0, 8.0, 1.0]))
    image.set_sform(np.diag([2.0, 2.0, 8.0, 1.0]), 1)
    image.set_qform(np.diag([-2.0, -2.0, 8.0, 1.0]), 1)
    nib.save(image, tmp_path / "a.nii")
    assert np.allclose(load(tmp_path / "a.nii").affine.numpy(), np.diag([2.0, 2.0, 8.0, 1.0]))
    assert f"{tmp_path / 'a.nii'} has axes that point to RAS by its sform, but to LPS by its qform" in caplog.text


@pytest.mark.parametrize("value", [3, np.nan, np.inf], ids=str)
def test_an_unusable_qform_beside_a_valid_sform_is_said(tmp_path, caplog, value):
    path = patch(save(tmp_path / "a.nii.gz"), quatern_b=value)
    assert np.allclose(load(path).affine.numpy(), AFFINE)
    assert f"{path} has an unusable qform; the sform is taken." in caplog.text


@pytest.mark.parametrize("slope", [-1, 1e-30])
def test_unusual_scaling_is_said(tmp_path, caplog, slope):
    load(patch(save(tmp_path / "a.nii.gz"), scl_slope=slope, scl_inter=0))
    assert f"scales its voxels by {slope:g} (scl_slope of the header)" in caplog.text


def test_a_sheared_sform_is_said(tmp_path, caplog):
    sheared = np.diag([2.0, 2.0, 8.0, 1.0])
    sheared[0, 1] = 1.0
    load(save(tmp_path / "a.nii", affine=sheared, qform=0))
    assert "has axes that are not at right angles" in caplog.text


@pytest.mark.parametrize(("units", "scale"), [("meter", 1e-3), ("micron", 1e3), ("mm", 1.0), ("unknown", 1.0)])
def test_units_are_read(tmp_path, caplog, units, scale):
    stored = np.diag([scale, scale, scale, 1]) @ AFFINE
    image = load(save(tmp_path / "a.nii", affine=stored, units=units))
    assert np.allclose(image.affine.numpy(), AFFINE, atol=1e-3)
    assert np.allclose(image.meta["original_affine"], AFFINE, atol=1e-3)
    assert np.allclose(image.meta["pixdim"][1:4], np.linalg.norm(AFFINE[:3, :3], axis=0), rtol=1e-4)
    assert (f"{tmp_path / 'a.nii'} states its voxel size in units of {units}; read as 1.4" in caplog.text) == (
        scale != 1
    )


# ---- what is refused


BAD_HEADERS = {
    "axes": ({"dim": [9, 60, 50, 4, 1, 1, 1, 1]}, "states 9 axes, not 1 to 7"),
    "negative size": ({"dim": [3, 60, -50, 4, 1, 1, 1, 1]}, "a size of 60 x -50 x 4 voxels"),
    "no voxels": ({"dim": [3, 60, 0, 4, 1, 1, 1, 1]}, "has no voxels: its size is 60 x 0 x 4"),
    "huge": ({"dim": [3, 32767, 32767, 3, 1, 1, 1, 1]}, r"states 32767 x 32767 x 3 voxels \(6442058086 bytes"),
    "all dims": ({"dim": [7, *[32767] * 7]}, "or of another format, since its header states"),
    "more": ({"dim": [3, 60, 50, 5, 1, 1, 1, 1]}, "cannot be read as NIfTI: it is damaged, cut short"),
    "fewer": (
        {"dim": [3, 60, 50, 3, 1, 1, 1, 1]},
        "holds more than the 18352 bytes of its header's 60 x 50 x 3 voxels",
    ),
    "colours": ({"datatype": 128}, r"has colours \(datatype 128, RGB\).*Store the image without colours"),
    "colours and alpha": ({"datatype": 2304}, "has colours"),
    "complex": ({"datatype": 32}, r"has complex numbers \(datatype 32, complex64\).*Store the magnitude"),
    "unknown type": ({"datatype": 3}, r"voxels of the datatype 3 \(unknown\), which cannot be used"),
    "binary": ({"datatype": 1}, "voxels of the datatype 1"),
    "long floats": ({"datatype": 1536}, "voxels of the datatype 1536"),
    "bits": ({"bitpix": 32}, r"int16\) of 16 bits and 32 bits for each voxel"),
    "scaling": ({"scl_slope": 2, "scl_inter": np.inf}, "adds inf.*again"),
    "magic of a pair": ({"magic": b"ni1"}, "two files .* but is one file. Copy it again"),
    "offset": ({"vox_offset": 300}, "voxels begin at byte 300"),
    "nan offset": ({"vox_offset": np.nan}, "voxels begin at byte nan"),
    "later offset": ({"vox_offset": 400}, "cannot be read as NIfTI: it is damaged, cut short"),
    "zero pixdim": ({"pixdim": [1, 1.4, 0, 8, 0, 0, 0, 0]}, r"states a voxel size of 0 \(pixdim 1.4 x 0 x 8\)"),
    "nan pixdim": ({"pixdim": [1, 1.4, np.nan, 8, 0, 0, 0, 0]}, r"no number \(pixdim 1.4 x nan x 8\)"),
    "tiny pixdim": ({"pixdim": [1, 1.4, 1e-30, 8, 0, 0, 0, 0], "sform_code": 0}, "voxels of 1.4 x 1e-30 x 8 mm"),
    "large pixdim": ({"pixdim": [1, 1.4, 1.4, 60, 0, 0, 0, 0], "sform_code": 0}, "outside 0.05 to 50 mm"),
    "wide": ({"pixdim": [1, 17, 14, 8, 0, 0, 0, 0], "sform_code": 0}, "field of view of 1020 x 700 x 32 mm"),
    "metres": ({"xyzt_units": 1}, r"voxels of 1400 x .* mm \(units of the header: meter\)"),
    "zero sform": (
        {"srow_x": 0, "srow_y": 0, "srow_z": 0},
        "sform axes of 0 x 0 x 0.*set sform_code to 0 if the qform",
    ),
    "flat sform": ({"srow_z": 0}, "that do not span a space"),
    "nan sform": ({"srow_x": [np.nan, 0, 0, 0]}, "sform with entries that are no finite numbers"),
    "endless origin": ({"srow_x": [1, 0, 0, np.inf]}, "sform with entries that are no finite numbers"),
    "no rotation": ({"sform_code": 0, "quatern_b": 3}, "has an unusable qform"),
    "nan rotation": ({"sform_code": 0, "quatern_b": np.nan}, "qform"),
    "code": ({"sform_code": 2000}, "its sform_code is 2000, not 0 to 5"),
    "magic": ({"magic": b"n+5"}, "does not begin with a NIfTI header"),
    "length": ({"sizeof_hdr": 349}, "does not begin with a NIfTI header"),
}


@pytest.mark.parametrize("name", ["bad image.nii", "bad image.nii.gz"])
@pytest.mark.parametrize("case", BAD_HEADERS, ids=str)
def test_impossible_headers_are_refused_by_name(tmp_path, monkeypatch, name, case):
    fields, message = BAD_HEADERS[case]
    path = patch(save(tmp_path / name), **fields)
    with pytest.raises(VolumeError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


@pytest.mark.parametrize("case", ["huge", "all dims", "colours", "tiny pixdim", "wide", "zero sform"])
def test_impossible_headers_are_refused_before_voxels_are_read(tmp_path, monkeypatch, case):
    path = patch(save(tmp_path / "a.nii.gz"), **BAD_HEADERS[case][0])
    read = []
    monkeypatch.setattr(
        nifti.gzip.GzipFile, "read", lambda self, size: read.append(size) or self._buffer.read(size), raising=True
    )
    with pytest.raises(VolumeError):
        load(path)
    assert read == [nifti_header.HEADER_BYTES]


def test_more_than_can_be_held_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(nifti_header, "_MOST_BYTES", 20000)
    with pytest.raises(VolumeError, match="60 x 50 x 4 voxels, 0.0 GiB, but at most"):
        load(save(tmp_path / "a.nii"))


def test_bounds_are_parameters(tmp_path, caplog):
    path = save(tmp_path / "a.nii", affine=np.diag([20.0, 20.0, 60.0, 1.0]))
    with pytest.raises(VolumeError, match="outside 0.05 to 50 mm"):
        load(path)
    with pytest.raises(VolumeError, match="more than 1000 mm"):
        load(path, spacing_mm=(1, 100))
    assert load(path, spacing_mm=(1, 100), field_of_view_mm=(500, 3000)).shape == (1, 60, 50, 4)
    assert not caplog.text
    load(save(tmp_path / "b.nii", affine=np.diag([0.2, 0.2, 0.8, 1.0])))
    assert (
        "has a field of view of 12 x 10 x 3.2 mm (units of the header: mm), less than 50 mm in two axes" in caplog.text
    )


@pytest.mark.parametrize("bounds", [(0, 1), (2, 1), (-1, 1), (float("nan"), 1)], ids=str)
@pytest.mark.parametrize("name", ["spacing_mm", "field_of_view_mm"])
def test_bounds_are_checked(name, bounds):
    with pytest.raises(ValueError, match=f"{name} must be a smallest and a largest positive number"):
        NiftiReader(**{name: bounds})


DAMAGES = {
    "bit": lambda good: good[: len(good) // 2] + bytes([good[len(good) // 2] ^ 4]) + good[len(good) // 2 + 1 :],
    "checksum": lambda good: good[:-8] + bytes([good[-8] ^ 1]) + good[-7:],
    "length": lambda good: good[:-1] + bytes([good[-1] ^ 1]),
    "cut short": lambda good: good[: len(good) * 2 // 3],
    "cut in the checksum": lambda good: good[:-3],
    "cut in the header": lambda good: good[:150],
    "garbage behind": lambda good: good + b"garbage",
    "twice": lambda good: good + good,
    "empty": lambda good: b"",
    "text": lambda good: b"hello",
    "compressed text": lambda good: gzip.compress(b"hello" * 200),
    "magic only": lambda good: good[:2],
    "bytes missing": lambda good: gzip.compress(gzip.decompress(good)[:-20]),
    "bytes missing, uncompressed": lambda good: gzip.decompress(good)[:-20],
    "bytes too many, uncompressed": lambda good: gzip.decompress(good) + b"x",
}


@pytest.mark.parametrize("case", DAMAGES, ids=str)
def test_damaged_files_are_refused_by_name(tmp_path, case):
    path = save(tmp_path / "bad.nii.gz")
    path.write_bytes(DAMAGES[case](path.read_bytes()))
    with pytest.raises(VolumeError, match="cannot be read as NIfTI|holds more than") as caught:
        load(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_no_flipped_bit_is_read_as_something_else(tmp_path):
    """Also for labels, of which most bytes are a few runs of deflate."""
    generator = np.random.default_rng(0)
    for voxels in (VOXELS, (VOXELS > 800).astype(np.uint8)):
        path = save(tmp_path / "a.nii.gz", voxels=voxels)
        good = path.read_bytes()
        for position, bit in zip(generator.integers(10, len(good), 60), generator.integers(0, 8, 60), strict=True):
            damaged = bytearray(good)
            damaged[position] ^= 1 << bit
            path.write_bytes(damaged)
            try:
                found = np.asanyarray(read_nifti(path).dataobj)
            except VolumeError as error:
                assert str(error).startswith(str(path))
            else:  # a bit that nobody uses, as some of the gzip header are
                assert np.array_equal(found, voxels)


@pytest.mark.parametrize("missing", [".hdr", ".img"])
def test_half_a_pair_is_refused(tmp_path, missing):
    save(tmp_path / "a.hdr", kind=nib.Nifti1Pair)
    (tmp_path / f"a{missing}").unlink()
    (path,) = tmp_path.iterdir()
    with pytest.raises(VolumeError, match=rf"^{path} is one of two files of a volume, and .*a\{missing} is missing"):
        load(path)


def test_analyze_is_refused_with_the_reason(tmp_path):
    nib.save(nib.AnalyzeImage(VOXELS, None), tmp_path / "a.hdr")
    with pytest.raises(VolumeError, match="of the format Analyze 7.5, which does not say which side is left"):
        load(tmp_path / "a.hdr")


def test_the_files_of_a_volume(tmp_path):
    assert nifti_files(tmp_path / "a.nii.gz") == (tmp_path / "a.nii.gz",) * 2
    for pair in (("a.hdr", "a.img"), ("A.HDR", "A.IMG"), ("b.c.hdr.gz", "b.c.img.gz")):
        expected = tuple(tmp_path / name for name in pair)
        for path in expected:
            path.touch()
        assert nifti_files(expected[0]) == nifti_files(expected[1]) == expected


def test_missing_files_are_left_to_the_system(tmp_path):
    for name in ("gone.nii.gz", "gone.hdr"):
        with pytest.raises(FileNotFoundError):
            load(tmp_path / name)


def test_suffixes():
    reader = NiftiReader()
    assert reader.verify_suffix("a.nii") and reader.verify_suffix(["A.NII.GZ", "b.hdr"])
    assert not reader.verify_suffix("a.mha")


@pytest.mark.parametrize("header", ["a.hdr", "a.HDR", "a.Hdr"])
@pytest.mark.parametrize("voxels", ["a.img", "a.IMG", "a.Img"])
def test_files_of_a_pair_find_each_other_however_they_are_spelt(tmp_path, header, voxels):
    for name in (header, voxels):
        (tmp_path / name).touch()
    assert partner(tmp_path / header) == tmp_path / voxels and partner(tmp_path / voxels) == tmp_path / header
    assert nifti_files(tmp_path / voxels) == nifti_files(tmp_path / header) == (tmp_path / header, tmp_path / voxels)


@pytest.mark.parametrize(("name", "kind"), [("a.HDR.gz", ".hdr"), ("a.img", ".img"), ("a.nii.gz", ""), ("img", "")])
def test_kind_of_pair(tmp_path, name, kind):
    assert kind_of_pair(tmp_path / name) == kind
