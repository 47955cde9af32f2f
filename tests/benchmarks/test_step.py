from __future__ import annotations

import pytest
import torch

from benchmarks import step

CPU = torch.device("cpu")


@pytest.fixture
def seen(monkeypatch) -> list[torch.Size]:
    """The shapes of all inputs that networks made by `make_trainer` get."""
    shapes: list[torch.Size] = []
    make_trainer = step.make_trainer

    def watched(*arguments, **options):
        trainer = make_trainer(*arguments, **options)
        trainer.network.register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].shape))
        return trainer

    monkeypatch.setattr(step, "make_trainer", watched)
    return shapes


@pytest.mark.parametrize("stage", [*step.STAGES, step.DENSE, step.SELF_TRAINING])
def test_both_contenders_get_batches_of_the_stated_size(stage, seen):
    row, _ = step.measure_stage(stage, batch_size=24, repetitions=2, side=64)
    assert set(seen) == {(24, 1, 64, 64)}
    assert len(seen) == 1 + 2 * 3  # the shape of the gradient, then one untimed and two timed runs of each
    assert row["stage"] == stage and row["batch"] == 24
    assert row["low"] <= row["times network"] <= row["high"]
    assert 0.1 < row["low"] and row["high"] < 10
    assert 0 < row["batch %"] < 100 and 0 < row["loss %"] < 100
    assert 100 < row["peak MiB"] < 10_000


@pytest.mark.parametrize("stage", step.PHOTOGRAPHS)
def test_photographs_are_wide_and_in_colour(stage, seen):
    row, _ = step.measure_stage(stage, batch_size=4, repetitions=1, side=64)
    assert set(seen) == {(4, 3, 64, 128)} and row["stage"] == stage
    slices = step.random_photographs(False, 64, CPU)
    assert slices.images.dtype == torch.uint8 and set(slices.starts.diff().tolist()) == {1}


def test_photographs_have_a_size_of_their_own():
    size = {"photograph_batch_size": 4, "photograph_height": 32}
    outcome = step.measure(1, 1, 64, ["photographs, fine-tuning"], **size)
    assert [row["batch"] for row in outcome["rows"]] == [4]


def test_what_takes_longest_is_named_where_the_target_is_missed(monkeypatch):
    monkeypatch.setattr(step, "_limit", lambda: 0.0)
    assert "aten::grid_sampler_2d" in step.measure_stage("fine-tuning", batch_size=16, repetitions=1, side=64)[1]
    monkeypatch.setattr(step, "_limit", lambda: 100.0)
    assert step.measure_stage("local", batch_size=16, repetitions=1, side=64)[1] == ""


def test_the_result_has_a_row_and_a_target_for_each_stage():
    outcome = step.measure(batch_size=16, repetitions=1, side=64, stages=["local"])
    assert outcome["benchmark"] == "step"
    assert [row["stage"] for row in outcome["rows"]] == ["local"]
    assert [target["measured"] for target in outcome["targets"]] == [outcome["rows"][0]["times network"]]
    assert outcome["targets"][0]["at_most"] == (1.10 if torch.cuda.is_available() else 1.05)


def test_the_dense_loss_has_a_target_of_its_own():
    outcome = step.measure(batch_size=20, repetitions=1, side=64, stages=["dense"])
    whole, loss = outcome["targets"]
    assert whole["measured"] == outcome["rows"][0]["times network"]
    assert (loss["measured"], loss["at_most"]) == (outcome["rows"][0]["loss %"], 3.0)


def test_another_strategy_and_augmentation_can_be_asked_for():
    slices = step.random_slices(True, 64, CPU)

    def images(stage, size, **settings):
        return step.make_trainer(stage, slices, size, **settings).data_loader.batch(0)[0]

    def is_drawn(images):
        return any(torch.equal(images[0], image) for image in slices.images)

    assert is_drawn(images("global", 16)) and not is_drawn(images("global", 16, strategy="GR"))
    assert not torch.equal(images("fine-tuning", 8), images("fine-tuning", 8, augmentation="strong+elastic"))


def test_a_resumable_trainer_goes_on_where_it_paused(seen):
    trainer = step.make_trainer("local", step.random_slices(False, 64, CPU), 4)
    go_on = step.resumable(trainer, steps=2)
    for calls in (1, 2):
        go_on()
        assert trainer.state.iteration == len(seen) == 2 * calls
    step.finish(trainer)
    assert len(seen) == 4


def test_the_same_weights_and_batches_at_every_call():
    slices = step.random_slices(True, 64, CPU)
    first, second = (step.make_trainer("fine-tuning", slices, 4) for _ in range(2))
    assert torch.equal(first.data_loader.batch(3)[0], second.data_loader.batch(3)[0])
    for one, other in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_operations_are_named_by_their_share():
    matrix = torch.rand(300, 300)
    assert step.top_operations(lambda: matrix @ matrix, seconds=1.0, number=1).startswith("aten::mm 0.")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("stage", [*step.STAGES, step.DENSE, step.SELF_TRAINING, *step.PHOTOGRAPHS])
def test_the_host_does_not_wait_for_a_gpu_in_a_step(stage):
    device, of_photographs = torch.device("cuda"), stage in step.PHOTOGRAPHS
    make = step.random_photographs if of_photographs else step.random_slices
    labelled = stage.endswith("fine-tuning") or stage == step.SELF_TRAINING
    trainer = step.make_trainer(stage, make(labelled, 64 if of_photographs else 96, device), 16)
    train = step.resumable(trainer, 2)
    train()
    torch.cuda.set_sync_debug_mode("error")
    try:
        train()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    step.finish(trainer)
