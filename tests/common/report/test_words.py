"""Numbers and settings in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.report.words import counted, number, texts_of


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0.12345,), "0.123"),
        ((5.16, 1, "mm"), "5.2 mm"),
        ((3, 1), "3"),
        (("all",), "all"),
        ((None, 1), "–"),
        ((0.0,), "0.000"),
    ],
)
def test_numbers(arguments, text):
    assert number(*arguments) == text


def test_numbers_of_things():
    assert [counted(n, "volume") for n in (0, 1, 2)] == ["0 volumes", "1 volume", "2 volumes"]


def test_settings():
    settings = {"a": True, "b": None, "c": [1, False], "d": {}, "e": {"x": ["y", "z"]}, "f": Path("m.pt"), "g": 0.5}
    words = {"a": "yes", "b": "–", "c": "1, no", "d": "–", "e": "x: y, z", "f": "m.pt", "g": "0.5"}
    assert texts_of(settings) == words
