from __future__ import annotations

import threading
import time
from itertools import islice

import pytest
import torch

from common.data.loader import BatchLoader, ConcatLoader, PairLoader
from common.data.samplers import UniformSampler
from common.data.slices import Slices
from common.transforms.copy_paste import CopyPaste
from common.transforms.intensity_views import RandomIntensity
from common.transforms.views import ContrastiveViews, FineTuningViews


def make_slices(labelled=False, mapped=False):
    generator = torch.Generator().manual_seed(0)
    volumes = [{"image": torch.rand(1, 32, 32, depth, generator=generator)} for depth in (4, 5)]
    if labelled:
        for volume in volumes:
            volume["label"] = torch.randint(3, volume["image"].shape, generator=generator)
    return Slices.from_volumes(volumes, in_memory_gib=0 if mapped else 1)


def make_loader(labelled=False, seed=3, mapped=False):
    slices = make_slices(labelled, mapped)
    views = FineTuningViews(3) if labelled else ContrastiveViews("GR", RandomIntensity())
    return BatchLoader(slices, UniformSampler(slices, 4), views, steps_per_epoch=5, seed=seed)


@pytest.mark.parametrize("mapped", [False, True], ids=["in memory", "mapped"])
@pytest.mark.parametrize("labelled", [False, True])
def test_a_step_does_not_depend_on_the_steps_before(labelled, mapped):
    loader = make_loader(labelled, mapped=mapped)
    batches = list(islice(loader, 7))
    resumed = make_loader(labelled, mapped=mapped)
    resumed.first_step = 4
    for (inputs, _), (again, _) in zip(batches[4:], islice(resumed, 3), strict=True):
        assert torch.equal(inputs, again)
    assert not torch.equal(batches[0][0], batches[1][0])


def test_seed_changes_the_batches():
    assert not torch.equal(make_loader(seed=1).batch(0)[0], make_loader(seed=2).batch(0)[0])


def test_what_pretraining_and_fine_tuning_get():
    inputs, targets = make_loader().batch(0)
    assert inputs.shape == (8, 1, 32, 32) and targets is None
    inputs, labels = make_loader(labelled=True).batch(0)
    assert inputs.shape == (4, 1, 32, 32) and labels.shape == (4, 3, 32, 32)


def test_length_is_that_of_an_epoch():
    assert len(make_loader()) == 5


def test_steps_per_epoch_must_be_positive():
    loader = make_loader()
    with pytest.raises(ValueError, match="steps_per_epoch must be at least 1"):
        BatchLoader(loader.slices, loader.sampler, loader.views, 0)


@pytest.mark.parametrize("first_step", [0, 5])
@pytest.mark.parametrize("labelled", [False, True])
def test_both_kinds_of_slices_give_the_same_batches(labelled, first_step):
    memory, mapped = (make_loader(labelled, mapped=mapped) for mapped in (False, True))
    memory.first_step = mapped.first_step = first_step
    for step, (first, second) in enumerate(islice(zip(memory, mapped, strict=True), 5), start=first_step):
        direct = mapped.batch(step)
        assert torch.equal(first[0], second[0]) and torch.equal(first[0], direct[0])
        if labelled:
            assert torch.equal(first[1], second[1]) and torch.equal(first[1], direct[1])


def make_pair(mapped=False):
    return PairLoader(make_loader(seed=3, mapped=mapped), make_loader(seed=4, mapped=mapped))


@pytest.mark.parametrize("mapped", [False, True], ids=["in memory", "mapped"])
def test_pair_has_the_batches_of_both_loaders(mapped):
    pair = make_pair(mapped)
    assert len(pair) == 5
    batches = iter(pair)
    for step, (inputs, targets) in enumerate(islice(batches, 3)):
        for loader, one in zip((pair.first, pair.second), inputs, strict=True):
            assert torch.equal(one, loader.batch(step)[0])
        assert targets == (None, None)
        assert not torch.equal(*inputs)
    batches.close()
    assert reading_threads() == []


def test_pair_goes_on_where_it_is_told_to():
    resumed = make_pair()
    resumed.first_step = 2
    for (inputs, _), (again, _) in zip(islice(make_pair(), 2, 4), islice(resumed, 2), strict=True):
        assert all(map(torch.equal, inputs, again))


def test_pair_needs_epochs_of_one_length():
    first = make_loader()
    second = BatchLoader(first.slices, first.sampler, first.views, 4)
    with pytest.raises(ValueError, match="second must have as many steps_per_epoch as first, 5, got 4"):
        PairLoader(first, second)


@pytest.mark.parametrize("mapped", [False, True], ids=["in memory", "mapped"])
def test_two_loaders_make_one_batch(mapped):
    slices = make_slices(labelled=True, mapped=mapped)

    def views(images, labels, generator):
        return images + torch.rand(1, generator=generator), labels

    first, second = (
        BatchLoader(slices, UniformSampler(slices, size), views, 5, seed) for size, seed in ((4, 3), (2, 1003))
    )
    together = ConcatLoader(first, second, CopyPaste(0.0))
    together.first_step = 1
    batches = iter(together)
    for step, (inputs, targets) in enumerate(islice(batches, 2), start=1):
        assert len(inputs) == len(targets) == 6
        for loader, part in ((first, slice(4)), (second, slice(4, 6))):
            expected, expected_targets = loader.batch(step)
            assert torch.equal(inputs[part], expected)
            assert torch.equal(targets[part], expected_targets)
    batches.close()


def reading_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("slices")]


class Watched(UniformSampler):
    """Notes in which threads it draws, and fails at one draw."""

    def __init__(self, slices, batch_size, fail_at=None):
        super().__init__(slices, batch_size)
        self.threads, self.fail_at = [], fail_at

    def __call__(self, generator):
        self.threads.append(threading.current_thread().name)
        if len(self.threads) == self.fail_at:
            raise OSError("the disk is gone")
        return super().__call__(generator)


def make_watched(mapped=True, fail_at=None):
    slices = make_slices(mapped=mapped)
    loader = BatchLoader(slices, Watched(slices, 4, fail_at), ContrastiveViews("GR", RandomIntensity()), 5)
    loader.prepare()
    return loader


def test_mapped_slices_are_read_two_batches_ahead_in_one_thread():
    loader = make_watched()
    assert len(loader.sampler.threads) == 1  # the batch that is made at once
    batches = iter(loader)
    for taken in range(1, 4):
        next(batches)
        deadline = time.monotonic() + 10
        while len(loader.sampler.threads) < taken + 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(loader.sampler.threads) == taken + 3
    assert len(set(loader.sampler.threads[1:])) == 1 and loader.sampler.threads[1].startswith("slices")
    batches.close()
    assert reading_threads() == []


def test_slices_in_memory_need_no_thread():
    loader = make_watched(mapped=False)
    list(islice(loader, 3))
    assert set(loader.sampler.threads) == {threading.current_thread().name}


def test_an_error_while_reading_ahead_comes_with_its_batch():
    batches = iter(make_watched(fail_at=4))
    next(batches), next(batches)
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)
    assert reading_threads() == []


@pytest.mark.parametrize("mapped", [False, True], ids=["in memory", "mapped"])
def test_what_no_batch_can_be_made_of_fails_at_once(mapped):
    slices = make_slices(labelled=True, mapped=mapped)
    with pytest.raises(ValueError, match="images must be at least 3.* got 2; use a larger batch"):
        BatchLoader(slices, UniformSampler(slices, 2), FineTuningViews(3), 5).prepare()
    BatchLoader(slices, UniformSampler(slices, 2), FineTuningViews(3, elastic=None), 5).prepare()
