from __future__ import annotations

from pathlib import Path

import pytest
import torch

from common.settings import plain_settings


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ({"a": (1, 2.5), 3: None}, {"a": [1, 2.5], "3": None}),
        (Path("a") / "b", "a/b"),
        (torch.device("cpu"), "cpu"),
        ([float("nan"), float("inf"), True], [None, None, True]),
    ],
    ids=["containers", "path", "device", "not finite"],
)
def test_plain_settings(value, plain):
    assert plain_settings(value) == plain
