from __future__ import annotations

import pytest
import torch

from benchmarks import pipeline, step
from common.data.samplers import UniformSampler

CPU = torch.device("cpu")
BATCH_SIZES = {"fine-tuning": 4, "global": 16}
STAGES = list(BATCH_SIZES)


def make_loader(stage, num_batches=2, num_workers=0):
    slices = step.random_slices(stage == "fine-tuning", 64, CPU)
    sampler = step.make_trainer(stage, slices, BATCH_SIZES[stage]).data_loader.sampler
    return slices, pipeline.stock_loader(stage, slices, sampler, num_batches, num_workers)


def test_the_result_compares_both_parts_with_and_without_workers():
    outcome = pipeline.measure(
        batches=1, steps=1, repetitions=1, step_repetitions=1, side=64, batch_sizes={"fine-tuning": 4, "global": 16}
    )
    rows = outcome["rows"]
    cases = [("data", 2), ("data", 0), ("whole step", 2)]
    assert [(row["stage"], row["part"], row["stock workers"]) for row in rows] == [
        (stage, *case) for stage in STAGES for case in cases
    ]
    assert [row["batch"] for row in rows] == [4] * 3 + [16] * 3
    assert all(0.01 < row["low"] == row["times stock"] == row["high"] < 1000 for row in rows)  # of one repetition
    assert [target["measured"] for target in outcome["targets"]] == [row["times stock"] for row in rows]
    end_to_end = 10 if torch.cuda.is_available() else 3
    assert [target["at_least"] for target in outcome["targets"]] == 2 * [4, 8, end_to_end]


@pytest.mark.parametrize("stage", STAGES)
def test_stock_batches_have_the_size_of_ours(stage):
    slices, loader = make_loader(stage)
    ours, targets = step.make_trainer(stage, slices, BATCH_SIZES[stage]).data_loader.batch(0)
    batches = [pipeline.stock_batch(batch, CPU) for batch in loader]
    assert len(batches) == 2
    for images, labels in batches:
        assert images.shape == ours.shape == (BATCH_SIZES[stage], 1, 64, 64)
        if stage == "fine-tuning":
            assert labels.shape == (4, 1, 64, 64)
            assert set(labels.unique().tolist()) <= set(range(targets.shape[1]))
        else:
            assert labels is None


def test_the_first_views_of_the_global_stage_are_the_slices_and_the_second_are_not():
    slices, loader = make_loader("global", num_batches=1)
    (indices,) = list(loader.batch_sampler)
    loader.batch_sampler.generator.manual_seed(0)
    images, _ = pipeline.stock_batch(next(iter(loader)), CPU)
    assert torch.equal(images[:8].as_tensor(), slices.images[indices])
    assert (images[8:] - images[:8]).abs().flatten(1).amax(dim=1).min() > 0.1


def test_stock_augmentation_changes_some_slices_of_a_batch():
    slices = step.random_slices(True, 64, CPU)
    loader = pipeline.stock_loader("fine-tuning", slices, UniformSampler(slices, 40), 1, 0)
    (indices,) = list(loader.batch_sampler)
    loader.batch_sampler.generator.manual_seed(0)
    images, labels = pipeline.stock_batch(next(iter(loader)), CPU)
    changed = (images.as_tensor() != slices.images[indices]).flatten(1).any(dim=1)
    assert 15 < changed.sum() < 40  # 31 expected
    assert torch.equal(changed, (labels.as_tensor()[:, 0] != slices.labels[indices]).flatten(1).any(dim=1))


@pytest.mark.parametrize("stage", STAGES)
def test_stock_training_takes_a_step_for_each_batch(stage, monkeypatch):
    slices, loader = make_loader(stage)
    made = []
    make_trainer = step.make_trainer
    monkeypatch.setattr(
        step, "make_trainer", lambda *args, **kwargs: made.append(make_trainer(*args, **kwargs)) or made[-1]
    )
    step_on = pipeline.stock_training(stage, slices, BATCH_SIZES[stage])
    (trainer,) = made
    shapes = []
    trainer.network.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape)))
    weight = next(trainer.network.parameters())
    assert weight.is_contiguous() and weight.dtype == torch.float32
    before = weight.detach().clone()
    for batch in loader:
        step_on(batch)
    assert shapes == 2 * [(BATCH_SIZES[stage], 1, 64, 64)]
    assert not torch.equal(weight, before)


def test_draws_are_those_of_the_sampler():
    sampler = UniformSampler(step.random_slices(False, 8, CPU), 5)
    draws = pipeline.Draws(sampler, 3)
    generator = torch.Generator().manual_seed(0)
    assert len(draws) == 3
    assert list(draws) == [sampler(generator).tolist() for _ in range(3)]
