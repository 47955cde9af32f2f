from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from bundles.facts import FACTS_FILE, read_facts
from common.data.datalists import cityscapes
from phantom import write_cityscapes_phantom
from phantom.cityscapes import draw_scene
from tests.places import BUNDLES

SIZE = (64, 128)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    root = tmp_path_factory.mktemp("cityscapes")
    write_cityscapes_phantom(root, 9, SIZE)
    return root


def pixels(path):
    return np.array(Image.open(path))


def test_layout_is_that_of_cityscapes(phantom):
    items = cityscapes(phantom)
    assert len(items) == 9 and all("label" in item for item in items)
    assert {path.name for path in (phantom / "leftImg8bit").iterdir()} == {"train", "val"}
    name = "lindau_000002_000019"
    assert (phantom / "leftImg8bit" / "val" / "lindau" / f"{name}_leftImg8bit.png").is_file()
    kinds = {path.name.removeprefix(f"{name}_gtFine_") for path in (phantom / "gtFine/val/lindau").glob(f"{name}*")}
    assert kinds == {"labelIds.png", "instanceIds.png", "color.png", "polygons.json"}


def test_files_are_stored_as_those_of_cityscapes(phantom):
    item = cityscapes(phantom)[0]
    image, label = Image.open(item["image"]), Image.open(item["label"])
    assert (image.mode, label.mode) == ("RGB", "L") and image.size == label.size == (128, 64)
    assert Image.open(item["label"].replace("labelIds", "color")).mode == "RGBA"
    assert Image.open(item["label"].replace("labelIds", "instanceIds")).mode.startswith("I")


def test_official_size_by_default():
    scene, classes = draw_scene((1024, 2048), np.random.default_rng(0))
    assert scene.shape == (1024, 2048, 3) and classes.shape == (1024, 2048)


def test_labels_have_official_values_and_all_classes(phantom):
    facts = read_facts(BUNDLES["cityscapes"] / FACTS_FILE)
    values = {int(value) for item in cityscapes(phantom) for value in np.unique(pixels(item["label"]))}
    assert values <= {int(value) for value in facts.label_values}
    found = {facts.label_values[str(value)] for value in values}
    assert len(found) >= 12  # of 13; a truck or a bus may be missing


def test_sky_is_up_and_road_is_down(phantom):
    for item in cityscapes(phantom):
        classes = pixels(item["label"])
        sky, road = (np.argwhere(classes == value)[:, 0].mean() for value in (23, 7))
        assert sky < 32 < road


def test_a_scene_depends_on_its_id_only(phantom, tmp_path):
    write_cityscapes_phantom(tmp_path, ["bochum_000001_000019"], SIZE)
    name = "leftImg8bit/train/bochum/bochum_000001_000019_leftImg8bit.png"
    assert np.array_equal(pixels(tmp_path / name), pixels(phantom / name))
    scenes = {pixels(item["image"]).tobytes() for item in cityscapes(phantom)}
    assert len(scenes) == 9


@pytest.mark.parametrize(
    ("number", "size", "message"),
    [
        (0, SIZE, "must be a number from 1 or a list of ids like aachen_000000_000019, got 0"),
        (["patient001"], SIZE, r"got \['patient001'\]"),
        (1, (16, 64), r"both at least 32, got \(16, 64\)"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, number, size, message):
    with pytest.raises(ValueError, match=message):
        write_cityscapes_phantom(tmp_path, number, size)
