"""The short table of the main rows, and where it is put."""

from __future__ import annotations

import re
import statistics
from dataclasses import replace

import pytest

from common.records import write_record
from experiments.grid import SCHEDULES
from experiments.recipes import RECIPES
from experiments.report import report
from experiments.report.runs import read_groups
from experiments.report.summary import summary_of, with_summary
from experiments.reproduce import RESULTS
from tests.places import REPOSITORY

from .made_up import make_cell, make_report, tables, write

PAGE = "# Title\n\n<!-- dice -->\n\nold | table\n\n<!-- /dice -->\n\nThe rest.\n"


def test_it_has_the_main_rows_and_leads_the_page(tmp_path):
    runs = [(make_cell("GD", 1, draw), dice) for draw, dice in (("c1", 0.3), ("c2", 0.5))]
    recommended, beyond = (replace(make_cell("GD", 8), recipe=RECIPES[name]) for name in ("recommended", "beyond"))
    runs += [(make_cell("random", 2), 0.2), (recommended, 0.7), (beyond, 0.7), (make_cell("GD+LD.d2"), 0.6)]
    text = make_report(tmp_path, runs)
    assert text.index("Dice on ACDC over 2 test volumes") < text.index("## ACDC")
    first = tables(text)[0]
    spread = f"{statistics.stdev([0.3, 0.5]):.3f}".lstrip("0")
    assert [list(row.values()) for row in first] == [
        ["random weights", "–", ".300 (1)", "–"],
        ["global pre-training (GD)", f".500 ± {spread} (2), paper .691", "–, paper .784", "–, paper .870"],
        ["global pre-training (GD), the recommended recipe", "–", "–", ".800 (1)"],
    ]
    assert list(first[0])[1:] == ["1 labelled", "2 labelled", "8 labelled"]
    assert 'Schedule "reduced": 2,500 global' in text and "(shorter than the paper's: 10,000 global" in text


def test_it_has_all_schedules_but_that_for_rehearsals(tmp_path):
    cells = [make_cell("GD", schedule=name) for name in SCHEDULES] + [make_cell("GD", dataset="prostate")]
    text = make_report(tmp_path, [(cell, 0.5) for cell in cells]).partition("\n## ")[0]
    acdc, prostate = re.split("^Dice on ", text, flags=re.MULTILINE)[1:]
    assert re.findall(r'Schedule "(\w+)"', acdc) == ["full", "reduced"]
    assert re.findall(r'Schedule "(\w+)"', prostate) == ["reduced"]
    assert "fine-tuning steps at batch 40 (the paper's)" in acdc
    rows = [row["fine-tuning from"] for row in tables(acdc)[0]]
    assert rows == [f"global pre-training (GD), schedule {name}" for name in ("full", "reduced")]
    assert [row["fine-tuning from"] for row in tables(prostate)[0]] == ["global pre-training (GD)"]
    only = make_report(tmp_path / "rehearsal", [(make_cell("GD", schedule="smoke"), 0.5)])
    assert 'Schedule "smoke"' in only and ".600 (1), paper .691" in only


def test_it_says_what_helps_by_how_much_and_whether_that_is_clear(tmp_path):
    dice = {"random": (0.1, 0.2, 0.3), "GD": (0.4, 0.5, 0.7), "GD+LR": (0.5, 0.5, 0.6)}
    runs = [(make_cell(row, draw=f"c{i}"), rv) for row, values in dice.items() for i, rv in enumerate(values, 1)]
    runs += [(make_cell("random", 8), 0.6), (make_cell("GD", 8), 0.7)]
    text = make_report(tmp_path, runs)
    assert (
        "- Global pre-training (GD) in place of random weights: with the paper's fine-tuning **+0.333 ± .033** with 1 "
        "labelled (3 pairs), +0.100 with 8 labelled (1 pair).\n"
        "- Parts of the pre-training, with the paper's fine-tuning: a local stage on top (GD+LR) +0.000 ± .058 with 1 "
        "labelled (3 pairs).\n" in text
    )
    assert "recommended recipe" not in text.partition("\n## ")[0]


def test_rows_that_are_not_in_it_make_no_table(tmp_path):
    assert "Dice on" not in make_report(tmp_path, [(make_cell("GD+LD.d2"), 0.5)])


def test_another_network_stands_below_the_rows_of_its_dataset(tmp_path):
    recommended = replace(make_cell("GD", 8), recipe=RECIPES["recommended"])
    for cell in (make_cell("GD"), make_cell("GD", dataset="prostate"), recommended):
        write(tmp_path, cell, 0.5)
    rows = [
        {"labelled": number, "draw": f"c{draw}", "length": length, "steps": steps, "Dice": dice}
        for number, length, steps, values in (
            (1, "matched", 10, (0.7, 0.9)),
            (8, "matched", 10, (0.85,)),
            (8, "own best", 5, (0.86,)),
        )
        for draw, dice in enumerate(values, 1)
    ]
    path = tmp_path / "strong_baseline.json"
    write_record(path, {"command": "python -m benchmarks run strong_baseline --dataset_dir DIR", "rows": rows})
    groups, problems = read_groups(tmp_path)
    assert problems == []
    acdc, prostate = re.split("^Dice on ", summary_of(groups, path), flags=re.MULTILINE)[1:]
    spread = f"{statistics.stdev([0.7, 0.9]):.3f}".lstrip("0")
    assert [list(row.values())[1:] for row in tables(acdc)[0][2:]] == [
        [f".800 ± {spread} (2)", "–", ".850 (1)"],
        ["–", "–", ".860 (1)"],
    ]
    assert tables(acdc)[0][3]["fine-tuning from"].endswith("that were tried (0.5 x with 8 labelled)")
    compared = "in place of the DynUNet for the best of the times that were tried"
    assert f"{compared} -0.260 with 8 labelled (1 pair).\n" in acdc
    assert [row["fine-tuning from"] for row in tables(prostate)[0]] == ["global pre-training (GD)"]
    assert "DynUNet" not in summary_of(groups, tmp_path / "absent.json") + summary_of(groups)
    write_record(path, {"command": "python -m benchmarks run strong_baseline", "rows": rows})  # of phantoms
    assert "DynUNet" not in summary_of(groups, path)


def test_it_is_put_between_the_marks_of_a_page(tmp_path):
    write(tmp_path / "results", make_cell(), 0.5)
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    report(str(tmp_path / "results"), readme=str(page))
    text = page.read_text()
    assert text.startswith("# Title\n\n<!-- dice -->\n\nDice on ACDC") and "old | table" not in text
    assert text.endswith("|\n\n<!-- /dice -->\n\nThe rest.\n")
    assert "| global pre-training (GD) | .600 (1), paper .691 | –, paper .784 | –, paper .870 |" in text
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
