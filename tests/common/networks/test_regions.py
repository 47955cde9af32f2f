from __future__ import annotations

import pytest
import torch

from common.networks import region_starts
from common.networks.regions import region_positions


def starts(q, h, t, m):
    anchors = [(0, 0), (0, h), (0, m), (h, 0), (h, h), (h, m), (m, 0), (m, h), (m, m), (q, q), (q, t), (t, q), (t, t)]
    return anchors, [(q, h), (h, q), (h, t), (t, h)]


@pytest.mark.parametrize(
    ("side", "region_size", "values"),
    [
        (48, 3, (11, 22, 33, 44)),
        (48, 1, (11, 23, 35, 47)),
        (40, 3, (9, 18, 27, 36)),
        (40, 1, (9, 19, 29, 39)),
        (10, 3, (1, 3, 4, 6)),
    ],
)
def test_known_layouts(side, region_size, values):
    anchors, extra = starts(*values)
    expected = anchors + (extra if region_size == 3 else [])
    assert [tuple(start) for start in region_starts(side, region_size).tolist()] == expected


@pytest.mark.parametrize(("side", "region_size"), [(7, 3), (4, 1)])
def test_too_small_a_map(side, region_size):
    with pytest.raises(ValueError, match="side must be at least"):
        region_starts(side, region_size)
    region_starts(side + 1, region_size)


def test_unknown_region_size():
    with pytest.raises(ValueError, match="region_size must be one of"):
        region_starts(48, 2)


@pytest.mark.parametrize(("region_size", "num_regions"), [(1, 13), (3, 17)])
def test_positions_are_those_of_the_regions_that_start_there(region_size, num_regions):
    rows, columns = region_positions(48, 32, region_size, torch.device("cpu"))
    places = torch.stack(torch.broadcast_tensors(rows, columns), dim=-1)
    assert places.shape == (num_regions, region_size, region_size, 2)
    starts = torch.stack([region_starts(48, region_size)[:, 0], region_starts(32, region_size)[:, 1]], dim=1)
    assert torch.equal(places[:, 0, 0], starts)
    assert torch.equal(places[:, -1, -1], starts + region_size - 1)


def test_positions_are_made_once_for_each_size_and_device():
    cpu = torch.device("cpu")
    tables = region_positions(48, 48, 3, cpu)
    assert all(map(lambda one, other: one is other, tables, region_positions(48, 48, 3, cpu)))
    assert region_positions(24, 48, 3, cpu)[0] is not tables[0]
    assert region_positions(48, 48, 3, torch.device("meta"))[0].device.type == "meta"


def test_positions_first_asked_for_in_an_evaluation_serve_a_training():
    with torch.inference_mode():
        rows, columns = region_positions(44, 44, 3, torch.device("cpu"))
    features = torch.rand(1, 2, 44, 44, requires_grad=True)
    features[:, :, rows, columns].sum().backward()
    assert features.grad.sum() == 2 * 17 * 9
