"""Bias and limits of agreement, and their plot."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from common.agreement import agreement, draw_agreement


def test_limits_by_hand():
    numbers = agreement([(11.0, 10.0), (23.0, 20.0), (29.0, 30.0)])  # 1, 3, -1: mean 1, standard deviation 2
    assert numbers == {
        "number": 3,
        "bias": pytest.approx(1.0),
        "lower_limit": pytest.approx(1 - 1.96 * 2),
        "upper_limit": pytest.approx(1 + 1.96 * 2),
        "mean_absolute_difference": pytest.approx(5 / 3),
    }


def test_the_sign_is_that_of_prediction_minus_label():
    assert agreement([(5.0, 7.0), (1.0, 2.0)])["bias"] == pytest.approx(-1.5)


@pytest.mark.parametrize(("pairs", "bias"), [([], None), ([(3.0, 1.0)], 2.0)], ids=["none", "one"])
def test_too_few_for_limits(pairs, bias):
    numbers = agreement(pairs)
    assert numbers["number"] == len(pairs) and numbers["bias"] == bias
    assert numbers["lower_limit"] is None and numbers["upper_limit"] is None


@pytest.mark.parametrize("number", [0, 1, 12])
def test_plot_has_a_column_for_each_structure(tmp_path, monkeypatch, number):
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k))[1])
    values = np.random.default_rng(0).uniform(50, 300, (number, 2)).tolist()
    draw_agreement({"RV": values, "LV": [(3.0, 4.0)]}, "volumes", "ml", tmp_path / "new" / "a.png")
    assert imread(tmp_path / "new" / "a.png").std() > 0.05
    (figure,) = figures
    assert len(figure.axes) == 4 and figure.axes[0].get_title() == "RV"
    offsets = figure.axes[2].collections[0].get_offsets()
    assert np.allclose(offsets, [((p + q) / 2, p - q) for p, q in values] or np.empty((0, 2)))
    lines = [line.get_ydata()[0] for line in figure.axes[2].lines]
    if number > 1:
        numbers = agreement(values)
        assert lines[:3] == [numbers["bias"], numbers["lower_limit"], numbers["upper_limit"]]
        assert f"bias {numbers['bias']:.1f}" in figure.axes[2].get_title()
