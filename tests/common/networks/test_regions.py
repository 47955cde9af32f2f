from __future__ import annotations

import pytest

from common.networks import region_starts


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
