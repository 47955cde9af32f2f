"""The layout of written configs: the same JSON, nothing too wide that could be narrower."""

from __future__ import annotations

import json

import pytest

from bundles.json_text import layout

LONG = "x" * 200


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"a": 1, "b": [1, 2, 3], "c": {"d": None}},
        {"list": [f"entry {index}" for index in range(40)]},
        {"object": {f"key {index}": {"deep": ["a" * 30] * 9} for index in range(3)}},
        {"text": LONG, "mixed": ["short", LONG, {"a": LONG}], "umlaut": "ä", "empty": [[], {}]},
    ],
)
def test_says_the_same(value):
    text = layout(value)
    assert json.loads(text) == value and list(json.loads(text)) == list(value)


def test_short_values_fill_lines():
    assert layout({"a": 1, "b": 2}) == '{\n    "a": 1, "b": 2\n}\n'
    text = layout({"list": [f"entry {index:02d}" for index in range(40)]})
    assert len(text.splitlines()) < 12 and max(map(len, text.splitlines())) <= 120


def test_objects_begin_a_line():
    lines = layout({"a": 1, "b": {"c": 2}, "d": 3}).splitlines()
    assert lines == ["{", '    "a": 1,', '    "b": {"c": 2},', '    "d": 3', "}"]
