from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from benchmarks import harness
from benchmarks.harness import Call, calls_per_run, observe, peak_memory_mib, ratios, spread, target, time_in_turn
from common.records import read_record

CPU = torch.device("cpu")


class Clock:
    """Time that passes only when a contender says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def contender(self, name: str, seconds: float, log: list[str]):
        def call() -> None:
            log.append(name)
            self.now += seconds

        return call


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(harness, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


def test_contenders_are_timed_in_turn_after_warming_up(clock):
    log: list[str] = []
    contenders = {"a": clock.contender("a", 1.0, log), "b": clock.contender("b", 3.0, log)}
    seconds = time_in_turn(contenders, repetitions=2, warm_up=1, device=CPU)
    assert log == ["a", "b"] * 3
    assert seconds == {"a": [1.0, 1.0], "b": [3.0, 3.0]}


def test_runs_of_several_calls_give_seconds_per_call(clock):
    log: list[str] = []
    contenders = {"a": clock.contender("a", 0.5, log), "b": clock.contender("b", 3.0, log)}
    seconds = time_in_turn(contenders, repetitions=2, warm_up=0, device=CPU, calls={"a": 4})
    assert log == ["a", "a", "a", "a", "b"] * 2
    assert seconds == {"a": [0.5, 0.5], "b": [3.0, 3.0]}


@pytest.mark.parametrize(
    ("contenders", "repetitions", "warm_up"),
    [({}, 1, 0), ({"a": lambda: None}, 0, 0), ({"a": lambda: None}, 1, -1)],
    ids=["no contender", "no repetition", "negative warm-up"],
)
def test_nothing_to_time(contenders, repetitions, warm_up):
    with pytest.raises(ValueError, match="repetitions must be at least 1, warm_up at least 0 and contenders not"):
        time_in_turn(contenders, repetitions, warm_up)


def test_ratios_pair_runs_that_followed_one_another():
    seconds = {"a": [2.0, 30.0, 8.0], "b": [1.0, 10.0, 2.0]}
    assert ratios(seconds, "a", "b") == {"median": 3.0, "low": 2.0, "high": 4.0}
    assert spread([5.0, 1.0, 2.0]) == {"median": 2.0, "low": 1.0, "high": 5.0}


@pytest.mark.parametrize(
    ("observed", "seconds", "expected"), [(0.01, 0.004, 13), (0.1, 0.06, 1), (5.0, 0.001, 1)], ids=str
)
def test_short_calls_are_bundled(clock, observed, seconds, expected):
    log: list[str] = []
    assert calls_per_run(clock.contender("a", seconds, log), Call(0.0, observed, None), CPU) == expected
    assert bool(log) == (observed < 1)  # a slow one is not called just to learn how slow it is


def test_peak_memory_is_that_of_the_call():
    def allocate() -> None:
        torch.ones(64, 2**18)  # 64 MiB, freed at once

    allocate()
    before = torch.ones(32, 2**18)
    peaks = [peak_memory_mib(allocate, CPU), peak_memory_mib(lambda: None, CPU)]
    del before
    if peaks == [None, None]:
        pytest.skip("no peak of the resident memory on this system")
    assert peaks[0] == pytest.approx(64, abs=4)
    assert peaks[1] < 4


def test_peak_memory_is_none_where_the_system_does_not_tell_it(monkeypatch, tmp_path):
    monkeypatch.setattr(harness, "_CLEAR_REFS", tmp_path / "absent")
    assert peak_memory_mib(lambda: None, CPU) is None


def test_observe_calls_once(clock):
    log: list[str] = []

    def function() -> torch.Tensor:
        clock.contender("a", 2.0, log)()
        return torch.tensor(7.0)

    call = observe(function, CPU)
    assert (call.value, call.seconds, log) == (7.0, 2.0, ["a"])


@pytest.mark.parametrize(
    ("limits", "measured", "met"),
    [
        ({"at_most": 1.0}, 1.0, True),
        ({"at_most": 1.0}, 1.01, False),
        ({"at_least": 50}, 50.0, True),
        ({"at_least": 50}, 49.9, False),
        ({"at_most": 0}, 0.0, True),
    ],
    ids=str,
)
def test_target(limits, measured, met):
    assert target("rule", measured, **limits) == {"rule": "rule", **limits, "measured": measured, "met": met}


@pytest.mark.parametrize("limits", [{}, {"at_most": 1, "at_least": 1}], ids=["none", "both"])
def test_target_has_one_limit(limits):
    with pytest.raises(ValueError, match="target must have one limit, at_most or at_least"):
        target("rule", 1.0, **limits)


def test_result_says_where_when_and_with_what():
    outcome = harness.result("step", [{"N": 1}], [target("rule", 1.0, at_most=2)], ["note"])
    assert outcome["command"] == "python -m benchmarks run step"
    assert torch.__version__.startswith(outcome["versions"]["torch"])  # which of CUDA it was built for may be left out
    assert outcome["threads"] == torch.get_num_threads()
    assert outcome["rows"] == [{"N": 1}] and outcome["targets"][0]["met"] and outcome["notes"] == ["note"]
    assert json.loads(json.dumps(outcome)) == outcome


@pytest.mark.parametrize(
    ("device", "name"), [("CPU (Example)", "step.json"), ("NVIDIA H200", "step_gpu.json")], ids=["CPU", "GPU"]
)
def test_write(monkeypatch, tmp_path, device, name):
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    outcome = {"benchmark": "step", "device": device}
    assert harness.write(outcome) == tmp_path / name
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert read_record(tmp_path / name, "") == outcome


def test_write_leaves_the_old_file_when_it_fails(monkeypatch, tmp_path):
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    outcome = {"benchmark": "step", "device": "CPU"}
    harness.write(outcome)
    with pytest.raises(TypeError, match="not JSON serializable"):
        harness.write(outcome | {"rows": torch.ones(1)})
    assert read_record(tmp_path / "step.json", "") == outcome
