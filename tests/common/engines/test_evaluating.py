"""What happens around a validation: batch-norm statistics, the best weights, precision."""

from __future__ import annotations

from math import nan
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from common.checkpoints import read_weights
from common.data.slices import Slices
from common.engines import (
    AutocastInferer,
    BatchNormStatistics,
    SaveBest,
    SaveWeights,
    recompute_batch_norm,
    resolve_precision,
)


def make_network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3, momentum=0.01), nn.Dropout())


def make_slices(count=30):
    images = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 4 + 7
    return Slices(images, None, torch.tensor([0, count]))


def test_recomputed_statistics_are_those_of_the_slices():
    network, slices = make_network(), make_slices()
    recompute_batch_norm(network, slices, batch_size=30, precision="float32")
    features = network[0](slices.images)
    assert torch.allclose(network[1].running_mean, features.mean(dim=(0, 2, 3)), rtol=1e-5)
    assert torch.allclose(network[1].running_var, features.var(dim=(0, 2, 3)), rtol=1e-4)
    assert network.training and network[1].momentum == 0.01


def test_recomputing_twice_gives_the_same_statistics():
    network, slices = make_network(), make_slices()
    values = []
    for _ in range(2):
        recompute_batch_norm(network, slices, num_slices=20, batch_size=7, precision="float32")
        values.append(network[1].running_mean.clone())
        network[1].running_mean.add_(3.0)
    assert torch.equal(*values)


def test_mixed_statistics_weigh_labelled_slices_like_all_others():
    network, slices, labelled = make_network(), make_slices(), make_slices(4)
    labelled.images.sub_(20)
    recompute_batch_norm(network, slices, num_slices=40, batch_size=40, precision="float32", labelled=labelled)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))[:20]
    features = network[0](torch.cat([slices.images[order], labelled.images.repeat(5, 1, 1, 1)]))
    assert torch.allclose(network[1].running_mean, features.mean(dim=(0, 2, 3)), rtol=1e-4)
    assert torch.allclose(network[1].running_var, features.var(dim=(0, 2, 3)), rtol=1e-4)


@pytest.mark.parametrize("count", [1, 7, 50])
def test_half_of_each_batch_is_labelled(count):
    slices, labelled = make_slices(), make_slices(count)
    labelled.images.sub_(20)
    seen = []
    network = make_network()
    network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    recompute_batch_norm(network, slices, num_slices=20, batch_size=8, precision="float32", labelled=labelled)
    assert sum(map(len, seen)) == 20
    assert all((batch.flatten(1).mean(dim=1) < 0).sum() == len(batch) / 2 for batch in seen)


@pytest.mark.parametrize("statistics", ["recomputed", "mixed", "running_average"])
def test_statistics_are_exchanged_for_the_run_only(statistics):
    network = make_network()
    handler = BatchNormStatistics(network, make_slices(), statistics, precision="float32", labelled=make_slices(3))
    seen = {}

    def look(engine, batch):
        seen.update(network=network[1].running_mean.clone(), saved=handler.state_dict()["1.running_mean"].clone())

    engine = Engine(look)
    handler.attach(engine)
    before = network[1].running_mean.clone()
    engine.run([0])
    assert torch.equal(network[1].running_mean, before) and torch.equal(seen["saved"], before)
    assert torch.equal(seen["network"], before) == (statistics == "running_average")


def test_unknown_statistics():
    with pytest.raises(ValueError, match="statistics must be one of"):
        BatchNormStatistics(make_network(), make_slices(), "batch")
    with pytest.raises(ValueError, match="labelled must be given for the statistics 'mixed'"):
        BatchNormStatistics(make_network(), make_slices(), "mixed")


def test_best_weights_survive_worse_validations_and_a_restart(tmp_path):
    network = nn.Linear(1, 1, bias=False)
    path = tmp_path / "model.pt"

    def validate(best, value, weight):
        with torch.no_grad():
            network.weight.fill_(weight)
        best.compare(SimpleNamespace(state=SimpleNamespace(key_metric_name="dice", metrics={"dice": value})))
        return float(read_weights(path)["weight"])

    best = SaveBest([SaveWeights(network, str(path))])
    assert [validate(best, value, k) for k, value in enumerate((0.5, 0.4, 0.6, 0.6 + 1e-9))] == [0, 0, 2, 2]
    restarted = SaveBest([SaveWeights(network, str(path))])
    restarted.load_state_dict(best.state_dict())
    assert validate(restarted, 0.55, 7) == 2


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ([nan, nan, nan], 2),  # nothing labelled, nothing predicted: the last
        ([0.0, nan, 0.0], 2),  # none of them has found anything
        ([0.0, 0.3, nan, 0.0], 1),  # NaN counts as 0
        ([nan, 0.3, 0.2], 1),
    ],
    ids=str,
)
def test_which_weights_are_kept_where_the_dice_is_nan(tmp_path, values, kept, caplog):
    network = nn.Linear(1, 1, bias=False)
    best = SaveBest([SaveWeights(network, str(tmp_path / "model.pt"))])
    for number, value in enumerate(values):
        nn.init.constant_(network.weight, number)
        best.compare(SimpleNamespace(state=SimpleNamespace(key_metric_name="dice", metrics={"dice": value})))
    assert float(read_weights(tmp_path / "model.pt")["weight"]) == kept
    assert ("dice is NaN, since no validation volume has a structure" in caplog.text) and best.best == best.best


def test_autocast_returns_float32():
    inputs = torch.rand(2, 1, 8, 8)
    network = make_network().eval()
    exact = AutocastInferer(precision="float32")(inputs, network)
    rounded = AutocastInferer(precision="bfloat16")(inputs, network)
    assert exact.dtype == rounded.dtype == torch.float32
    assert torch.equal(exact, network(inputs)) and not torch.equal(exact, rounded)
    assert torch.allclose(exact, rounded, atol=0.05)


def test_unknown_precision():
    with pytest.raises(ValueError, match="precision must be one of"):
        AutocastInferer(precision="half")
    assert resolve_precision("bfloat16", torch.device("cpu")) == torch.bfloat16
