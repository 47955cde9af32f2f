"""Random colours of photographs."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from common.transforms.colour_views import ColourChanges, RandomColour, change_colours

GREY = torch.tensor([0.299, 0.587, 0.114])


def changes(brightness=1.0, contrast=1.0, saturation=1.0, hue=0.0, number=1):
    return ColourChanges(*(torch.full((number,), value) for value in (brightness, contrast, saturation, hue)))


@pytest.fixture
def images(generator):
    return torch.rand(4, 3, 6, 8, generator=generator) * 0.4 + 0.3  # far from what is cut off


def luminance(images):
    return (images * GREY.view(3, 1, 1)).sum(1)


def test_neutral_changes_change_nothing(images):
    torch.testing.assert_close(change_colours(images, changes(number=4)), images)


def test_brightness_is_a_factor(images):
    torch.testing.assert_close(change_colours(images, changes(brightness=1.2, number=4)), 1.2 * images)


def test_contrast_is_about_the_mean_grey_of_each_image(images):
    means = luminance(images).mean(dim=(1, 2)).view(-1, 1, 1, 1)
    expected = (images - means) * 0.7 + means
    torch.testing.assert_close(change_colours(images, changes(contrast=0.7, number=4)), expected)


def test_without_saturation_all_is_grey(images):
    grey = change_colours(images, changes(saturation=0.0, number=4))
    torch.testing.assert_close(grey, luminance(images)[:, None].expand_as(images))


@pytest.mark.parametrize(
    ("name", "enhance"),
    [("brightness", ImageEnhance.Brightness), ("contrast", ImageEnhance.Contrast), ("saturation", ImageEnhance.Color)],
)
@pytest.mark.parametrize("factor", [0.6, 1.3])
def test_agrees_with_pillow(images, name, enhance, factor):
    pixels = (255 * images[0]).round().to(torch.uint8)
    expected = enhance(Image.fromarray(pixels.permute(1, 2, 0).numpy())).enhance(factor)
    found = 255 * change_colours(pixels[None] / 255, changes(**{name: factor}))[0]
    assert np.abs(found.permute(1, 2, 0).numpy() - np.array(expected)).max() < 2  # Pillow rounds the greys


def test_hue_turns_colours_and_leaves_luminance_and_greys(images):
    turned = change_colours(images, changes(hue=0.1, number=4))
    torch.testing.assert_close(luminance(turned), luminance(images), atol=1e-3, rtol=0)
    assert (turned - images).abs().max() > 0.05
    torch.testing.assert_close(change_colours(turned, changes(hue=-0.1, number=4)), images, atol=1e-5, rtol=0)
    grey = torch.full((1, 3, 2, 2), 0.4)
    torch.testing.assert_close(change_colours(grey, changes(hue=0.3)), grey, atol=1e-3, rtol=0)


def test_a_third_of_a_turn_makes_red_green():
    red = torch.tensor([0.6, 0.45, 0.45]).view(1, 3, 1, 1)
    hues = [
        colorsys.rgb_to_hsv(*image.flatten().tolist())[0] for image in (red, change_colours(red, changes(hue=1 / 3)))
    ]
    turned = min((hues[1] - hues[0]) % 1, (hues[0] - hues[1]) % 1)
    assert turned == pytest.approx(1 / 3, abs=0.06)


def test_all_four_one_after_another(images):
    expected = images[:1]
    for name, value in {"brightness": 0.9, "contrast": 1.1, "saturation": 0.8, "hue": 0.05}.items():
        expected = change_colours(expected, changes(**{name: value}))
    torch.testing.assert_close(change_colours(images[:1], changes(0.9, 1.1, 0.8, 0.05)), expected, atol=1e-5, rtol=0)


def test_values_stay_in_range(images):
    assert change_colours(images, changes(brightness=5.0, number=4)).max() == 1
    assert change_colours(images, changes(contrast=9.0, number=4)).min() == 0


def test_every_image_has_its_own_draw_and_batches_are_repeated(images):
    draws = [RandomColour()(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    same = RandomColour()(images[:1].repeat(3, 1, 1, 1), torch.Generator().manual_seed(1))
    assert not torch.equal(same[0], same[1]) and images.min() >= 0.3


def test_draws_fill_their_ranges_and_are_not_tied(generator):
    drawn = RandomColour().draw(4000, generator)
    for values, low, high in zip(drawn, (0.6, 0.6, 0.6, -0.1), (1.4, 1.4, 1.4, 0.1), strict=True):
        margin = 0.01 * (high - low)
        assert low <= values.min() < low + margin and high - margin < values.max() <= high
        assert abs(values.mean() - (low + high) / 2) < 4 * (high - low) / np.sqrt(12 * 4000)
    assert np.abs(np.corrcoef(torch.stack(drawn).numpy()) - np.eye(4)).max() < 0.06


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"brightness": 1.5}, "brightness must be from 0 to 1, got 1.5"),
        ({"contrast": -0.1}, "contrast must be"),
        ({"saturation": 2}, "saturation must be"),
        ({"hue": 0.6}, "hue must be from 0 to 0.5 turns, got 0.6"),
    ],
)
def test_strengths_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        RandomColour(**options)


def test_grey_images_are_refused(generator):
    with pytest.raises(ValueError, match="images must have three channels, red, green and blue, got 1"):
        RandomColour()(torch.zeros(2, 1, 4, 4), generator)
