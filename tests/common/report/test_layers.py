"""Slices as text: what comes back from it, and how much room it takes."""

from __future__ import annotations

import base64
import io
import zlib

import numpy as np
import pytest
from PIL import Image

from common.display import Displayed
from common.report.layers import encode

from .made_up import make_shown

MOST = 600_000


def file_of(url):
    kind, _, text = url.partition(";base64,")
    assert kind == "data:image/jpeg"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def slices_of(layers):
    """Take the slices out of the image, as the page does."""
    tiles, (height, width), across = file_of(layers["image"]), layers["tile"], layers["across"]
    starts = [(height * (index // across), width * (index % across)) for index in range(layers["count"])]
    return np.stack([tiles[top:, left:][: layers["rows"], : layers["columns"]] for top, left in starts])


def map_of(layers, name):
    values = np.frombuffer(zlib.decompress(base64.b64decode(layers["maps"][name])), np.uint8)
    return values.reshape(layers["count"], layers["rows"], layers["columns"])


@pytest.mark.parametrize("shape", [(1, 40, 25), (3, 16, 33), (10, 37, 50), (7, 64, 48)])
def test_what_is_small_comes_back(shape):
    shown = make_shown(shape=shape)
    layers = encode(shown, MOST)
    assert (layers["count"], layers["rows"], layers["columns"]) == shape and layers["aspect"] == 1
    for name in ("label", "prediction"):
        assert np.array_equal(map_of(layers, name), shown.maps[name])
    assert np.abs(map_of(layers, "uncertainty") / 255 - shown.maps["uncertainty"]).max() <= 4 / 255 + 1e-6
    low, high = np.percentile(shown.image, (1, 99))
    wanted = np.clip((shown.image - low) / (high - low), 0, 1) * 255
    assert np.abs(slices_of(layers).astype(float) - wanted).mean() < 6  # of 255; JPEG loses something
    assert layers["names"][-1] == f"slice {shape[0] - 1}"


def test_neighbouring_slices_do_not_show():
    image = np.zeros((4, 10, 10), np.uint8)
    image[::3] = 255  # black and white as on a chequerboard
    found = slices_of(encode(Displayed(image, {}), MOST))
    assert np.abs(found.astype(float) - image).max() < 3


def test_colours_are_kept():
    image = np.zeros((1, 32, 48, 3), np.uint8)
    image[..., 1], image[0, :, 24:, 0] = 90, 250
    layers = encode(Displayed(image, {}), MOST)
    assert np.abs(slices_of(layers).astype(float) - image)[:, :, [*range(20), *range(30, 48)]].max() < 12


@pytest.mark.parametrize("shape", [(200, 64, 80), (1, 1500, 3000), (30, 400, 300)])
@pytest.mark.parametrize("most", [MOST, 20_000])
def test_what_is_large_is_made_smaller(shape, most):
    shown = make_shown(shape=shape)
    layers = encode(shown, most)
    assert len(layers["image"]) + sum(map(len, layers["maps"].values())) <= most
    assert max(layers["rows"], layers["columns"]) <= 1024 and layers["count"] == shape[0]
    height, width = layers["rows"] * layers["aspect"], layers["columns"]  # as it is shown
    assert height / width == pytest.approx(shape[1] / shape[2], rel=1e-6)
    assert set(np.unique(map_of(layers, "label"))) <= {0, 1, 2, 3}


def test_even_what_fits_nowhere_is_shown():
    layers = encode(make_shown(shape=(50, 64, 64)), 10)
    assert max(layers["rows"], layers["columns"]) <= 8


def test_the_first_shown_slice_has_most_errors_or_most_of_the_structures():
    shown = make_shown(shape=(6, 40, 40))
    wrong = (shown.maps["label"] != shown.maps["prediction"]).sum(axis=(1, 2))
    assert encode(shown, MOST)["start"] == wrong.argmax() > 0
    found = (shown.maps["prediction"] > 0).sum(axis=(1, 2))
    right = {"label": shown.maps["prediction"], "prediction": shown.maps["prediction"]}
    for maps in ({"prediction": shown.maps["prediction"]}, right):
        assert encode(Displayed(shown.image, maps), MOST)["start"] == found.argmax()
    for maps in ({}, {"prediction": np.zeros_like(shown.image)}):
        assert encode(Displayed(shown.image, maps), MOST)["start"] == 3


def test_an_image_of_one_value_is_no_error():
    assert slices_of(encode(Displayed(np.full((2, 9, 9), 7.0), {}), MOST)).shape == (2, 9, 9)
