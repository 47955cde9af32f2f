"""Parts of fine-tuning: the rates of the optimiser, and which weights are kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ignite.engine import Engine

from common import checkpoints, fine_tuning
from common.data.slices import Slices
from common.engines import BatchNormStatistics, LearningRateDecay
from common.lineage import Lineage
from common.networks import UNet2d

PARTS = {"encoder": ["encoder."], "encoder_decoder": ["encoder.", "decoder.blocks.0.", "decoder.blocks.1."]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with both files of pre-trained weights."""
    folder = tmp_path_factory.mktemp("pretrained")
    state = UNet2d(4).state_dict()
    for name, parts in PARTS.items():
        checkpoints.save_atomically(checkpoints.select_parts(state, parts), folder / f"pretrained_{name}.pt")
    return folder


@pytest.fixture
def network() -> UNet2d:
    torch.manual_seed(0)
    return UNet2d(4)


def step(network: UNet2d, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Make one step along gradients of 1; return how far each parameter has moved."""
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    for value in network.parameters():
        value.grad = torch.ones_like(value)
    optimizer.step()
    return {name: (value - before[name]).abs().max().item() for name, value in network.named_parameters()}


def test_by_default_it_is_adam_with_one_rate(network):
    optimizer = fine_tuning.optimizer(network, 1e-3, 1.0, "encoder", "nowhere")  # no file is looked for
    expected = torch.optim.Adam(network.parameters(), lr=1e-3)
    assert type(optimizer) is torch.optim.Adam and optimizer.defaults == expected.defaults
    (group,), (own,) = optimizer.param_groups, expected.param_groups
    assert all(one is other for one, other in zip(group.pop("params"), own.pop("params"), strict=True))
    assert group == own


@pytest.mark.parametrize("share", [0.05, 0.0])
@pytest.mark.parametrize("initialisation", PARTS)
def test_pretrained_parts_learn_at_their_share(network, folder, initialisation, share):
    optimizer = fine_tuning.optimizer(network, 1e-3, share, initialisation, folder)
    moved = step(network, optimizer)
    for name, distance in moved.items():
        rate = share * 1e-3 if name.startswith(tuple(PARTS[initialisation])) else 1e-3
        assert distance == pytest.approx(rate, rel=1e-3, abs=1e-9), name
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(moved)


def test_both_rates_fall_alike(network, folder):
    optimizer = fine_tuning.optimizer(network, 1e-3, 0.1, "encoder", folder)
    assert LearningRateDecay(optimizer, "cosine")._rates == pytest.approx([1e-3, 1e-4])


@pytest.mark.parametrize(
    ("share", "initialisation", "message"),
    [
        (-0.1, "encoder", "pretrained_rate must be from 0 to 1, got -0.1; 1 is the rate of all parts"),
        (1.5, "encoder", "pretrained_rate must be from 0 to 1, got 1.5"),
        (0.1, "random", "pretrained_rate must be 1 for initialisation 'random', .* got 0.1; leave it out or choose"),
        (0.1, "best", "initialisation must be 'random', 'encoder' or 'encoder_decoder', got 'best'"),
    ],
)
def test_wrong_shares(network, folder, share, initialisation, message):
    with pytest.raises(ValueError, match=message):
        fine_tuning.optimizer(network, 1e-3, share, initialisation, folder)


def test_parts_of_each_initialisation(folder):
    found = {name: checkpoints.pretrained_parts(name, folder) for name in ("random", *PARTS)}
    assert found == {"random": [], **PARTS}


@pytest.mark.parametrize(("kept", "expected"), [("last", 3.0), ("best", 2.0)])
def test_the_model_has_the_last_or_the_best_weights(tmp_path, kept, expected):
    network = torch.nn.Conv2d(1, 1, 1, bias=False)
    slices = Slices(torch.zeros(2, 1, 4, 4), None, torch.tensor([0, 2]))
    statistics = BatchNormStatistics(network, slices, "running_average")
    dice = iter((0.5, 0.7, 0.6))

    def validate(engine, batch):
        engine.state.key_metric_name, engine.state.metrics = "mean_dice", {"mean_dice": next(dice)}

    validator = Engine(validate)
    places = str(tmp_path), str(tmp_path / "train")
    weights = fine_tuning.FineTunedWeights(
        network, statistics, [0], validator, *places, Lineage("train", {}), kept=kept
    )
    weights.attach()
    for value in (1.0, 2.0, 3.0):
        torch.nn.init.constant_(network.weight, value)
        validator.run([0])
    found = {path: checkpoints.read_weights(path)["weight"].item() for path in weights.paths}
    assert found == {
        str(tmp_path / "model.pt"): expected,
        str(tmp_path / "train/model_running_average.pt"): expected,
        str(tmp_path / "train/last.pt"): 3.0,
        str(tmp_path / "train/last_running_average.pt"): 3.0,
    }


def test_no_other_weights_can_be_kept(tmp_path):
    with pytest.raises(ValueError, match="kept_weights must be one of .*, got 'first'"):
        fine_tuning.FineTunedWeights(None, None, [], None, str(tmp_path), str(tmp_path), None, kept="first")
