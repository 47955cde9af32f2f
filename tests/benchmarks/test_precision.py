from __future__ import annotations

from functools import partial

import pytest
import torch
from torch._dynamo.exc import TorchDynamoException

from benchmarks import precision, step
from common.transforms.n4 import N4BiasFieldCorrection

CPU = torch.device("cpu")
TINY = {
    "curve_batch_sizes": {"global": 16, "fine-tuning": 4},
    "batch_size": 4,
    "repetitions": 1,
    "curve_steps": 20,
    "num_phantoms": 4,
    "side": 64,
}


@pytest.fixture
def one_stage(monkeypatch):
    monkeypatch.setattr(step, "STAGES", ("local",))


def fail_to_compile(kind, network):
    def compiled(*_):
        raise kind("No working C++ compiler found\nmore")

    return compiled


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
def test_the_result_has_times_of_every_contender_and_losses_of_both_precisions(monkeypatch, one_stage):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))  # spares the compiler's minutes
    outcome = precision.measure(**TINY)
    timed = [row for row in outcome["rows"] if "times float32" in row]
    assert [row["contender"] for row in timed] == list(precision.CONTENDERS)
    assert all(row["stage"] == "local" and row["batch"] == 4 for row in timed)
    assert timed[0]["times float32"] == 1
    assert all(0.01 < row["low"] <= row["times float32"] <= row["high"] < 100 for row in timed)

    runs = [row for row in outcome["rows"] if "times float32" not in row]
    contenders = ["float32 channels_last", "bfloat16 channels_last"]
    assert [(row["stage"], row["batch"], row["contender"]) for row in runs] == [
        (stage, images, name) for stage, images in (("global", 16), ("fine-tuning", 4)) for name in contenders
    ]
    losses = [row["mean loss of steps 1-20"] for row in runs]
    assert [target["measured"] for target in outcome["targets"]] == [losses[1] / losses[0], losses[3] / losses[2]]
    assert [target["at_most"] for target in outcome["targets"]] == [1.05, 1.05]
    assert list(outcome["curves"]) == ["global", "fine-tuning"]
    for curve in outcome["curves"].values():
        assert curve["step"] == [10, 20]
        assert len(curve["float32"]) == len(curve["bfloat16"]) == 2
    assert sum("standard error of that ratio" in note for note in outcome["notes"]) == 2
    assert "4 phantom patients" in outcome["notes"][-2]
    assert "Default on this" in outcome["notes"][-1]


@pytest.mark.parametrize("kind", [TorchDynamoException, RuntimeError])
def test_without_a_compiler_the_compiled_contenders_are_left_out(monkeypatch, kind):
    monkeypatch.setattr(torch, "compile", partial(fail_to_compile, kind))
    rows, notes = precision._time_stage("local", batch_size=4, repetitions=1, side=64, device=CPU)
    assert [row["contender"] for row in rows] == [name for name in precision.CONTENDERS if "compiled" not in name]
    assert notes == [
        f"local: {name} is left out: No working C++ compiler found"
        for name in precision.CONTENDERS
        if "compiled" in name
    ]


def test_contenders_compute_in_their_precision_and_layout(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda network: network)
    seen = []
    make_trainer = step.make_trainer

    def watched(*arguments, **options):
        trainer = make_trainer(*arguments, **options)
        block = trainer.network.unet.encoder.levels[0]
        block.register_forward_hook(
            lambda _, inputs, output: seen.append(
                (len(output), output.dtype, output.is_contiguous(memory_format=torch.channels_last))
            )
        )
        return trainer

    monkeypatch.setattr(step, "make_trainer", watched)
    precision._time_stage("local", batch_size=6, repetitions=1, side=64, device=CPU)
    dtypes = [(precision.CONTENDERS[name][0], "channels_last" in name) for name in precision.CONTENDERS]
    expected = [(6, getattr(torch, name), channels_last) for name, channels_last in dtypes]
    assert seen[-6:] == expected


def test_curves_of_one_precision_repeat_and_those_of_two_start_alike():
    slices = step.random_slices(False, 64, CPU)
    first, again = (precision.loss_curve("global", slices, 16, 3, "float32") for _ in range(2))
    other = precision.loss_curve("global", slices, 16, 3, "bfloat16")
    assert len(first) == 3 and first == again
    assert other != first and other[0] == pytest.approx(first[0], rel=0.05)


@pytest.mark.parametrize("stage", precision.CONFIGS)
def test_slices_are_preprocessed_without_n4(stage, monkeypatch):
    monkeypatch.setattr(N4BiasFieldCorrection, "__call__", None)  # cannot be called
    slices = precision.read_slices(stage, None, num_phantoms=4, side=64, device=CPU)
    assert slices.num_volumes == 2
    assert slices.images.shape[1:] == (1, 64, 64)
    assert (slices.labels is not None) == (stage == "fine-tuning")
    if slices.labels is not None:
        assert slices.labels.unique().tolist() == [0, 1, 2, 3]


def test_slices_of_acdc_are_those_of_eight_labelled_volumes(acdc_dir):
    slices = precision.read_slices("fine-tuning", str(acdc_dir), num_phantoms=0, side=192, device=CPU)
    assert slices.num_volumes == 8 and slices.images.shape[1:] == (1, 192, 192)
    assert 0 < slices.images.mean() < 0.5 and slices.labels.unique().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("met", "expected"),
    [(True, "local bfloat16 channels_last (0.30)"), (False, "local float32 channels_last, compiled (0.50)")],
    ids=["both precisions", "float32 alone"],
)
def test_the_choice_is_the_fastest_whose_loss_is_good_enough(met, expected, one_stage):
    times = {
        "float32": 1.0,
        "float32 channels_last": 0.6,
        "float32 channels_last, compiled": 0.5,
        "bfloat16 channels_last": 0.3,
    }
    rows = [{"stage": "local", "contender": name, "times float32": value} for name, value in times.items()]
    choice = precision._choice(rows, met, CPU)
    assert expected in choice
    assert ("does not stay" in choice) != met
