"""How sure a network is: the entropy of its probabilities, and the agreement of turns."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from monai.data import MetaTensor

from common.evaluation import volume_dice
from common.transforms import ExpectedDiced, Uncertaintyd


def test_entropy_by_hand():
    cells = torch.tensor([[1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0.0], [0.0, 0.0, 0.0], [2.0, -0.1, 0.0]])
    entropy = Uncertaintyd("p")({"p": cells.T.reshape(3, 5, 1, 1)})["uncertainty"]
    assert entropy.shape == (1, 5, 1, 1)
    assert entropy.flatten().tolist() == pytest.approx([0, 1, math.log(2) / math.log(3), 0, 0], abs=1e-6)


def test_probabilities_that_resampling_has_blurred_count_by_their_shares():
    entropy = Uncertaintyd("p")({"p": torch.tensor([0.2, 0.2]).reshape(2, 1, 1, 1)})["uncertainty"]
    assert entropy.item() == pytest.approx(1.0)


def outputs(maps, num_classes=3):
    """An output as of `TurnedInferer`: made-up logits, and turns whose most probable classes are given maps."""
    maps = torch.as_tensor(maps)
    turns = torch.nn.functional.one_hot(maps, num_classes).movedim(-1, 1).float() * 0.6 + 0.1
    logits = torch.arange(num_classes * maps[0].numel()).reshape(num_classes, *maps.shape[1:]).float()
    return MetaTensor(torch.cat([logits, turns.flatten(0, 1)]), affine=torch.eye(4) * 2), logits


def random_maps(seed, shape=(4, 5, 4, 3)):
    return torch.randint(3, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("num_turns", [2, 4])
def test_agreement_is_the_mean_dice_of_pairs(num_turns):
    maps = random_maps(1)[:num_turns]
    output, logits = outputs(maps)
    found = ExpectedDiced("pred", 3)({"pred": output})
    wanted = torch.stack([volume_dice(a, b, 3)[1:] for a, b in itertools.combinations(maps, 2)]).mean(dim=0)
    assert found["expected_dice"].dtype == torch.float64
    assert torch.allclose(found["expected_dice"], wanted)
    assert torch.equal(found["pred"].as_tensor(), logits) and torch.equal(found["pred"].affine, output.affine)
    turns = output.as_tensor()[3:].unflatten(0, (num_turns, 3))
    torch.testing.assert_close(found["mean_of_turns"].as_tensor(), turns.mean(dim=0))


def test_equal_turns_promise_one():
    assert ExpectedDiced("pred", 3)({"pred": outputs(random_maps(2)[:1].repeat(4, 1, 1, 1))[0]})[
        "expected_dice"
    ].tolist() == [1, 1]


def test_a_structure_that_no_turn_has_found_and_one_that_a_single_one_has():
    maps = torch.zeros(4, 3, 3, 1, dtype=torch.long)
    assert ExpectedDiced("pred", 3)({"pred": outputs(maps)[0]})["expected_dice"].tolist() == [0, 0]
    maps[0, 1, 1] = 1  # three pairs with Dice 0; the others say nothing
    assert ExpectedDiced("pred", 3)({"pred": outputs(maps)[0]})["expected_dice"].tolist() == [0, 0]


def test_of_each_turn_the_largest_component_counts():
    maps = torch.zeros(2, 8, 8, 2, dtype=torch.long)
    maps[:, :4, :4] = 1
    maps[0, 7, 7, 0] = 1  # a speck in one turn
    values = [
        ExpectedDiced("pred", 2, clean)({"pred": outputs(maps, 2)[0]})["expected_dice"] for clean in (False, True)
    ]
    assert values[0].item() == pytest.approx(2 * 32 / (33 + 32)) and values[1].item() == 1
