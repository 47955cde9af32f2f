"""One channel of files that have several."""

from __future__ import annotations

import numpy as np
import pytest

from common.transforms import (
    SelectChanneld,
    VolumeError,
)

from .grids import (
    LPS_AFFINE,
    load,
    noise,
    save,
)


@pytest.mark.parametrize("channel", [0, 1])
def test_channel_of_a_4d_file(tmp_path, channel):
    volume = noise((8, 7, 3, 2))
    image = SelectChanneld("image", channel)(load()({"image": save(tmp_path / "a.nii.gz", volume)}))["image"]
    assert np.array_equal(image.numpy(), volume[None, ..., channel])
    assert np.array_equal(image.affine.numpy(), LPS_AFFINE)
    assert list(image.meta["spatial_shape"]) == [8, 7, 3]
    assert image.untyped_storage().nbytes() == 8 * 7 * 3 * 4  # the other channel is not kept


@pytest.mark.parametrize("shape", [(8, 7, 3), (8, 7, 3, 1)], ids=str)
def test_file_of_one_channel_is_taken_as_it_is(tmp_path, shape):
    data = load()({"image": save(tmp_path / "a.nii.gz", noise(shape))})
    assert SelectChanneld("image", 0)(data)["image"] is data["image"]


@pytest.mark.parametrize(("shape", "channels"), [((8, 7, 3), "0"), ((8, 7, 3, 2), "0, 1")], ids=["3-D", "4-D"])
def test_missing_channel(tmp_path, shape, channels):
    path = save(tmp_path / "a.nii.gz", noise(shape))
    message = (
        rf"{path} must have the channel 2, counted from 0, but its channels are {channels} \(8 x 7 x 3 .* Set chan"
    )
    with pytest.raises(VolumeError, match=message):
        SelectChanneld("image", 2)(load()({"image": path}))


def test_channel_is_checked():
    with pytest.raises(ValueError, match="channel must be an index from 0, got -1"):
        SelectChanneld("image", -1)
