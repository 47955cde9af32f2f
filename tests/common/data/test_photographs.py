"""Photographs and label maps as files."""

from __future__ import annotations

import hashlib
import logging

import numpy as np
import pytest
from monai.transforms import LoadImaged
from PIL import Image

from common.data.content import voxels_sha256
from common.data.photographs import LabelMapReader, PhotographReader, is_photograph, photographs_in
from common.transforms.volume import VolumeError
from tests.made_up_photographs import write_label_map, write_photograph

_ORIENTATION = 0x0112  # in EXIF


def read(path, reader=None):
    return (reader or PhotographReader()).get_data((path,))


def test_a_photograph_is_a_volume_of_one_slice(tmp_path):
    pixels = write_photograph(tmp_path / "a.png")
    load = LoadImaged("image", reader=PhotographReader(), ensure_channel_first=True, dtype=np.uint8)
    image = load({"image": str(tmp_path / "a.png")})["image"]
    assert image.shape == (3, 24, 40, 1) and image.numpy().dtype == np.uint8
    assert np.array_equal(image.numpy()[..., 0], pixels.transpose(2, 0, 1))
    assert image.meta["spatial_shape"].tolist() == [24, 40, 1]
    assert image.meta["filename_or_obj"] == str(tmp_path / "a.png")


def test_the_hash_is_that_of_the_file(tmp_path):
    write_photograph(tmp_path / "a.png")
    expected = hashlib.sha256((tmp_path / "a.png").read_bytes()).hexdigest()
    assert read(tmp_path / "a.png")[1]["voxels_sha256"] == expected == voxels_sha256(tmp_path / "a.png")


def test_a_grey_photograph_has_three_equal_channels(tmp_path):
    write_photograph(tmp_path / "a.png", mode="L")
    pixels, _ = read(tmp_path / "a.png")
    assert pixels.shape == (24, 40, 1, 3)
    assert np.array_equal(pixels[..., 0], np.array(Image.open(tmp_path / "a.png"))[..., None])
    assert (pixels == pixels[..., :1]).all()


@pytest.mark.parametrize(("alpha", "said"), [(255, False), (254, True)])
def test_transparency_is_ignored_and_said(tmp_path, caplog, alpha, said):
    expected = write_photograph(tmp_path / "a.png")
    image = Image.open(tmp_path / "a.png").convert("RGBA")
    image.putalpha(alpha)
    image.save(tmp_path / "a.png")
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(read(tmp_path / "a.png")[0][:, :, 0], expected)
    assert ("a.png has transparent parts" in caplog.text) == said


@pytest.mark.parametrize("mode", ["P", "1", "LA", "CMYK"])
def test_other_modes_of_8_bits_are_converted(tmp_path, mode):
    suffix = ".jpg" if mode == "CMYK" else ".png"
    write_photograph(tmp_path / f"a{suffix}", mode=mode)
    assert read(tmp_path / f"a{suffix}")[0].shape == (24, 40, 1, 3)


def test_16_bits_are_refused(tmp_path):
    Image.fromarray(np.full((8, 8), 4000, np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(VolumeError, match=r"a.png must have 8 bits a channel, got more .*I;16.*Save it as 8-bit PNG"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_upright(tmp_path, orientation):
    pixels = write_photograph(tmp_path / "a.png")
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }[orientation](pixels)
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read(tmp_path / "turned.png")[0][:, :, 0], pixels)


@pytest.mark.parametrize("reader", [PhotographReader, LabelMapReader])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_damaged_files_are_named(tmp_path, reader, suffix):
    write_photograph(tmp_path / f"a{suffix}", size=(64, 64), mode="L")
    path = tmp_path / f"a{suffix}"
    if reader is LabelMapReader and suffix == ".jpg":
        path.write_bytes(b"no photograph")
    else:
        path.write_bytes(path.read_bytes()[: len(path.read_bytes()) // 2])
    with pytest.raises(VolumeError, match=rf"a{suffix} cannot be read as PNG or JPEG: .*Copy it again"):
        read(path, reader())


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "a.png")


def test_a_label_map_has_one_channel(tmp_path):
    classes = np.arange(24).reshape(4, 6)
    write_label_map(tmp_path / "a.png", classes)
    assert np.array_equal(read(tmp_path / "a.png", LabelMapReader())[0][:, :, 0, 0], classes)


def test_a_palette_does_not_change_class_ids(tmp_path):
    classes = np.arange(24, dtype=np.uint8).reshape(4, 6)
    image = Image.frombytes("P", (6, 4), classes.tobytes())
    image.putpalette(list(range(255, -1, -1)) * 3)
    image.save(tmp_path / "a.png")
    assert np.array_equal(read(tmp_path / "a.png", LabelMapReader())[0][:, :, 0, 0], classes)


@pytest.mark.parametrize(
    ("name", "mode", "said"), [("a.png", "RGB", "got PNG of Pillow's mode RGB"), ("a.jpg", "L", "got JPEG")]
)
def test_what_has_no_class_ids_is_refused(tmp_path, name, mode, said):
    write_photograph(tmp_path / name, mode=mode)
    with pytest.raises(VolumeError, match=rf"{name} must be a PNG file with one class id .*{said}.*Take the file with"):
        read(tmp_path / name, LabelMapReader())


def test_which_files_are_photographs(tmp_path):
    for name in ("b.JPG", "a.png", "c.jpeg", "._a.png", "d.txt", "e.nii.gz"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in photographs_in(tmp_path)] == ["a.png", "b.JPG", "c.jpeg"]
    assert photographs_in(tmp_path / "gone") == []
    assert not is_photograph("a.nii.gz") and PhotographReader().verify_suffix(["a.png", "b.JPEG"])
