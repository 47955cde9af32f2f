"""Which tables a page has, and that it is committed as it is written."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace

import pytest

from common.data.splits import draws_of
from experiments.cells import bundle_of
from experiments.grid import SCHEDULES, Pretraining
from experiments.recipes import RECIPES, Recipe
from experiments.report import report
from experiments.reproduce import RESULTS
from experiments.tables import TABLES, cells_of
from tests.places import REPOSITORY

from .made_up import TABLE_6, TITLES, evaluations, main_rows, make_cell, make_report, sections, tables


def test_rows_are_those_of_the_table_in_its_order_and_the_others_are_only_counted(tmp_path):
    text = make_report(tmp_path, [(make_cell(row), 0.5) for row in ("GD+LR", "random", "GD+LD.d2")])
    rows = main_rows(text)
    assert list(rows) == ["random", "GD+LR", "GD+LD.d2"]
    assert rows["GD+LR"]["paper"] == ".725" and rows["GD+LR"]["ours − paper"] == "-0.125"
    assert "not run" not in evaluations(text)[TITLES[0]].split("Gains")[0]
    draws = draws_of(bundle_of("acdc") / "configs" / "splits.json")
    grid = {
        cell.key
        for table in TABLES
        if "acdc" in TABLES[table].rows
        for cell in cells_of(table, "acdc", SCHEDULES["reduced"], draws)
    }
    assert f"\n3 of {len(grid)} cells of the grid (all tables and draws, seed 0) were run." in text


def test_a_table_is_there_if_it_has_a_run_of_its_own(tmp_path):
    def headings(*cells):
        text = make_report(tmp_path / "+".join(cell.row for cell in cells), [(cell, 0.5) for cell in cells])
        return [name for name in sections(next(iter(sections(text).values())), "###") if name.startswith("Table")]

    gd, local = make_cell("GD"), make_cell("GD+LD.d2")
    assert headings(make_cell("GR")) == headings(gd) == headings(local) == [TABLE_6]  # though 2, 3 and 4 have them too
    large = replace(gd, pretraining=Pretraining("GD", batch_size=250))
    assert headings(large) == [f"Table 2: {TABLES[2].title}"]
    assert headings(gd, large) == [TABLE_6, f"Table 2: {TABLES[2].title}"]
    recipe = replace(gd, recipe=RECIPES["mixup"])
    assert headings(local, recipe) == [TABLE_6, f'Table "beyond": {TABLES["beyond"].title}']


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_shorter_schedule_says_so_at_every_table(tmp_path, schedule):
    cells = [replace(make_cell(schedule=schedule), recipe=RECIPES[name]) for name in ("paper", "mixup")]
    (section,) = sections(make_report(tmp_path, [(cell, 0.5) for cell in cells])).values()
    used = SCHEDULES[schedule]
    steps = (
        f"{used.global_steps:,} global, {used.local_steps:,} local and {used.fine_tuning_steps:,} fine-tuning steps "
        f"at batch {used.fine_tuning_batch_size}"
    )
    found = [block for heading, block in sections(section, "###").items() if heading.startswith("Table")]
    assert len(found) == 2
    for block in found:
        assert (f"The paper's schedule: {steps}." in block) == (schedule == "full")
        assert (f"Not the paper's schedule: {steps}; the paper's: 10,000 global, " in block) == (schedule != "full")


def test_every_dataset_and_schedule_has_its_section(tmp_path):
    cells = [make_cell("GD", schedule=schedule) for schedule in ("smoke", "full")]
    text = make_report(tmp_path, [(cell, 0.5) for cell in (*cells, make_cell("GD", dataset="prostate"))])
    titles = ['ACDC, schedule "full"', 'ACDC, schedule "smoke"', 'MSD prostate, schedule "reduced"']
    assert list(sections(text)) == titles
    assert "| 1 | GD | 1 (1 draw) | .600 | .500 | .600 | .700 | .579 | +0.021 |" in text


def test_other_runs_than_the_papers_have_a_table_of_their_own(tmp_path):
    recipe = Recipe("other", mixup_alpha=0.2)
    cells = [replace(make_cell("GD", draw=draw), recipe=recipe) for draw in ("c1", "c2")]
    text = make_report(tmp_path, [*((cell, 0.5) for cell in cells), (make_cell("random", draw="c2"), 0.3)])
    block = evaluations(text, "Beside the paper's tables")[TITLES[0]]
    assert "Not the paper's schedule" in block
    ((row,), (gain,)) = tables(block)
    assert (row["row"], row["runs"], row["Dice"], row["paper"]) == ("GD+other", "2 (2 draws)", ".600 ± .000", "–")
    assert (gain["gain"], gain["mean ± standard error"]) == ("GD+other − random", "+0.200")
    assert "GD" not in main_rows(text)


def test_without_results_there_is_no_table(tmp_path, capsys):
    text = make_report(tmp_path)
    assert text.startswith("# Results") and "|" not in text
    assert f"Wrote {tmp_path / 'README.md'}" in capsys.readouterr().out


def test_the_committed_report_is_that_of_the_committed_results(tmp_path, monkeypatch):
    copy, first_page = tmp_path.resolve() / "results", tmp_path / "README.md"
    shutil.copytree(RESULTS, copy)
    shutil.copy(REPOSITORY / "README.md", first_page)
    monkeypatch.setattr("experiments.report.page.RESULTS", copy)  # our own results have another network beside them
    for page in copy.rglob("*.md"):
        page.unlink()
    report(str(copy), readme=str(first_page))
    assert first_page.read_text(encoding="utf-8") == (REPOSITORY / "README.md").read_text(encoding="utf-8")
    pages = sorted(path.relative_to(RESULTS) for path in RESULTS.rglob("*.md"))
    assert pages == sorted(path.relative_to(copy) for path in copy.rglob("*.md"))
    for page in pages:
        committed = (RESULTS / page).read_text(encoding="utf-8")
        assert (copy / page).read_text(encoding="utf-8") == committed
        for link in re.findall(r"\]\(([^)]*)\)", committed):
            assert (RESULTS / page.parent / link).is_file(), link
