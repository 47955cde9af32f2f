"""Which result files are used, and which are named."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from common.records import write_record
from experiments.report import report
from release.results import EVALUATIONS

from .made_up import main_rows, make_cell, make_report, make_result, read_report, sections, tables, write


def test_origin_of_the_numbers_is_named(tmp_path):
    write(tmp_path, make_cell(), 0.5, device="cuda:0", commit="def")
    write(tmp_path, make_cell(draw="c2"), 0.5, commit="abc-dirty")
    text = make_report(tmp_path)
    assert "Runs: 2. Test volumes: 2. Devices: cpu, cuda:0. Commits: abc-dirty, def." in text
    runs = tables(sections(next(iter(sections(text).values())), "###")["All runs"])[0]
    assert [row["run"] for row in runs] == [f"[GD_1_{c}_seed0](GD_1_{c}_seed0.json)" for c in ("c1", "c2")]
    assert runs[0] == {"run": runs[0]["run"], **dict(zip(EVALUATIONS, (".600", ".610", ".620", ".630"), strict=True))}


def wrong_lengths():
    cell = make_cell("random")
    return make_result(replace(cell, schedule=replace(cell.schedule, local_steps=7)), 0.5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"key": "ab', "is damaged"),
        (json.dumps(make_result(make_cell("random"), 0.5)), "it has no entry 'sha256'"),
        ({"cell": make_cell("random").to_dict()}, "is not a whole result file.*evaluations is missing"),
        (make_result(make_cell("GR"), 0.5), "holds the cell GR_1_c1_seed0 of acdc, reduced: move it"),
        (
            wrong_lengths(),
            "was made with 2,500 global, 7 local and 400 fine-tuning steps at batch 20, which are not those of the "
            "schedule 'reduced'",
        ),
    ],
    ids=["cut off", "no hash", "no numbers", "other name", "other lengths"],
)
def test_a_file_that_cannot_be_used_is_named_and_the_rest_reported(tmp_path, content, message):
    write(tmp_path, make_cell("GD"), 0.5)
    path = tmp_path / "acdc" / "reduced" / "random_1_c1_seed0.json"
    if isinstance(content, dict):
        write_record(path, content)
    else:
        path.write_text(content)
    with pytest.raises(SystemExit, match=f"(?s)^1 files could not be used:\n{re.escape(str(path))} .*{message}"):
        report(str(tmp_path))
    text = read_report(tmp_path)
    assert "Runs: 1." in text and main_rows(text)["GD"]["Dice"] == ".600"
