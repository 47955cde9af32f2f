"""The short table of the main rows, and where it is put."""

from __future__ import annotations

import re
import statistics
from dataclasses import replace

import pytest

from experiments.grid import SCHEDULES
from experiments.recipes import RECIPES
from experiments.report import report
from experiments.report.summary import with_summary
from experiments.reproduce import RESULTS
from tests.places import REPOSITORY

from .made_up import make_cell, make_report, tables, write

PAGE = "# Title\n\n<!-- dice -->\n\nold | table\n\n<!-- /dice -->\n\nThe rest.\n"


def test_it_has_the_main_rows_and_leads_the_page(tmp_path):
    runs = [(make_cell("GD", 1, draw), dice) for draw, dice in (("c1", 0.3), ("c2", 0.5))]
    beyond = replace(make_cell("GD", 8), recipe=RECIPES["beyond"])
    text = make_report(tmp_path, [*runs, (make_cell("random", 2), 0.2), (beyond, 0.7), (make_cell("GR"), 0.6)])
    assert text.index("Dice on ACDC over 2 test volumes") < text.index("## ACDC")
    first = tables(text)[0]
    spread = f"{statistics.stdev([0.3, 0.5]):.3f}".lstrip("0")
    assert [list(row.values()) for row in first] == [
        ["random weights", "–", ".300 (1)", "–"],
        ["global pre-training (GD)", f".500 ± {spread} (2)", "–", "–"],
        ["global pre-training, self-training in two runs (up to version 0.7)", "–", "–", ".800 (1)"],
    ]
    assert list(first[0])[1:] == ["1 labelled", "2 labelled", "8 labelled"]
    assert 'Schedule "reduced": 2,500 global' in text and "(shorter than the paper's: 10,000 global" in text


def test_it_is_of_the_longest_schedule_of_each_dataset(tmp_path):
    cells = [make_cell("GD", schedule=name) for name in SCHEDULES] + [make_cell("GD", dataset="prostate")]
    text = make_report(tmp_path, [(cell, 0.5) for cell in cells]).partition("\n## ")[0]
    found = re.findall(r'Dice on (\w+) .* Schedule "(\w+)"', text)
    assert found == [("ACDC", "full"), ("PROSTATE", "reduced")]
    assert "fine-tuning steps at batch 40 (the paper's)" in text


def test_rows_that_are_not_in_it_make_no_table(tmp_path):
    assert "Dice on" not in make_report(tmp_path, [(make_cell("GR"), 0.5)])


def test_it_is_put_between_the_marks_of_a_page(tmp_path):
    write(tmp_path / "results", make_cell(), 0.5)
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    report(str(tmp_path / "results"), readme=str(page))
    text = page.read_text()
    assert text.startswith("# Title\n\n<!-- dice -->\n\nDice on ACDC") and "old | table" not in text
    assert text.endswith("|\n\n<!-- /dice -->\n\nThe rest.\n")
    assert "| global pre-training (GD) | .600 (1) | – | – |" in text
    report(str(tmp_path / "results"), readme=str(page))
    assert page.read_text() == text


@pytest.mark.parametrize(
    "page",
    ["no marks", PAGE.replace("/dice", "/other"), PAGE * 2, "<!-- /dice -->\n<!-- dice -->\n"],
    ids=["none", "one", "twice", "order"],
)
def test_a_page_without_the_marks_is_refused(page):
    with pytest.raises(ValueError, match="page.md must have the lines <!-- dice --> and <!-- /dice --> once each"):
        with_summary(page, "| a |", "page.md")


def test_the_committed_page_has_the_committed_table():
    results = (RESULTS / "README.md").read_text(encoding="utf-8")
    page = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert tables(page.partition("<!-- dice -->")[2].partition("<!-- /dice -->")[0])[0] == tables(results)[0]
