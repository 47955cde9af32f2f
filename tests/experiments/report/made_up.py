"""Reports from made-up result files, and their tables read again."""

from __future__ import annotations

import re
import statistics

from common.records import read_record, write_record
from experiments.grid import SCHEDULES, Cell, Pretraining
from experiments.report import report
from release.results import EVALUATIONS

from .. import made_up

ROWS = {
    "random": Pretraining(),
    "GR": Pretraining("GR"),
    "GD": Pretraining("GD"),
    "GD+LR": Pretraining("GD", "LR"),
    "GD+LD.d2": Pretraining("GD", "LD", 2),
}
TABLE_6 = "Table 6: global and local strategies"
TITLES = [
    "Selected checkpoint, batch-norm statistics: recomputed",
    "Selected checkpoint, batch-norm statistics: running average",
    "Last checkpoint, batch-norm statistics: recomputed",
    "Last checkpoint, batch-norm statistics: running average",
]


def make_cell(row="GD", number=1, draw="c1", seed=0, schedule="reduced", dataset="acdc"):
    return Cell(dataset, ROWS[row], number, draw, seed, SCHEDULES[schedule])


def make_result(cell, rv, names=("RV", "Myo", "LV"), **extra):
    evaluations = {}
    for k, name in enumerate(EVALUATIONS):
        scores = {structure: rv + 0.1 * i + 0.01 * k for i, structure in enumerate(names)}
        mean = {**scores, "mean": statistics.mean(scores.values())}
        evaluations[name] = {"mean_dice": mean, "volumes": [{"id": "a", **mean}, {"id": "b", **mean}]}
    return made_up.make_result(cell, **{"commit": "abc", "curves": {}, "evaluations": evaluations, **extra})


def write(folder, cell, *args, **extra):
    path = folder / cell.dataset / cell.schedule.name / f"{cell.name}.json"
    write_record(path, make_result(cell, *args, **extra))
    return path


def change(path, edit):
    """Change a record as if it had been made so."""
    content = read_record(path, "")
    edit(content)
    write_record(path, content)


def make_report(folder, runs=()):
    """Write a report; return its text, see `read_report`."""
    for cell, rv in runs:
        write(folder, cell, rv)
    report(str(folder))
    return read_report(folder)


def read_report(folder):
    """Return the page of all results with those that it leads to in place of the links, their titles at level 3."""
    text = (folder / "README.md").read_text(encoding="utf-8")

    def page(link):
        content = (folder / link[2]).read_text(encoding="utf-8")
        assert content.startswith(f"# {link[1]}\n")
        return re.sub("^#+ ", "### ", content, flags=re.MULTILINE)

    return re.sub(r"^- \[(.*)\]\((.*\.md)\)$", page, text, flags=re.MULTILINE)


def sections(text, mark="##"):
    """Split a text at its headings of one level."""
    parts = re.split(f"^{mark} (.*)$", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def tables(text):
    """Return the tables of a text: lists of rows, each {column: entry}."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        header, rule, *rows = [[entry.strip() for entry in line.strip("|").split("|")] for line in block.splitlines()]
        assert {len(row) for row in rows} <= {len(header)} == {len(rule)} and set(rule) == {"---"}
        found.append([dict(zip(header, row, strict=True)) for row in rows])
    return found


def evaluations(text, heading=TABLE_6):
    """Return what the report has below a table's heading, by evaluation."""
    (section,) = sections(text).values()
    block = sections(section, "###")[heading]
    main, *others = re.split("<details><summary>(.*)</summary>", block)
    return {TITLES[0]: main, **dict(zip(others[::2], others[1::2], strict=True))}


def main_rows(text, heading=TABLE_6, number="1"):
    return {row["row"]: row for row in tables(evaluations(text, heading)[TITLES[0]])[0] if row["labelled"] == number}
