"""Photographs in one size, and label maps that fit them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image

from common.transforms.eight_bit import unit_range
from common.transforms.photographs import MatchLabelMapd, ResizePhotograph, ResizePhotographd
from common.transforms.volume import VolumeError

META = {"filename_or_obj": "a.png", "spatial_shape": np.array([6, 10, 1])}


def photograph(height, width, channels=3):
    values = torch.randint(256, (channels, height, width, 1), dtype=torch.uint8, generator=torch.Generator())
    return MetaTensor(values, meta={"filename_or_obj": "a.png", "spatial_shape": np.array([height, width, 1])})


@pytest.mark.parametrize(
    ("size", "window"),
    [
        ((64, 128), (0, 0, 32, 64)),  # of the same proportions
        ((16, 32), (0, 0, 32, 64)),  # smaller
        ((64, 64), (0, 16, 32, 32)),  # higher
        ((10, 100), (13, 0, 6, 64)),  # wider
        ((1, 1000), (15, 0, 1, 64)),  # hardly there
    ],
)
def test_a_photograph_just_fits_and_the_rest_is_black(size, window):
    resized = ResizePhotograph((32, 64))(photograph(*size) // 2 + 100)
    first_row, first_column, rows, columns = window
    assert resized.shape == (3, 32, 64, 1) and resized.dtype == torch.uint8
    inside = resized[:, first_row : first_row + rows, first_column : first_column + columns]
    assert inside.min() >= 100
    assert int((resized > 0).sum()) == 3 * rows * columns


def test_shrinking_agrees_with_pillow():
    image = photograph(64, 96)
    resized = ResizePhotograph((32, 64))(image)[..., :48, 0][:, :, 8:]  # 32 x 48 within
    expected = Image.fromarray(image.numpy()[..., 0].transpose(1, 2, 0)).resize((48, 32), Image.Resampling.BILINEAR)
    found = ResizePhotograph((32, 64))(image)[:, :, 8:56, 0]
    assert resized.shape == (3, 32, 40)
    assert np.abs(found.numpy().transpose(1, 2, 0).astype(int) - np.array(expected).astype(int)).max() <= 1


def test_labels_take_the_nearest_value():
    classes = (
        torch.tensor([[1, 1, 9, 9], [1, 1, 9, 9]], dtype=torch.uint8).repeat_interleave(5, 0).repeat_interleave(5, 1)
    )
    resized = ResizePhotograph((32, 64), is_label=True)(MetaTensor(classes[None, ..., None]))
    assert resized.unique().tolist() == [1, 9] and resized.dtype == torch.uint8
    assert torch.equal(resized[0, :, :32, 0], torch.ones(32, 32)) and (resized[0, :, 32:, 0] == 9).all()


@pytest.mark.parametrize("size", [(64, 128), (50, 70), (20, 90), (16, 16)])
def test_predictions_come_back_in_the_size_of_the_file(size):
    resize = ResizePhotographd("image", (32, 64))
    image = resize({"image": photograph(*size)})["image"]
    rows, columns = torch.meshgrid(torch.linspace(0, 1, 32), torch.linspace(0, 1, 64), indexing="ij")
    probabilities = torch.stack([rows, columns])[..., None]
    prediction = MetaTensor(probabilities, meta=image.meta, applied_operations=image.applied_operations)
    back = resize.inverse({"image": prediction})["image"]
    assert back.shape == (2, *size, 1) and back.applied_operations == []
    first_row, first_column, height, width = ResizePhotograph((32, 64)).window(size)
    middle = [(first_row + height / 2 - 0.5) / 31, (first_column + width / 2 - 0.5) / 63]
    assert back[:, :, :, 0].mean(dim=(1, 2)).tolist() == pytest.approx(middle, abs=1e-3)
    assert (back[0].diff(dim=0) >= 0).all() and (back[1].diff(dim=1) >= 0).all()


def test_8_bits_become_a_unit_range_and_others_stay():
    values = torch.tensor([0, 51, 255], dtype=torch.uint8)
    assert unit_range(values).tolist() == pytest.approx([0, 0.2, 1])
    floats = torch.tensor([-1.0, 300.0])
    assert unit_range(floats) is floats


def match(label, values):
    image = MetaTensor(torch.zeros(3, 6, 10, 1), meta=META)
    label = MetaTensor(torch.as_tensor(label, dtype=torch.uint8), meta={"filename_or_obj": "a_labelIds.png"})
    return MatchLabelMapd("label", "image", values)({"image": image, "label": label})["label"]


def test_values_become_class_indices():
    label = torch.zeros(1, 6, 10, 1)
    label[0, 0, :, 0] = torch.tensor([7, 24, 25, 33, 0, 0, 0, 0, 7, 7])
    mapped = match(label, {"0": 0, "7": 1, "24": 2, "25": 2, "33": 3})
    assert mapped.dtype == torch.uint8 and mapped[0, 0, :4, 0].tolist() == [1, 2, 2, 3]
    assert mapped.meta["filename_or_obj"] == "a_labelIds.png"


def test_class_indices_may_be_stored_as_they_are():
    assert match(torch.full((1, 6, 10, 1), 2), range(3)).unique().tolist() == [2]


def test_unknown_values_are_named():
    label = torch.zeros(1, 6, 10, 1)
    label[0, 0, :2, 0] = torch.tensor([3, 200])
    message = (
        "a_labelIds.png has 2 values that stand for no class: 3, 200. Allowed are 0, 1, 2: .*complete label_values"
    )
    with pytest.raises(VolumeError, match=message):
        match(label, range(3))


def test_another_size_is_refused():
    with pytest.raises(VolumeError, match=r"a_labelIds.png has 10 x 6 pixels .*a.png has 6 x 10.*belong together"):
        match(torch.zeros(1, 10, 6, 1), range(3))
