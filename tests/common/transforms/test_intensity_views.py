from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage

from common.transforms.intensity_views import (
    RandomFineTuningIntensity,
    RandomIntensity,
    RandomInversion,
    RandomStrongIntensity,
    _bias_field,
    _blur,
    _noise,
    adjust_intensity,
)


@pytest.fixture
def images(generator: torch.Generator) -> torch.Tensor:
    return torch.rand(6, 1, 8, 10, generator=generator)


def _line(before: torch.Tensor, after: torch.Tensor) -> tuple[float, float]:
    """Contrast factor and shift of the mean that turn one image into the other."""
    factor = after.std() / before.std()
    torch.testing.assert_close(after - after.mean(), factor * (before - before.mean()), atol=1e-5, rtol=0)
    return factor.item(), (after.mean() - before.mean()).item()


@pytest.mark.parametrize("num_channels", [1, 3], ids=["one channel", "three channels"])
@pytest.mark.parametrize("clip", [None, (0.0, 1.5), (0.2, 0.6)], ids=["no clip", "wide clip", "narrow clip"])
def test_adjusting_agrees_with_the_formula_per_image(num_channels, clip, generator) -> None:
    images = torch.rand(4, num_channels, 5, 7, generator=generator)
    adjusted = adjust_intensity(images, brightness=-0.2, contrast=1.25, clip=clip)
    for image, result in zip(images.double().numpy(), adjusted.numpy(), strict=True):
        for channel, result_channel in zip(image, result, strict=True):
            shifted = channel - 0.2
            expected = (shifted - shifted.mean()) * 1.25 + shifted.mean()
            expected = expected if clip is None else np.clip(expected, *clip)
            np.testing.assert_allclose(result_channel, expected, atol=1e-6)


def test_neutral_parameters_change_nothing(images) -> None:
    assert torch.equal(adjust_intensity(images, brightness=0.0, contrast=1.0), images)


def test_the_argument_is_left_alone(images, generator) -> None:
    copy = images.clone()
    RandomIntensity()(images, generator)
    RandomFineTuningIntensity()(images, generator)
    assert torch.equal(images, copy)


def test_draws_fill_the_paper_ranges_and_are_not_tied(generator) -> None:
    draws = np.array([RandomIntensity().draw(generator) for _ in range(3000)])
    brightness, contrast = draws.T
    assert -0.3 <= brightness.min() < -0.295 and 0.295 < brightness.max() <= 0.3
    assert 0.7 <= contrast.min() < 0.705 and 1.295 < contrast.max() <= 1.3
    # Of uniform draws: mean within 4 standard errors, and a quarter in each quarter of the range.
    assert abs(brightness.mean()) < 4 * 0.6 / np.sqrt(12 * 3000)
    assert abs(contrast.mean() - 1) < 4 * 0.6 / np.sqrt(12 * 3000)
    for values in (brightness, contrast - 1):
        np.testing.assert_allclose(np.histogram(values, bins=4, range=(-0.3, 0.3))[0] / 3000, 0.25, atol=0.035)
    assert abs(np.corrcoef(brightness, contrast)[0, 1]) < 0.08


def test_all_images_of_a_call_share_one_draw(images, generator) -> None:
    transform = RandomIntensity(clip=None)
    lines = np.array([_line(*pair) for pair in zip(images, transform(images, generator), strict=True)])
    np.testing.assert_allclose(lines, lines[:1].repeat(len(images), axis=0), atol=1e-5)
    other = _line(images[0], transform(images, generator)[0])
    assert abs(other[0] - lines[0, 0]) > 1e-3 and abs(other[1] - lines[0, 1]) > 1e-3


def test_the_call_applies_what_is_drawn(images) -> None:
    brightness, contrast = RandomIntensity().draw(torch.Generator().manual_seed(5))
    expected = adjust_intensity(images, brightness, contrast, clip=(0.0, 1.5))
    assert torch.equal(RandomIntensity()(images, torch.Generator().manual_seed(5)), expected)


def test_results_are_clipped(generator) -> None:
    images = 10 * torch.randn(3, 1, 8, 8, generator=generator)
    result = RandomIntensity()(images, generator)
    assert result.min() == 0.0 and result.max() == 1.5
    assert result.dtype == torch.float32


