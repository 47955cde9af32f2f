"""The preprocessing of photographs, its cache, and what is written of their segmentations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from common.data.cache import CachedTransformd
from common.data.datalists import camvid
from common.data.volumes import VolumeDataset
from common.files import WriteError
from common.outputs import Segmented
from common.photograph_outputs import PhotographOutputs, draw_comparison
from common.photograph_preprocessing import PhotographPipeline
from common.transforms.volume import VolumeError
from tests.made_up_photographs import write_label_map, write_photograph

NAMES = ["background", "road", "car"]
VALUES = {"0": 0, "7": 1, "26": 2, "27": 2}


@pytest.fixture
def pipeline():
    return PhotographPipeline([32, 64], NAMES, VALUES)


@pytest.fixture
def item(tmp_path):
    write_photograph(tmp_path / "a.png", (48, 80))
    classes = np.zeros((48, 80))
    classes[24:] = 7
    classes[30:40, 20:60] = 26
    write_label_map(tmp_path / "a_labelIds.png", classes)
    return {"id": "a", "image": str(tmp_path / "a.png"), "label": str(tmp_path / "a_labelIds.png")}


def test_photograph_and_label_fit(pipeline, item):
    volume = pipeline.image_and_label(pipeline.image())(item)
    assert volume["image"].shape == (3, 32, 64, 1) and volume["label"].shape == (1, 32, 64, 1)
    assert volume["image"].dtype == volume["label"].dtype == torch.uint8
    assert volume["label"][0, :, 32, 0].tolist() == [0] * 16 + [1] * 4 + [2] * 7 + [1] * 5
    padding = volume["image"][:, :, :5]  # 80 x 48 has become 53 x 32
    assert not padding.any() and not volume["label"][:, :, :5].any()


def test_the_cache_keeps_8_bits_and_the_way_back(pipeline, item, tmp_path):
    image = pipeline.image()
    cached = CachedTransformd("image", image, tmp_path / "cache")
    stored = pipeline.image_and_stored_label(cached)
    first, again = stored(item), stored(item)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert again["image"].dtype == torch.uint8 and torch.equal(first["image"], again["image"])
    assert again["image"].meta["voxels_sha256"] == first["image"].meta["voxels_sha256"]
    small = pipeline.image_and_label(image)(item)["label"][0].long()
    logits = 20 * torch.nn.functional.one_hot(small, 3).permute(3, 0, 1, 2).float()
    found = pipeline.inverse(image)({**again, "pred": logits})["pred"]
    assert found.shape == again["label"].shape == (1, 48, 80, 1)
    assert (found == again["label"]).float().mean() > 0.97


def test_pieces_are_never_removed(pipeline):
    with pytest.raises(ValueError, match="largest_component must be false for photographs"):
        pipeline.inverse(pipeline.image(), largest_component=True)


def test_bad_files_are_named_together(pipeline, item, tmp_path):
    good = dict(item)
    write_label_map(tmp_path / "unknown.png", np.full((48, 80), 99))
    write_label_map(tmp_path / "small.png", np.zeros((24, 40)))
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:100])
    Image.fromarray(np.zeros((48, 80), np.uint16)).save(tmp_path / "deep.png")
    bad = [
        {**item, "label": str(tmp_path / "unknown.png")},
        {**item, "label": str(tmp_path / "small.png")},
        {**item, "label": str(tmp_path / "gone.png")},
        {**item, "image": str(tmp_path / "cut.png")},
        {**item, "image": str(tmp_path / "deep.png")},
    ]
    transform = pipeline.image_and_label(pipeline.image())
    with pytest.raises(VolumeError) as error:
        VolumeDataset([good, *bad], transform, num_workers=0, progress=False).prepare()
    lines = str(error.value).splitlines()
    assert lines[0] == "5 of 6 volumes cannot be used:"
    said = [
        "unknown.png has 1 values that stand for no class: 99",
        "small.png has 24 x 40 pixels",
        "gone.png does not exist",
        "cut.png cannot be read as PNG or JPEG",
        "deep.png must have 8 bits a channel",
    ]
    for line, text in zip(lines[1:], said, strict=True):
        assert text in line
    kept = VolumeDataset([good, *bad], transform, num_workers=0, progress=False, required=False)
    assert len(list(kept)) == 1


def test_real_photographs_come_back_as_they_were_labelled(camvid_dir):
    values = {**{str(value): value + 1 for value in range(11)}, "11": 0}
    pipeline = PhotographPipeline([192, 256], [str(index) for index in range(12)], values)
    image = pipeline.image()
    for item in camvid(camvid_dir)[::200]:
        volume = pipeline.image_and_stored_label(image)(item)
        assert volume["label"].shape == (1, 360, 480, 1) and volume["image"].float().std() > 30
        small = pipeline.image_and_label(image)(item)["label"][0].long()
        logits = 20 * torch.nn.functional.one_hot(small, 12).permute(3, 0, 1, 2).float()
        found = pipeline.inverse(image)({**volume, "pred": logits})["pred"]
        assert (found == volume["label"]).float().mean() > 0.95


# ---- what is written


@pytest.fixture
def labels():
    classes = np.zeros((48, 80, 1), np.int64)
    classes[24:] = 1
    classes[30:40, 20:60] = 2
    return classes


@pytest.mark.parametrize("pictures", [True, False])
def test_a_label_map_and_an_overlay(item, labels, tmp_path, pictures):
    outputs = PhotographOutputs()
    target = outputs.path(item["image"], str(tmp_path / "out"))
    outputs.save(Segmented(item["image"], labels, NAMES if pictures else None), target)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a_overlay.png"] * pictures + ["a_seg.png"]
    found = Image.open(tmp_path / "out" / "a_seg.png")
    assert found.mode == "P" and np.array_equal(np.array(found), labels[..., 0])
    shown = np.array(found.convert("RGB"))
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) == 3 and not shown[0, 0].any()
    if pictures:
        overlay, photograph = (
            np.array(Image.open(path)) for path in (tmp_path / "out" / "a_overlay.png", item["image"])
        )
        assert np.array_equal(overlay[:24], photograph[:24])
        assert np.abs(overlay[24:] - (photograph[24:] / 2 + shown[24:] / 2)).max() <= 1
    assert outputs.doubt(None, labels, item["image"], NAMES) == ""


def test_neither_is_left_where_one_cannot_be_written(item, labels, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("common.photograph_outputs._overlay", full)
    with pytest.raises((WriteError, OSError)):
        PhotographOutputs().save(Segmented(item["image"], labels, NAMES), tmp_path / "out" / "a_seg.png")
    assert not (tmp_path / "out" / "a_seg.png").exists()


@pytest.mark.parametrize(("truth", "tiles"), [(True, 3), (False, 2)])
def test_a_comparison_has_photograph_label_and_prediction(item, labels, tmp_path, truth, tiles):
    draw_comparison(item["image"], labels if truth else None, 0 * labels, NAMES, "a  Dice", tmp_path / "deep" / "a.png")
    picture = np.array(Image.open(tmp_path / "deep" / "a.png"))
    assert picture.shape == (328, 500 * tiles, 3)
    photograph, prediction = picture[20:300, :500], picture[20:300, -500:]
    assert np.array_equal(photograph, prediction)
    if truth:
        assert not np.array_equal(photograph, picture[20:300, 500:1000])
