"""The report, from made-up result files."""

from __future__ import annotations

import json
import re
import shutil
import statistics
from dataclasses import asdict, replace

import pytest

from experiments.grid import PRETRAININGS, SCHEDULES, Cell, Schedule
from experiments.report import PAPER, RESULTS, report

EVALUATIONS = ("selected, recomputed", "last, running average")


SELECTED = "Selected checkpoint, batch-norm statistics: recomputed, chosen by the Dice with recomputed statistics"


def make_result(start, draw, rv, schedule="reduced", device="cpu", commit="abc", cell=None, names=("RV", "Myo", "LV")):
    cell = cell or Cell(start, 1, draw, 0, SCHEDULES[schedule])
    evaluations = {}
    for k, name in enumerate(EVALUATIONS):
        scores = {structure: rv + 0.1 * i + 0.01 * k for i, structure in enumerate(names)}
        mean = {**scores, "mean": statistics.mean(scores.values())}
        evaluations[name] = {"mean_dice": mean, "volumes": [{"id": "a", **mean}, {"id": "b", **mean}]}
    return {"key": cell.key, "cell": asdict(cell), "commit": commit, "device": device, "evaluations": evaluations}


def make_report(folder, results):
    for result in results:
        cell = Cell(**{**result["cell"], "schedule": Schedule(**result["cell"]["schedule"])})
        path = folder / "acdc" / cell.schedule.name / f"{cell.name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result))
    report(str(folder))
    return (folder / "README.md").read_text(encoding="utf-8")


def tables(text):
    """Return {section: {heading: {start: row}}}, a row being {column: entry}."""
    sections = {}
    for section in text.split("\n## ")[1:]:
        parts = section.split("\n### ")
        for part in parts[1:]:
            lines = [
                [entry.strip() for entry in line.strip("|").split("|")]
                for line in part.splitlines()
                if line.startswith("|")
            ]
            header, rule, *rows = lines
            assert {len(line) for line in lines} == {len(header)} and set(rule) == {"---"}
            table = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
            sections.setdefault(parts[0].splitlines()[0], {})[part.splitlines()[0]] = table
    return sections


def test_means_and_spreads_are_computed(tmp_path):
    values = {"c1": 0.5, "c2": 0.6, "c3": 0.65}
    text = make_report(tmp_path, [make_result("GD", draw, rv) for draw, rv in values.items()])
    ((title, headings),) = tables(text).items()
    assert title == 'ACDC, one labelled volume, schedule "reduced"'
    assert list(headings) == [
        SELECTED,
        "Last checkpoint, batch-norm statistics: running average",
    ]
    for k, table in enumerate(headings.values()):
        per_draw = [rv + 0.1 + 0.01 * k for rv in values.values()]  # RV, Myo and LV are 0.1 apart
        row = table["GD"]
        assert [float(row[draw]) for draw in values] == pytest.approx(per_draw, abs=5e-4)
        mean, spread = (float(number) for number in row["mean ± sd"].split(" ± "))
        assert (mean, spread) == pytest.approx((statistics.mean(per_draw), statistics.stdev(per_draw)), abs=5e-4)
        for i, name in enumerate(("RV", "Myo", "LV")):
            assert float(row[name]) == pytest.approx(statistics.mean(per_draw) - 0.1 + 0.1 * i, abs=5e-4)
        columns = list(row)
        assert (columns[0], columns[-1]) == ("start", "paper")
        assert row["paper"] == PAPER[1]["GD"]


def test_missing_draws_are_dashed_and_missing_starts_left_out(tmp_path):
    results = [make_result("random", "c1", 0.2), make_result("random", "c2", 0.3), make_result("GD+LR", "c2", 0.4)]
    table = next(iter(tables(make_report(tmp_path, results)).values()))[SELECTED]
    assert list(table) == ["random", "GD+LR", "GD+LR − random"]
    assert table["GD+LR"]["c1"] == "–" and table["GD+LR"]["c2"] == ".500"
    assert table["GD+LR"]["mean ± sd"] == ".500 (1 draw)"
    assert table["random"]["c1"] == ".300" and "±" in table["random"]["mean ± sd"]


def test_gains_over_random_are_paired_by_draw(tmp_path):
    random = {"c1": 0.2, "c2": 0.5}
    pretrained = {"c1": 0.3, "c2": 0.4, "c3": 0.9}
    results = [make_result("random", draw, rv) for draw, rv in random.items()]
    results += [make_result("GD", draw, rv) for draw, rv in pretrained.items()]
    table = next(iter(next(iter(tables(make_report(tmp_path, results)).values())).values()))
    row = table["GD − random"]
    assert (row["c1"], row["c2"], row["c3"]) == ("+0.100", "-0.100", "–")
    mean, spread = row["mean ± sd"].split(" ± ")
    assert float(mean) == pytest.approx(0.0, abs=5e-4) and float(spread) == pytest.approx(0.1414, abs=5e-4)


def test_pictures_of_the_median_volume_are_copied_and_shown(tmp_path):
    result = make_result("GD", "c1", 0.5)
    evaluation = next(iter(result["evaluations"].values()))
    evaluation["volumes"] = [{"id": name, "mean": mean} for name, mean in (("a", 0.1), ("b", 0.9), ("c", 0.5))]
    make_report(tmp_path / "results", [result])
    cell = result["cell"]
    run = Cell(**{**cell, "schedule": Schedule(**cell["schedule"])}).folder
    picture = tmp_path / "runs" / cell["schedule"]["name"] / run / "test_model" / "pictures" / "c.png"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"picture of the median")
    report(str(tmp_path / "results"), str(tmp_path / "runs"))
    text = (tmp_path / "results" / "README.md").read_text(encoding="utf-8")
    (link,) = [line.split("(")[1].rstrip(")") for line in text.splitlines() if line.startswith("![")]
    assert (tmp_path / "results" / link).read_bytes() == b"picture of the median"