@pytest.mark.parametrize("transform", [RandomIntensity(), RandomFineTuningIntensity()], ids=["views", "fine-tuning"])
def test_the_seed_decides(transform, images) -> None:
    first, again, other = (transform(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("num_images", [1, 2, 5, 6])
def test_fine_tuning_changes_contrast_of_the_first_half_and_brightness_of_the_second(num_images, generator) -> None:
    images = torch.rand(num_images, 1, 8, 10, generator=generator)
    result = RandomFineTuningIntensity()(images, generator)
    lines = np.array([_line(*pair) for pair in zip(images, result, strict=True)])
    half = num_images // 2
    np.testing.assert_allclose(lines[:half, 1], 0, atol=1e-6)
    np.testing.assert_allclose(lines[half:, 0], 1, atol=1e-6)
    assert np.ptp(lines[half:, 1]) < 1e-6
    assert half == 0 or np.ptp(lines[:half, 0]) < 1e-5


def test_fine_tuning_draws_fill_the_paper_ranges_and_nothing_is_clipped(generator) -> None:
    image = torch.tensor([[-2.0, 4.0]])[None, None]
    results = [RandomFineTuningIntensity()(image.repeat(2, 1, 1, 1), generator).flatten(1) for _ in range(500)]
    contrast, brightness = torch.stack(results).unbind(dim=1)
    factors = (contrast[:, 1] - contrast[:, 0]) / 6
    shifts = brightness[:, 1] - 4
    assert 0.8 - 1e-6 <= factors.min() < 0.81 and 1.19 < factors.max() <= 1.2 + 1e-6
    assert -0.1 - 1e-6 <= shifts.min() < -0.095 and 0.095 < shifts.max() <= 0.1 + 1e-6


@pytest.mark.parametrize("transform", [RandomIntensity(), RandomFineTuningIntensity()], ids=["views", "fine-tuning"])
def test_no_value_is_read_back_from_the_device(transform, generator) -> None:
    # A meta tensor has no values: reading one, or mixing devices, is an error.
    assert transform(torch.empty(4, 1, 8, 8, device="meta"), generator).shape == (4, 1, 8, 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"brightness": -0.1}, r"brightness must be at least 0, got -0\.1"),
        ({"contrast": (1.3, 0.7)}, r"contrast must be \(low, high\) with 0 <= low <= high, got \(1\.3, 0\.7\)"),
        ({"contrast": (-0.5, 0.7)}, r"contrast must be .* got \(-0\.5, 0\.7\)"),
        ({"contrast": (0.7,)}, r"contrast must be .* got \(0\.7,\)"),
        ({"clip": (1.5, 0.0)}, r"clip must be \(low, high\) with low < high, .* got \(1\.5, 0\.0\)"),
    ],
    ids=["negative brightness", "contrast reversed", "negative contrast", "one contrast", "clip reversed"],
)
def test_bad_arguments(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        RandomIntensity(**arguments)


# ------------------------------------------------------------------------------------------------- strong


def test_blur_is_the_gaussian_of_each_image(generator) -> None:
    images = torch.rand(3, 2, 20, 24, generator=generator)
    widths = torch.tensor([0.5, 1.0, 1.5])
    for image, width, result in zip(images, widths, _blur(images, widths), strict=True):
        for channel, blurred in zip(image, result, strict=True):
            expected = ndimage.gaussian_filter(channel.double().numpy(), float(width), mode="mirror", radius=4)
            np.testing.assert_allclose(blurred.numpy(), expected, atol=1e-5)


def test_strong_changes_are_those_of_the_generator(images) -> None:
    first, again, other = (RandomStrongIntensity()(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first.shape == images.shape and first.isfinite().all()
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_strong_changes_differ_between_the_images_of_a_batch(generator) -> None:
    images = torch.rand(1, 1, 32, 32, generator=generator).expand(64, -1, -1, -1)
    changed = RandomStrongIntensity()(images, generator)
    untouched = (changed - images).abs().amax(dim=(1, 2, 3)) < 1e-5
    # Nothing happens to an image with the chance .7^3 .5^3 = .043; the others keep their order of magnitude.
    assert untouched.float().mean() < 0.2
    assert len({round(value, 4) for value in changed.mean(dim=(1, 2, 3)).tolist()}) > 50
    assert changed.abs().max() < 6
    assert 0.5 < changed.std() / images.std() < 2


def test_strong_changes_leave_the_argument_alone_and_bear_an_empty_image(generator) -> None:
    images = torch.zeros(8, 1, 16, 16)
    assert RandomStrongIntensity()(images, generator).isfinite().all()
    assert not images.any()


# ---------------------------------------------------------------------------------------------- inversion


def test_inversion_exchanges_least_and_largest(images, generator) -> None:
    inverted = RandomInversion(1.0)(images, generator)
    for image, result in zip(images, inverted, strict=True):
        for channel, changed in zip(image, result, strict=True):
            torch.testing.assert_close(changed, channel.min() + channel.max() - channel)
    assert torch.equal(RandomInversion(0.0)(images, generator), images)


def test_inversion_comes_with_its_chance(generator) -> None:
    images = torch.rand(1, 1, 4, 4, generator=generator).expand(2000, -1, -1, -1)
    changed = (RandomInversion(0.35)(images, generator) != images).any(dim=(1, 2, 3)).float().mean()
    assert 0.31 < changed < 0.39


@pytest.mark.parametrize("chance", [-0.1, 1.1])
def test_chance_of_inversion(chance) -> None:
    with pytest.raises(ValueError, match=f"chance must be from 0 to 1, got {chance}"):
        RandomInversion(chance)


def test_a_bias_field_is_interpolated_bicubically(generator):
    grids, images = torch.randn(3, 1, 3, 4, generator=generator), torch.rand(3, 2, 40, 56, generator=generator)
    expected = F.interpolate(grids, size=(40, 56), mode="bicubic").exp() * images
    torch.testing.assert_close(_bias_field(images, grids), expected)


def test_noise_has_the_deviations_that_were_drawn(generator):
    images, deviations = torch.rand(3, 1, 128, 128, generator=generator), torch.tensor([0.0, 0.05, 0.1])
    noise = _noise(images, deviations, generator) - images
    torch.testing.assert_close(noise.std(dim=(1, 2, 3)), deviations, rtol=0.03, atol=1e-6)
    assert noise.mean().abs() < 2e-3


def test_some_images_have_noise_and_others_none():
    """Of constant images only noise and the bias field make something else; 7/10 times 7/10 stay constant."""
    changed = RandomStrongIntensity()(torch.full((600, 1, 16, 16), 0.5), torch.Generator().manual_seed(0))
    constant = (changed.amax(dim=(1, 2, 3)) - changed.amin(dim=(1, 2, 3)) < 1e-5).double().mean()
    assert 0.42 < constant < 0.56
