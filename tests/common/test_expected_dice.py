"""Expected against true Dice: correlation of ranks, what a look at the least sure ones catches, the files."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from common.expected_dice import (
    calibration,
    draw_calibration,
    expected_row,
    look_at,
    rank_correlation,
    write_calibration,
)


@pytest.mark.parametrize("seed", range(3))
def test_rank_correlation_is_spearmans(seed):
    pairs = np.random.default_rng(seed).integers(0, 6, (15, 2)).astype(float)  # with ties
    assert rank_correlation(pairs.tolist()) == pytest.approx(spearmanr(*pairs.T)[0])


def test_rank_correlation_by_hand():
    assert rank_correlation([(0.1, 0.2), (0.3, 0.21), (0.9, 0.8)]) == pytest.approx(1)
    assert rank_correlation([(0.1, 0.8), (0.3, 0.21), (0.9, 0.2)]) == pytest.approx(-1)


@pytest.mark.parametrize("pairs", [[], [(0.1, 0.2), (0.3, 0.4)], [(0.5, 0.1), (0.5, 0.2), (0.5, 0.3)]])
def test_rank_correlation_of_too_little(pairs):
    assert rank_correlation(pairs) is None


def test_calibration_by_hand():
    assert calibration([(0.9, 0.8), (0.7, 0.8), (0.8, 0.9)]) == {
        "number": 3,
        "rank_correlation": pytest.approx(0),
        "mean_expected": pytest.approx(0.8),
        "mean_true": pytest.approx(2.5 / 3),
        "mean_absolute_error": pytest.approx(0.1),
    }
    assert calibration([]) == dict.fromkeys(calibration([(0.9, 0.8)]), None) | {"number": 0}


def test_what_is_caught():
    """Ten volumes: the least sure one is the worst, the second worst is among the surest."""
    true = [0.1, 0.9, 0.8, 0.95, 0.85, 0.7, 0.9, 0.92, 0.93, 0.2]
    expected = [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99]
    first, second = look_at(list(zip(expected, true, strict=True)), (0.1, 0.2))
    assert (first["number"], first["worst_caught"], first["threshold"]) == (1, 1, 0.3)
    assert first["mean_true"] == pytest.approx(0.1) and first["caught_by_chance"] == pytest.approx(0.1)
    assert first["mean_true_of_others"] == pytest.approx(np.mean(true[1:]))
    assert (second["number"], second["worst_caught"], second["threshold"]) == (2, 1, 0.4)


def test_shares_that_are_none_or_all_are_left_out():
    assert look_at([(0.5, 0.5)]) == [] and look_at([]) == []
    assert [row["number"] for row in look_at([(0.5, 0.5), (0.6, 0.7)])] == [1, 1, 1, 1]


ROWS = [
    {"RV": 0.9, "LV": 0.8, "mean": 0.85},
    {"RV": 0.5, "LV": 0.0, "mean": 0.25},
    {"RV": 0.7, "LV": 0.6, "mean": 0.65},
]
TRUE = [{"RV": 0.8, "LV": 0.9, "mean": 0.85}, {"RV": 0.6, "LV": None, "mean": 0.6}, {"RV": 0.7, "LV": 0.5, "mean": 0.6}]


def test_files(tmp_path, monkeypatch):
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k))[1])
    summary = write_calibration(tmp_path, ["a", "b", "c"], ROWS, TRUE, True)
    with open(tmp_path / "expected_dice.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["b", "c", "a"]  # the least sure first
    assert rows[0]["LV_true"] == "" and float(rows[2]["RV_expected"]) == 0.9
    assert {name: own["number"] for name, own in summary["calibration"].items()} == {"RV": 3, "LV": 2, "mean": 3}
    assert summary["calibration"]["RV"]["rank_correlation"] == pytest.approx(1)
    assert [row["id"] for row in summary["volumes"]] == ["b", "c", "a"] and summary["look_at"][0]["number"] == 1
    (figure,) = figures
    assert [axis.get_title() for axis in figure.axes] == [
        "RV: rank correlation 1.00",
        "LV",
        "mean: rank correlation 0.87",
    ]
    assert np.allclose(figure.axes[1].collections[0].get_offsets(), [(0.6, 0.5), (0.8, 0.9)])
    # Another evaluation in the folder that expects nothing leaves none of it.
    assert write_calibration(tmp_path, ["a"], [], TRUE[:1], True) is None
    assert list(tmp_path.iterdir()) == []


def test_plot_of_nothing(tmp_path):
    draw_calibration({"RV": []}, tmp_path / "a.png")
    assert (tmp_path / "a.png").is_file()


def test_row():
    assert expected_row(torch.tensor([0.5, 0.7]), ["background", "RV", "LV"]) == {
        "RV": 0.5,
        "LV": pytest.approx(0.7),
        "mean": pytest.approx(0.6),
    }
