"""Figures of the report: what is drawn where, and how large the files are."""

from __future__ import annotations

import pytest

import experiments.plots as module
from experiments.plots import draw_choices, draw_dice, draw_training_curves, labelled_order


@pytest.fixture
def figures(monkeypatch):
    """The figures in the order in which they were saved, by file name."""
    saved = {}
    save = module.save_figure

    def remember(figure, path):
        saved[path.name] = figure
        save(figure, path)

    monkeypatch.setattr(module, "save_figure", remember)
    return saved


def test_all_is_the_largest_number_of_labelled_volumes():
    assert sorted(["all", 8, 1, 2], key=labelled_order) == [1, 2, 8, "all"]


def test_dice_by_number_of_labelled_volumes(tmp_path, figures):
    measured = {"random": {1: [0.2, 0.4], "all": [0.9]}, "GD": {1: [0.5], 2: [0.6, 0.7]}}
    draw_dice(tmp_path / "dice.png", "title", measured, {"GD": {1: 0.691, 8: 0.87}, "GR": {1: 0.6}})
    (axes,) = figures["dice.png"].axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "2", "all"]
    labels = [text.get_text() for text in figures["dice.png"].legends[0].get_texts()]
    assert labels == ["the paper's", "random", "GD"]
    lines = {container.get_label(): container for container in axes.containers}
    assert list(lines["random"].lines[0].get_ydata()) == pytest.approx([0.3, 0.9])
    assert list(lines["GD"].lines[0].get_ydata()) == pytest.approx([0.5, 0.65])
    bars = [segment[:, 1] for segment in lines["random"].lines[2][0].get_segments()]
    assert bars[0] == pytest.approx([0.3 - 0.02**0.5, 0.3 + 0.02**0.5]) and bars[1] == pytest.approx([0.9, 0.9])
    crosses = [list(line.get_ydata()) for line in axes.lines if line.get_marker() == "x"]
    assert crosses == [[], [0.691], []]  # 8 is in no result
    assert (tmp_path / "dice.png").stat().st_size < 200_000


def test_dice_of_photographs_that_the_paper_has_not(tmp_path, figures):
    draw_dice(tmp_path / "dice.png", "title", {"GR": {25: [0.5]}}, {"GR": {}}, "photographs")
    assert figures["dice.png"].axes[0].get_xlabel() == "labelled photographs"
    assert [text.get_text() for text in figures["dice.png"].legends[0].get_texts()] == ["GR"]


def test_rules_that_choose_the_same_share_a_name(tmp_path, figures):
    dice = {"medoids": 0.7, "farthest": 0.7, "densest": 0.8, "random 1": 0.75, "paper c1": 0.6}
    draw_choices(tmp_path / "choosing.png", {1: dice})
    (axes,) = figures["choosing.png"].axes
    assert {text.get_text(): text.xy for text in axes.texts} == {"medoids, farthest": (0, 0.7), "densest": (0, 0.8)}


def test_training_curves(tmp_path, figures):
    run = [(50.0, 0.1), (100.0, 0.3)]
    draw_training_curves(tmp_path / "curves.png", "title", {2: {"GD": [run]}, 1: {"random": [run, run], "GD": [run]}})
    panels = figures["curves.png"].axes
    assert [panel.get_title() for panel in panels] == ["1 labelled", "2 labelled"]
    drawn = [[line for line in panel.lines if len(line.get_xdata())] for panel in panels]
    assert [len(lines) for lines in drawn] == [3, 1]
    assert all(list(line.get_xdata()) == [50, 100] for lines in drawn for line in lines)
    assert drawn[0][2].get_color() == drawn[1][0].get_color() != drawn[0][0].get_color()  # a row has one colour
    assert (tmp_path / "curves.png").stat().st_size < 200_000
