from __future__ import annotations

import pytest
import torch

from common.transforms.copy_paste import CopyPaste


def batches(number=4, height=12, width=18):
    """Two batches whose values tell images and batches apart."""
    values = torch.arange(number, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 2, height, width)
    return values + 0.0, values + 100.0


def test_each_pair_exchanges_what_its_mask_covers():
    first, second = batches()
    masks = torch.zeros(4, 1, 12, 18, dtype=torch.bool)
    masks[1, :, 2:5, 3:9] = True
    one, other = CopyPaste.exchange(first, second, masks)
    assert torch.equal(one[1, :, 2:5, 3:9], second[1, :, 2:5, 3:9])
    assert torch.equal(other[1, :, 2:5, 3:9], first[1, :, 2:5, 3:9])
    # Nothing is lost, and nothing else has changed.
    assert torch.equal(one + other, first + second)
    assert (one != first).sum() == 2 * 3 * 6
    assert torch.equal(first, batches()[0])


def test_what_has_no_partner_stays():
    first, second = batches(5)[0], batches(4)[1]
    one, other = CopyPaste.exchange(first, second, torch.ones(4, 1, 12, 18, dtype=torch.bool))
    assert len(one) == 5 and len(other) == 4
    assert torch.equal(one[4], first[4]) and torch.equal(one[:4], second) and torch.equal(other, first[:4])


def test_rectangles_have_the_sides_and_places_that_are_stated(generator):
    masks = CopyPaste(1.0).draw(3000, 90, 120, generator)
    assert masks.shape == (3000, 1, 90, 120) and masks.dtype == torch.bool
    for size, other in ((90, 3), (120, 2)):
        covered = masks.any(dim=other)[:, 0]
        sides = covered.sum(dim=1)
        starts = covered.int().argmax(dim=1)
        room = size - sides
        assert size // 3 <= sides.min() <= size // 3 + 2 and 2 * size // 3 - 2 <= sides.max() <= 2 * size // 3
        assert (starts >= (room / 4).int()).all() and (starts <= 3 * room / 4).all()
        assert masks.sum() == (masks.any(3).sum(2) * masks.any(2).sum(2)).sum()  # rectangles, without holes


@pytest.mark.parametrize("chance", [0.0, 0.3, 1.0])
def test_a_share_of_the_batches_is_changed(chance, generator):
    drawn = [CopyPaste(chance).draw(1, 4, 4, generator) is not None for _ in range(1000)]
    assert sum(drawn) == pytest.approx(1000 * chance, abs=60 if 0 < chance < 1 else 0)


@pytest.mark.parametrize("chance", [-0.1, 1.1, float("nan")])
def test_the_chance_is_checked(chance):
    with pytest.raises(ValueError, match="copy_paste must be from 0"):
        CopyPaste(chance)
