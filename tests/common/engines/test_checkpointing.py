"""What is kept of the best validation; `test_training` has `Resume` on a real trainer."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from common.checkpoints import read_weights, save_atomically
from common.engines import SaveBest, SaveWeights, checkpointing


def validated(value):
    """An evaluator that has just computed its key metric."""
    return SimpleNamespace(state=SimpleNamespace(key_metric_name="mean_dice", metrics={"mean_dice": value}))


def make(folder, weight=0.0):
    """A network of one weight, and what saves it under two names."""
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(network.weight, weight)
    return network, SaveBest([SaveWeights(network, str(folder / name)) for name in ("model.pt", "twin.pt")])


def saved(folder):
    return [read_weights(folder / name)["weight"].item() for name in ("model.pt", "twin.pt")]


def test_weights_are_written_when_the_metric_improves(tmp_path):
    network, best = make(tmp_path)
    kept = []
    for weight, value in ((1.0, 0.5), (2.0, 0.5), (3.0, float("nan")), (4.0, 0.6), (5.0, 0.4)):
        torch.nn.init.constant_(network.weight, weight)
        best.compare(validated(value))
        kept.append(saved(tmp_path)[0])
    assert kept == [1, 1, 1, 4, 4] and saved(tmp_path) == [4, 4] and best.best == 0.6


@pytest.mark.parametrize("spoil", ["gone", "later", "foreign"])
def test_best_weights_are_put_back_after_a_resume(tmp_path, spoil, caplog):
    network, best = make(tmp_path, 1.0)
    best.compare(validated(0.5))
    save_atomically(best.state_dict(), tmp_path / "state.pt")
    whole = (tmp_path / "model.pt").read_bytes()
    if spoil == "gone":
        (tmp_path / "model.pt").unlink()
    elif spoil == "later":  # the process was killed after a better epoch, which was not saved in the state
        torch.nn.init.constant_(network.weight, 2.0)
        best.compare(validated(0.7))
    else:
        save_atomically({"weight": torch.zeros(9)}, tmp_path / "model.pt")
    _, resumed = make(tmp_path, 3.0)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    resumed.compare(validated(0.4))
    assert saved(tmp_path) == [1, 1] and (tmp_path / "model.pt").read_bytes() == whole
    assert "model.pt: was gone or another file" in caplog.text
    caplog.clear()
    resumed.compare(validated(0.4))
    assert caplog.text == ""
    resumed.compare(validated(0.8))
    assert saved(tmp_path) == [3, 3]


def test_nothing_is_put_back_before_anything_was_written(tmp_path):
    _, best = make(tmp_path)
    best.load_state_dict({"best": 0.5})  # of a run of an earlier version, which did not keep the files
    best.compare(validated(0.4))
    assert list(tmp_path.iterdir()) == []


def test_only_the_first_process_puts_back(tmp_path, monkeypatch):
    _, best = make(tmp_path)
    best.compare(validated(0.5))
    (tmp_path / "model.pt").unlink()
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: 1)
    best.compare(validated(0.4))
    assert [path.name for path in tmp_path.iterdir()] == ["twin.pt"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_weights_of_a_gpu_are_written_as_those_of_the_cpu(tmp_path, monkeypatch):
    written = {}
    monkeypatch.setattr(checkpointing, "save_atomically", lambda weights, *_: written.update(weights))
    network = torch.nn.Linear(1, 1).to("cuda")
    SaveWeights(network, str(tmp_path / "model.pt")).save()
    assert next(network.parameters()).device.type == "cuda"
    assert {name: value.device.type for name, value in written.items()} == {"weight": "cpu", "bias": "cpu"}