def test_structures_are_those_of_the_results(tmp_path):
    text = make_report(tmp_path, [make_result("GD", "c1", 0.5, names=("prostate",))])
    row = next(iter(next(iter(tables(text).values())).values()))["GD"]
    assert list(row) == ["start", "c1", "mean ± sd", "prostate", "paper"] and "Myo" not in text


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_shorter_schedule_says_so(tmp_path, schedule):
    text = make_report(tmp_path, [make_result("GD", "c1", 0.5, schedule)])
    used = SCHEDULES[schedule]
    assert (
        f"{used.global_steps:,} global, {used.local_steps:,} local and {used.fine_tuning_steps:,} fine-tuning steps "
        f"at batch {used.fine_tuning_batch_size} (the paper: 10,000 each at batch 40)" in text
    )
    assert ("the numbers are not comparable" in text) == (schedule != "full")


def test_every_schedule_has_its_section(tmp_path):
    results = [make_result("GD", "c1", 0.5, schedule) for schedule in ("smoke", "full")]
    assert list(tables(make_report(tmp_path, results))) == [
        'ACDC, one labelled volume, schedule "full"',
        'ACDC, one labelled volume, schedule "smoke"',
    ]


def test_origin_of_the_numbers_is_named(tmp_path):
    results = [
        make_result("GD", "c1", 0.5, device="cuda:0", commit="def"),
        make_result("GD", "c2", 0.5, device="cpu", commit="abc-dirty"),
    ]
    text = make_report(tmp_path, results)
    assert "Device: cpu, cuda:0. Commits: abc-dirty, def." in text and "Test volumes: 2." in text


def test_every_number_of_the_tables_follows_the_results(tmp_path):
    """All entries but the paper's change when every result does, so none is typed."""
    text = {
        shift: make_report(
            tmp_path / str(shift),
            [
                make_result(start, draw, 0.1 + 0.11 * i + shift * (1 + j), names=("RV", "Myo", "LV"))
                for i, start in enumerate(PRETRAININGS)
                for j, draw in enumerate(("c1", "c2"))
            ],
        )
        for shift in (0.0, 0.05)
    }
    for heading, table in next(iter(tables(text[0.0]).values())).items():
        other = next(iter(tables(text[0.05]).values()))[heading]
        for start in PRETRAININGS:
            same = {column for column, entry in table[start].items() if entry == other[start][column]}
            assert same == {"start", "paper"}
    assert re.sub(r"\|[^\n]*", "", text[0.0]) == re.sub(r"\|[^\n]*", "", text[0.05])


@pytest.mark.parametrize(
    ("name", "value"),
    [("schedule", replace(SCHEDULES["reduced"], local_steps=7)), ("seed", 1)],
    ids=["schedule", "seed"],
)
def test_unlike_results_share_no_table(tmp_path, name, value):
    cell = Cell("GD", 1, "c2", 0, SCHEDULES["reduced"])
    results = [make_result("GD", "c1", 0.5), make_result("GD", "c2", 0.5, cell=replace(cell, **{name: value}))]
    with pytest.raises(ValueError, match=f"'reduced' must have one {name}, got .*Move the older files elsewhere"):
        make_report(tmp_path, results)
    assert not (tmp_path / "README.md").exists()


def test_every_number_of_labelled_volumes_has_its_section(tmp_path):
    cells = [replace(Cell("GD", 1, "c1", 0, SCHEDULES["reduced"]), num_labelled=number) for number in (8, 1)]
    results = [make_result("GD", "c1", 0.1 * cell.num_labelled, cell=cell) for cell in cells]
    sections = tables(make_report(tmp_path, results))
    assert list(sections) == [
        'ACDC, one labelled volume, schedule "reduced"',
        'ACDC, 8 labelled volumes, schedule "reduced"',
    ]
    assert [section[SELECTED]["GD"]["paper"] for section in sections.values()] == [".691", ".870"]


def test_without_results_there_is_no_table(tmp_path, capsys):
    text = make_report(tmp_path, [])
    assert text.startswith("# Results") and "|" not in text
    assert f"Wrote {tmp_path / 'README.md'}" in capsys.readouterr().out


def test_the_committed_report_is_that_of_the_committed_results(tmp_path):
    copy = tmp_path / "results"
    shutil.copytree(RESULTS, copy)
    (copy / "README.md").unlink()
    report(str(copy))
    assert (copy / "README.md").read_text(encoding="utf-8") == (RESULTS / "README.md").read_text(encoding="utf-8")


def test_probe_is_shown(tmp_path):
    probe = tmp_path / "acdc" / "reduced" / "probe.json"
    probe.parent.mkdir(parents=True)
    numbers = {"region_match": 0.25, "anatomy_over_place": 1.0, "probe_dice": 0.125}
    probe.write_text(json.dumps({"starts": [{"start": "encoder", **numbers}]}))
    assert "| encoder | .250 | 1.000 | .125 |" in make_report(tmp_path, [make_result("GD", "c1", 0.5)])
