from __future__ import annotations

from itertools import islice

import pytest
import torch

from common.data.loader import BatchLoader
from common.data.samplers import UniformSampler
from common.data.slices import Slices
from common.transforms.intensity_views import RandomIntensity
from common.transforms.views import ContrastiveViews, FineTuningViews


def make_loader(labelled=False, seed=3):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(9, 1, 32, 32, generator=generator)
    labels = torch.randint(3, (9, 32, 32), generator=generator, dtype=torch.uint8) if labelled else None
    slices = Slices(images, labels, torch.tensor([0, 4, 9]))
    views = FineTuningViews(3) if labelled else ContrastiveViews("GR", RandomIntensity())
    return BatchLoader(slices, UniformSampler(slices, 4), views, steps_per_epoch=5, seed=seed)


@pytest.mark.parametrize("labelled", [False, True])
def test_a_step_does_not_depend_on_the_steps_before(labelled):
    loader = make_loader(labelled)
    batches = list(islice(loader, 7))
    resumed = make_loader(labelled)
    resumed.first_step = 4
    for (inputs, _), (again, _) in zip(batches[4:], islice(resumed, 3), strict=True):
        assert torch.equal(inputs, again)
    assert not torch.equal(batches[0][0], batches[1][0])


def test_seed_changes_the_batches():
    assert not torch.equal(make_loader(seed=1).batch(0)[0], make_loader(seed=2).batch(0)[0])


def test_what_pretraining_and_fine_tuning_get():
    inputs, layout = make_loader().batch(0)
    assert inputs.shape == (8, 1, 32, 32) and layout.views.tolist() == [0] * 4 + [1] * 4
    inputs, labels = make_loader(labelled=True).batch(0)
    assert inputs.shape == (4, 1, 32, 32) and labels.shape == (4, 3, 32, 32)


def test_length_is_that_of_an_epoch():
    assert len(make_loader()) == 5


def test_steps_per_epoch_must_be_positive():
    loader = make_loader()
    with pytest.raises(ValueError, match="steps_per_epoch must be at least 1"):
        BatchLoader(loader.slices, loader.sampler, loader.views, 0)
