"""The benchmark of processors without bfloat16: how they are made, what runs on them, and what it concludes."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from benchmarks import step, without_bfloat16
from benchmarks.without_bfloat16 import (
    INSTRUCTIONS,
    LAYOUTS,
    PRECISIONS,
    Contender,
    available,
    default_contender,
    judge,
    measure,
    onednn_instructions,
    time_stage,
)

CPU = torch.device("cpu")
EAGER = [f"{precision}, {layout}, 1 thread" for precision in PRECISIONS for layout in LAYOUTS]
TINY = {"threads": (1,), "repetitions": 1, "compiled": False, "side": 64}


@pytest.mark.parametrize("name", available())
def test_processors_are_made_of_this_one(name):
    says = onednn_instructions(INSTRUCTIONS[name])
    assert {"AVX2": "AVX2", "AVX512_CORE": "AVX-512"}[name] in says
    assert "bfloat16" not in says.lower() and "AMX" not in says


def test_default_is_asked_as_if_there_were_no_instructions(monkeypatch):
    for probe in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, probe, lambda: True)
    assert default_contender(2) == Contender("float32", "channels_last", 2)
    assert torch.cpu._is_amx_tile_supported()


def test_every_contender_is_timed_as_it_is_called(monkeypatch):
    monkeypatch.setattr(without_bfloat16, "_TOO_SLOW", 1e9)
    seen = []
    make_trainer = step.make_trainer

    def watched(*arguments, **options):
        trainer = make_trainer(*arguments, **options)
        trainer.network.encoder.levels[0].register_forward_hook(
            lambda _, inputs, output: seen.append(
                (
                    len(output),
                    str(output.dtype).removeprefix("torch."),
                    output.is_contiguous(memory_format=torch.channels_last),
                )
            )
        )
        return trainer

    monkeypatch.setattr(step, "make_trainer", watched)
    rows, notes = time_stage("fine-tuning", [4, 3], [1], repetitions=2, compiled=False, side=64)
    expected = {
        (size, precision, layout == "channels_last")
        for size in (3, 4)
        for precision in PRECISIONS
        for layout in LAYOUTS
    }
    assert set(seen) == expected and len(seen) == 3 * len(expected)  # one of each is not counted
    assert [row["batch"] for row in rows] == [3] * 4 + [4] * 4
    assert [row["contender"] for row in rows] == EAGER * 2 and notes == []
    assert all(row["runs"] == 2 and 0 < row["low"] <= row["images/s"] <= row["high"] for row in rows)


def test_threads_are_those_of_the_contender_and_put_back(monkeypatch):
    before, seen = torch.get_num_threads(), []
    monkeypatch.setattr(without_bfloat16, "_TOO_SLOW", 1e9)
    # Several threads on a busy machine wait for one another at every operation.
    monkeypatch.setattr(without_bfloat16, "train_once", lambda *_: seen.append(torch.get_num_threads()))
    time_stage("fine-tuning", [3], [before, before + 1], repetitions=1, compiled=False, side=64)
    assert sorted(seen) == [before] * 8 + [before + 1] * 8
    assert torch.get_num_threads() == before


def test_what_is_far_too_slow_runs_once(monkeypatch):
    slow = "bfloat16, NCHW, 1 thread"
    calls = []

    def train(contender, *_):
        calls.append(str(contender))

    monkeypatch.setattr(without_bfloat16, "_train", train)
    monkeypatch.setattr(without_bfloat16, "_once", lambda call: call() or (9.0 if calls[-1] == slow else 1.0))
    rows, _ = time_stage("fine-tuning", [4, 3], [1], repetitions=3, compiled=False, side=64)
    assert [(row["batch"], row["contender"], row["runs"]) for row in rows if row["contender"] == slow] == [(3, slow, 1)]
    assert [row["contender"] for row in rows if row["batch"] == 4] == [name for name in EAGER if name != slow]
    assert calls.count(slow) == 1 and all(calls.count(name) == 8 for name in EAGER if name != slow)


def test_the_default_is_also_compiled(monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    rows, notes = time_stage("fine-tuning", [3], [1], repetitions=1, compiled=True, side=64)
    assert rows[-1]["contender"] == "float32, channels_last, 1 thread, compiled"
    assert notes[0].startswith("float32, channels_last, 1 thread, compiled: the first step, which compiles, took ")


def test_without_a_compiler_that_is_left_out(monkeypatch):
    def fail(*_):
        raise RuntimeError("No working C++ compiler found\nmore")

    monkeypatch.setattr(torch, "compile", lambda _: fail)
    rows, notes = time_stage("fine-tuning", [3], [1], repetitions=1, compiled=True, side=64)
    assert not any("compiled" in row["contender"] for row in rows)
    assert notes == ["float32, channels_last, 1 thread, compiled is left out: No working C++ compiler found"]


def row(contender, batch, rate):
    return {"contender": contender, "batch": batch, "images/s": rate}


@pytest.mark.parametrize(("other", "measured", "met"), [(10.0, 1.0, True), (10.4, 1.04, True), (12.0, 1.2, False)])
def test_the_default_is_compared_with_the_fastest_that_needs_no_compiler(other, measured, met):
    default = Contender("float32", "channels_last", 2)
    rows = [
        row("float32, NCHW, 1 thread", 5, other),
        row(str(default), 5, 9.0),
        row(str(default), 20, 10.0),
        row("bfloat16, NCHW, 2 threads", 20, 2.0),
        row(f"{default}, compiled", 20, 12.5),
    ]
    target, note = judge(rows, default)
    assert target["measured"] == pytest.approx(measured) and target["met"] is met
    assert [entry["times default"] for entry in rows] == pytest.approx([10 / other, 10 / 9, 1, 5, 0.8])
    fastest = "float32, NCHW, 1 thread, batch 5" if other > 10 else "float32, "
    assert f"default's: {fastest}" in note
    assert (
        f"with batches of that size {default}, batch 20 (1.00); compiled {default}, compiled, batch 20 (0.80)" in note
    )


def test_result(monkeypatch):
    monkeypatch.setattr(without_bfloat16, "onednn_instructions", lambda variables: variables["ONEDNN_MAX_CPU_ISA"])
    sizes = {"fine-tuning": (4, 3)}
    outcome = measure(instructions=["AVX2"], batch_sizes=sizes, own_processes=False, **TINY)
    assert {(row["instructions"], row["stage"]) for row in outcome["rows"]} == {("AVX2", "fine-tuning")}
    assert [target["rule"].split(":")[0] for target in outcome["targets"]] == ["AVX2, fine-tuning"]
    assert outcome["targets"][0]["at_most"] == 1.05
    assert outcome["notes"][0] == "AVX2: oneDNN says that it uses AVX2."
    assert outcome["notes"][1].startswith("AVX2, fine-tuning: the default is float32, channels_last, 1 thread, batch 4")


def test_a_processor_without_any_of_them(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    with pytest.raises(ValueError, match=r"instructions must be some .* got none: torch uses DEFAULT on it\. Run this"):
        measure()
