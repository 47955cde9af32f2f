"""Pictures made small: their size and what is left of their colours."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from release.pictures import shrink_picture


@pytest.mark.parametrize(("size", "expected"), [((900, 600), (720, 480)), ((300, 900), (300, 900))])
def test_pictures_are_shrunk_to_a_width(tmp_path, size, expected):
    ramp = np.linspace(0, 255, size[0] * size[1]).astype(np.uint8).reshape(size[1], size[0])
    Image.fromarray(ramp).save(tmp_path / "large.png")
    shrink_picture(tmp_path / "large.png", tmp_path / "new" / "small.png")
    with Image.open(tmp_path / "new" / "small.png") as picture:
        assert picture.size == expected
        grey = np.asarray(picture.convert("L"), float)
    assert grey[-1].mean() - grey[0].mean() > 200


def test_outlines_keep_their_colours(tmp_path):
    grey = np.random.default_rng(0).integers(256, size=(400, 400, 1), dtype=np.uint8).repeat(3, axis=2)
    colours = {100: (228, 26, 28), 200: (77, 175, 74), 300: (55, 126, 184)}
    for row, colour in colours.items():
        grey[row, 150:250] = colour
    Image.fromarray(grey).save(tmp_path / "picture.png")
    shrink_picture(tmp_path / "picture.png", tmp_path / "small.png")
    with Image.open(tmp_path / "small.png") as picture:
        small = np.asarray(picture.convert("RGB"), float)
    for row, colour in colours.items():
        assert small[row, 150:250] == pytest.approx(np.tile(colour, (100, 1)), abs=20)
