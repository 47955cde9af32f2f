"""What is drawn, and which pictures are shown."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from experiments.report import report
from experiments.reproduce import RESULTS

from .made_up import change, make_cell, make_report, read_report, write


def test_dice_is_drawn_where_there_is_something_to_compare(tmp_path, drawn):
    runs = [(make_cell("GD", number, draw), 0.5) for number in (1, 2) for draw in ("c1", "c2")]
    text = make_report(tmp_path, [*runs, (make_cell("random", "all"), 0.7), (make_cell("random"), 0.2)])
    assert sorted(drawn) == ["main.png", "table6.png"]
    _, measured, paper, items = drawn["table6.png"]
    expected = {"random": {1: [0.3], "all": [0.8]}, "GD": {1: [0.6, 0.6], 2: [0.6, 0.6]}}
    assert {row: {n: pytest.approx(dice) for n, dice in values.items()} for row, values in measured.items()} == expected
    assert (paper["random"], paper["GD"]) == ({"all": 0.912}, {1: 0.691, 2: 0.784, 8: 0.87})
    assert "![Dice by the number of labelled volumes](figures/table6.png)" in text and items == "volumes"
    assert "](acdc/reduced/figures/main.png)" in text and list(drawn["main.png"][1]) == ["random", "GD"]


def test_training_curves_are_drawn_by_step(tmp_path, drawn):
    for draw in ("c1", "c2"):
        curves = {"train_loss": [[10, 0.7]], "mean_dice": [[1, 0.25], [2, 0.5]]}
        write(tmp_path, make_cell("GD", draw=draw), 0.5, curves=curves)
    write(tmp_path, make_cell("random"), 0.5)
    text = make_report(tmp_path)
    assert drawn["training_curves.png"][1] == {1: {"GD": [[(50, 0.25), (100, 0.5)]] * 2}}
    assert "![Validation Dice by step](figures/training_curves.png)" in text


def test_pictures_of_the_worst_median_and_best_volume_are_copied_and_shown(tmp_path):
    dice = {"a": 0.4, "b": 0.9, "c": 0.5, "d": 0.1, "e": None}
    shown = make_cell("GD", draw="c1")
    for cell in (shown, make_cell("GD", draw="c2"), make_cell("GD", 2), make_cell("GD", seed=1)):
        path = write(tmp_path / "results", cell, 0.5)
        volumes = [{"id": k, "mean": v} for k, v in dice.items()]
        change(path, lambda result: result["evaluations"]["selected, recomputed"].update(volumes=volumes))  # noqa: B023
        pictures = tmp_path / "runs" / "reduced" / cell.folder / "test_model" / "pictures"
        pictures.mkdir(parents=True)
        for name in dice:
            noise = np.random.default_rng(0).integers(256, size=(100, 1440, 3), dtype=np.uint8)
            Image.fromarray(noise).save(pictures / f"{name}.png")
    report(str(tmp_path / "results"), str(tmp_path / "runs"))
    text = read_report(tmp_path / "results")
    figures = tmp_path / "results" / "acdc" / "reduced" / "figures"
    names = [f"{shown.name}.{rank}.png" for rank in ("worst", "median", "best")]
    assert sorted(path.name for path in figures.iterdir()) == sorted(names)
    assert "| GD, 1 labelled | | |" in text
    for name, volume in zip(names, ("worst: d, .100", "median: a, .400", "best: b, .900"), strict=True):
        assert re.search(rf"\| {re.escape(volume)}<br>!\[\w+\]\(figures/{re.escape(name)}\) \|", text)
        with Image.open(figures / name) as picture:
            assert picture.size == (720, 50)
    report(str(tmp_path / "results"))  # keeps them
    assert read_report(tmp_path / "results") == text


def test_committed_pictures_are_small():
    large = {path.name: path.stat().st_size for path in RESULTS.rglob("*.png") if path.stat().st_size > 200_000}
    assert not large
