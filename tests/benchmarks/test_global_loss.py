from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch
from torch import Tensor

from benchmarks import global_loss, harness
from common.losses import GlobalContrastiveLoss
from common.strategies import make_layout

NTXENT = "pytorch-metric-learning NTXentLoss"


@pytest.fixture(autouse=True)
def single_calls(monkeypatch):
    """Measures nothing worth knowing, and does not take long for it."""
    monkeypatch.setattr(harness, "RUN_SECONDS", 0.0)


@pytest.fixture
def lightly(monkeypatch):
    """A stand-in that takes what lightly's loss takes and is GR."""

    class NTXentLoss:
        def __init__(self, temperature: float) -> None:
            self.temperature = temperature

        def __call__(self, first: Tensor, second: Tensor) -> Tensor:
            loss = GlobalContrastiveLoss(make_layout("GR", 2 * len(first)), self.temperature)
            return loss(torch.cat([first, second]))

    module = ModuleType("lightly.loss")
    module.NTXentLoss = NTXentLoss
    monkeypatch.setitem(sys.modules, "lightly", ModuleType("lightly"))
    monkeypatch.setitem(sys.modules, "lightly.loss", module)


def measure(**overrides):
    return global_loss.measure(**{"sizes": (16, 24), "repetitions": 2} | overrides)


def test_all_contenders_at_all_sizes(lightly):
    outcome = measure()
    cases = [(row["strategy"], row["N"], row["contender"]) for row in outcome["rows"]]
    own = ["ours", "loop form", NTXENT]
    libraries = ["monai ContrastiveLoss", "lightly NTXentLoss"]
    assert cases == [
        *(("GR", size, contender) for size in (16, 24) for contender in own + libraries),
        *(("GD", size, contender) for size in (16, 24) for contender in own),
    ]
    for row in outcome["rows"]:
        assert row["low"] <= row["times ours"] <= row["high"] and row["cost"] > 0 and 1 <= row["runs"] <= 2
        assert (row["times ours"] == 1) == (row["contender"] == "ours")
        same = row["contender"] != "ours" and (row["strategy"], row["contender"]) != ("GD", NTXENT)
        assert (row["difference of value"] is not None) == same
        assert not same or row["difference of value"] < 1e-5
    rules = [entry["rule"] for entry in outcome["targets"]]
    assert rules[:4] == [
        "largest relative difference of a value from ours, same formula",
        "GD at N = 16: time of the loop form / time of ours",
        "GR: time of ours / time of the fastest library, worst of N = 16, 24",
        "GD: time of ours / time of the fastest library, worst of N = 16, 24",
    ]
    assert not any("absent" in note or "left out" in note for note in outcome["notes"])


@pytest.mark.parametrize("error", [ImportError("No module"), RuntimeError("operator nms")], ids=["absent", "unfit"])
def test_library_that_does_not_import_is_noted(monkeypatch, error):
    def fail(name):
        raise error

    monkeypatch.setattr(global_loss.importlib, "import_module", fail)
    notes: list[str] = []
    assert global_loss._import_libraries(notes) == {}
    assert notes == [f"{NTXENT} is absent: {error}.", f"lightly NTXentLoss is absent: {error}."]


def test_what_is_too_much_is_left_out_with_the_reason(monkeypatch):
    monkeypatch.setattr(global_loss, "MAX_LOOP_EXPONENTIALS", 1000)
    monkeypatch.setattr(global_loss, "_memory", lambda device: 2**18)
    outcome = measure(repetitions=1)
    left = {(row["strategy"], row["N"]) for row in outcome["rows"] if row["contender"] == "loop form"}
    assert left == {("GR", 16), ("GD", 16), ("GR", 24)}
    assert any(
        note.startswith("GD, N = 24: the loop form is left out, it would compute 1,824 exp")
        for note in outcome["notes"]
    )
    left = {(row["strategy"], row["N"]) for row in outcome["rows"] if row["contender"] == NTXENT}
    assert left == {("GR", 16)}  # 16 × 224 pairs × 20 bytes; GD has 48 × 192
    assert any(f"GD, N = 16: {NTXENT} is left out" in note and "48 positive" in note for note in outcome["notes"])


@pytest.mark.parametrize("strategy", ["GR", "GD"])
def test_exponentials_of_the_loop_form_are_counted_right(monkeypatch, strategy):
    monkeypatch.setattr(global_loss, "MAX_LOOP_EXPONENTIALS", 0)
    notes: list[str] = []
    global_loss._contenders(strategy, 8, torch.device("cpu"), {}, notes)
    counted = 0
    exp = torch.exp

    def counting(value: Tensor) -> Tensor:
        nonlocal counted
        counted += 1
        return exp(value)

    monkeypatch.setattr(torch, "exp", counting)
    embeddings = torch.randn(16, 4)
    global_loss.global_loss_by_loops(embeddings, make_layout(strategy, 16))
    # The positive's is computed a second time, for the numerator.
    num_terms = 16 if strategy == "GR" else 64
    assert f"it would compute {counted - num_terms:,} exponentials" in notes[0]


def row(strategy, size, contender, times_ours, peak=None, difference=None):
    return {
        "strategy": strategy,
        "N": size,
        "contender": contender,
        "times ours": times_ours,
        "peak MiB": peak,
        "difference of value": difference,
    }


def test_targets_take_the_worst_case():
    rows = [
        row("GR", 40, "ours", 1, peak=1.0),
        row("GR", 40, "monai ContrastiveLoss", 4.0, difference=1e-7),
        row("GR", 80, "ours", 1, peak=4.0),
        row("GR", 80, "monai ContrastiveLoss", 0.5, difference=1e-3),
        row("GD", 40, "ours", 1, peak=1.0),
        row("GD", 40, "loop form", 49.0, difference=0.0),
        row("GD", 40, NTXENT, 2.0),
        row("GD", 80, "ours", 1, peak=6.0),
        row("GD", 80, "loop form", 500.0, difference=0.0),
    ]
    targets = global_loss._targets(rows)
    assert [(entry["measured"], entry["met"]) for entry in targets] == [
        (1e-3, False),
        (49.0, False),
        (2.0, False),
        (0.5, True),
        (1.5, False),
    ]
    assert targets[3]["rule"].endswith("worst of N = 40")
    assert targets[4]["rule"].endswith("(GD, N = 40 to 80)")
