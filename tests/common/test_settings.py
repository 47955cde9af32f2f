from __future__ import annotations

from pathlib import Path

import pytest
import torch

from common.settings import describe_changes, plain_settings


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


A, B = "a" * 64, "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ({"seed": 0, "size": [1, 2]}, {"seed": 0, "size": [1, 2]}, ""),
        ({"seed": 0, "size": [1, 2]}, {"seed": 1, "size": [1, 3]}, "seed was 0, is 1; size was [1, 2], is [1, 3]"),
        ({}, {"teacher_sha256": None, "strategy": "GD"}, "strategy was None, is 'GD'"),
        ({"pretrained_sha256": A}, {"pretrained_sha256": B}, "pretrained_sha256 was aaaaaaaa..., is 01234567..."),
        (
            {"data_sha256": {"p1": A, "p2": A, "p3": A}},
            {"data_sha256": {"p1": A, "p2": B, "p4": A}},
            "data_sha256: p2 changed, p3 is gone, p4 is new",
        ),
        (
            {"data_sha256": {f"p{number}": A for number in range(9)}},
            {"data_sha256": {f"p{number}": B for number in range(9)}},
            "data_sha256: p0 and p1 and p2 and 6 more changed",
        ),
        ({"ids": list("abcd")}, {"ids": list("abce")}, "ids: d is gone, e is new"),
        ({"ids": list("abcd")}, {"ids": list("abdc")}, "ids: the order changed"),
    ],
    ids=["equal", "plain", "new", "hash", "data", "much data", "list", "order"],
)
def test_changes_are_described(old, new, text):
    assert describe_changes(old, new) == text
