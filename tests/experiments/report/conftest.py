"""Nothing is drawn."""

from __future__ import annotations

import pytest

from experiments.report import figures


@pytest.fixture(autouse=True)
def drawn(monkeypatch):
    """What the report wanted drawn, by file name; nothing is drawn."""
    calls = {}

    def draw(path, *arguments):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        calls[path.name] = arguments

    monkeypatch.setattr(figures, "draw_dice", draw)
    monkeypatch.setattr(figures, "draw_training_curves", draw)
    return calls
