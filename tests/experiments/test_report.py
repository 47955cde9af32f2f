"""The report, from made-up result files."""

from __future__ import annotations

import json
import re
import shutil
import statistics
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import experiments.report as module
from common.records import read_record, write_record
from experiments.grid import RECIPES, SCHEDULES, TABLES, Cell, Pretraining, Recipe
from experiments.report import RESULTS, report
from release.results import EVALUATIONS

from . import made_up

STARTS = {
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


@pytest.fixture(autouse=True)
def drawn(monkeypatch):
    """What the report wanted drawn, by file name; nothing is drawn."""
    calls = {}

    def draw(path, *arguments):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        calls[path.name] = arguments

    monkeypatch.setattr(module, "draw_dice", draw)
    monkeypatch.setattr(module, "draw_training_curves", draw)
    return calls


def make_cell(start="GD", number=1, draw="c1", seed=0, schedule="reduced", dataset="acdc"):
    return Cell(dataset, STARTS[start], number, draw, seed, SCHEDULES[schedule])


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
    for cell, rv in runs:
        write(folder, cell, rv)
    report(str(folder))
    return (folder / "README.md").read_text(encoding="utf-8")


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
    return {row["start"]: row for row in tables(evaluations(text, heading)[TITLES[0]])[0] if row["labelled"] == number}


def test_means_spreads_and_differences_are_computed(tmp_path):
    values = {"c1": 0.5, "c2": 0.6, "c3": 0.65}
    text = make_report(tmp_path, [(make_cell(draw=draw), rv) for draw, rv in values.items()])
    blocks = evaluations(text)
    assert list(blocks) == TITLES
    for k, block in enumerate(blocks.values()):
        (row,) = [row for row in tables(block)[0] if row["start"] == "GD"]
        dice = [rv + 0.1 + 0.01 * k for rv in values.values()]  # RV, Myo and LV are 0.1 apart
        mean, spread = (float(number) for number in row["Dice"].split(" ± "))
        assert (mean, spread) == pytest.approx((statistics.mean(dice), statistics.stdev(dice)), abs=5e-4)
        for i, name in enumerate(("RV", "Myo", "LV")):
            assert float(row[name]) == pytest.approx(statistics.mean(dice) - 0.1 + 0.1 * i, abs=5e-4)
        assert (row["labelled"], row["runs"], row["paper"]) == ("1", "3 (3 draws)", ".691")
        assert float(row["ours − paper"]) == pytest.approx(statistics.mean(dice) - 0.691, abs=5e-4)


def test_seeds_are_pooled_and_one_run_has_no_spread(tmp_path):
    runs = [(make_cell("GD", draw=draw, seed=seed), 0.5) for draw in ("c1", "c2") for seed in (0, 1)]
    rows = main_rows(make_report(tmp_path, [*runs, (make_cell("random"), 0.2)]))
    assert (rows["GD"]["runs"], rows["GD"]["Dice"]) == ("4 (2 draws)", ".600 ± .000")
    assert (rows["random"]["runs"], rows["random"]["Dice"], rows["random"]["paper"]) == ("1 (1 draw)", ".300", "–")


def test_rows_are_those_of_the_table_in_its_order_and_the_others_are_counted(tmp_path):
    text = make_report(tmp_path, [(make_cell(start), 0.5) for start in ("GD+LR", "random", "GD+LD.d2")])
    rows = main_rows(text)
    assert list(rows) == ["random", "GD+LR", "GD+LD.d2"]
    assert rows["GD+LR"]["paper"] == ".725" and rows["GD+LR"]["ours − paper"] == "-0.125"
    # 15 rows have one labelled volume.
    assert "\n12 further rows were not run.\n" in evaluations(text)[TITLES[0]]


def test_a_table_is_there_if_one_of_its_rows_has_a_result(tmp_path):
    def headings(start):
        text = make_report(tmp_path / start, [(make_cell(start), 0.5)])
        return [name for name in sections(next(iter(sections(text).values())), "###") if name.startswith("Table")]

    assert headings("GR") == [TABLE_6]
    beyond = f'Table "beyond": {TABLES["beyond"].title}'
    assert headings("GD") == [*(f"Table {number}: {TABLES[number].title}" for number in (2, 3, 6)), beyond]
    assert headings("GD+LD.d2") == [f"Table {number}: {TABLES[number].title}" for number in (4, 6)]


def test_numbers_of_labelled_volumes_are_in_order(tmp_path):
    runs = [(make_cell("random", "all"), 0.7), (make_cell("random", 8), 0.4), (make_cell("random", 2), 0.3)]
    (table,) = tables(evaluations(make_report(tmp_path, runs))[TITLES[0]])
    random = [(row["labelled"], row["Dice"], row["paper"]) for row in table if row["start"] == "random"]
    assert random == [("2", ".400", "–"), ("8", ".500", "–"), ("all", ".800", ".912")]


def test_gains_over_random_are_paired_by_draw_and_seed(tmp_path):
    random = {("c1", 0): 0.2, ("c1", 1): 0.3, ("c2", 0): 0.5}
    pretrained = {("c1", 0): 0.3, ("c1", 1): 0.6, ("c2", 0): 0.4, ("c3", 0): 0.7}
    runs = [(make_cell("random", draw=draw, seed=seed), rv) for (draw, seed), rv in random.items()]
    runs += [(make_cell("GD", draw=draw, seed=seed), rv) for (draw, seed), rv in pretrained.items()]
    text = make_report(tmp_path, runs)
    gains = [0.1, 0.3, -0.1]
    for heading in (TABLE_6, f"Table 2: {TABLES[2].title}"):
        for block in evaluations(text, heading).values():
            ((row,),) = tables(block)[1:]
            assert (row["labelled"], row["gain"], row["pairs"]) == ("1", "GD − random", "3")
            mean, error = (float(number) for number in row["mean ± standard error"].split(" ± "))
            assert (mean, error) == pytest.approx((0.1, statistics.stdev(gains) / 3**0.5), abs=5e-4)


@pytest.mark.parametrize(
    ("dice", "verdict", "details"),
    [
        (
            {"random": (0.1, 0.2), "GR": (0.2, 0.31), "GD": (0.3, 0.41), "GD+LR": (0.4, 0.5)},
            "yes",
            ["random < GR (yes, +0.105 ± .005, pairs: 2)", "GD < GD+LR (yes, +0.095 ± .005, pairs: 2)"],
        ),
        (
            {"random": (0.1, 0.2), "GR": (0.2, 0.31), "GD": (0.3, 0.2), "GD+LR": (0.4, 0.5)},
            "no",
            ["GR < GD (no, -0.005 ± .105, pairs: 2)", "GD < GD+LR (yes, +0.200 ± .100, pairs: 2)"],
        ),
        ({"random": (0.1, 0.2), "GD+LR": (0.4, 0.6)}, "not known", ["random < GD+LR (yes", "not run: GR, GD."]),
        ({"random": (0.5, 0.5), "GD+LR": (0.4, 0.6)}, "no", ["random < GD+LR (no, +0.000 ± .100", "not run: GR, GD."]),
        (
            {"random": (0.1,), "GR": (0.2,), "GD": (0.3,), "GD+LR": (0.4,)},
            "not known",
            ["GR < GD (too few pairs, +0.100, pairs: 1)"],
        ),
    ],
    ids=["holds", "does not", "rows missing", "no and missing", "one pair"],
)
def test_whether_the_order_holds_by_more_than_the_standard_error(tmp_path, dice, verdict, details):
    runs = [(make_cell(start, draw=f"c{i}"), rv) for start, values in dice.items() for i, rv in enumerate(values, 1)]
    text = make_report(tmp_path, [*runs, (make_cell("random", "all"), 0.7)])
    for block in evaluations(text).values():
        (line,) = [line for line in block.splitlines() if line.startswith("- ")]
        assert line.startswith(f"- 1 labelled: **{verdict}**; ") and all(detail in line for detail in details), line
    assert text.count("Does random < GR < GD < GD+LR hold") == len(TITLES)  # of no other table


def test_structures_are_those_of_the_results(tmp_path):
    write(tmp_path, make_cell(), 0.5, names=("prostate",))
    row = main_rows(make_report(tmp_path))["GD"]
    assert list(row) == ["labelled", "start", "runs", "Dice", "prostate", "paper", "ours − paper"]


def test_a_structure_in_no_volume_is_dashed(tmp_path):
    def forget(result):
        for evaluation in result["evaluations"].values():
            evaluation["mean_dice"]["RV"] = None

    change(write(tmp_path, make_cell(), 0.5), forget)
    assert main_rows(make_report(tmp_path))["GD"]["RV"] == "–"


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_shorter_schedule_says_so_at_every_table(tmp_path, schedule):
    (section,) = sections(make_report(tmp_path, [(make_cell(schedule=schedule), 0.5)])).values()
    used = SCHEDULES[schedule]
    steps = (
        f"{used.global_steps:,} global, {used.local_steps:,} local and {used.fine_tuning_steps:,} fine-tuning steps "
        f"at batch {used.fine_tuning_batch_size}"
    )
    found = [block for heading, block in sections(section, "###").items() if heading.startswith("Table")]
    assert len(found) == 4
    for block in found:
        assert (f"The paper's schedule: {steps}." in block) == (schedule == "full")
        assert (f"Not the paper's schedule: {steps}; the paper's: 10,000 global, " in block) == (schedule != "full")


def test_every_dataset_and_schedule_has_its_section(tmp_path):
    cells = [make_cell("GD", schedule=schedule) for schedule in ("smoke", "full")]
    text = make_report(tmp_path, [(cell, 0.5) for cell in (*cells, make_cell("GD", dataset="prostate"))])
    assert list(sections(text)) == ['ACDC, schedule "full"', 'ACDC, schedule "smoke"', 'PROSTATE, schedule "reduced"']
    assert "| 1 | GD | 1 (1 draw) | .600 | .500 | .600 | .700 | .579 | +0.021 |" in text


def test_origin_of_the_numbers_is_named(tmp_path):
    write(tmp_path, make_cell(), 0.5, device="cuda:0", commit="def")
    write(tmp_path, make_cell(draw="c2"), 0.5, commit="abc-dirty")
    text = make_report(tmp_path)
    assert "Runs: 2. Test volumes: 2. Devices: cpu, cuda:0. Commits: abc-dirty, def." in text
    runs = tables(sections(next(iter(sections(text).values())), "###")["All runs"])[0]
    assert [row["run"] for row in runs] == [f"[GD_1_{c}_seed0](acdc/reduced/GD_1_{c}_seed0.json)" for c in ("c1", "c2")]
    assert runs[0] == {"run": runs[0]["run"], **dict(zip(EVALUATIONS, (".600", ".610", ".620", ".630"), strict=True))}


def test_every_number_of_the_tables_follows_the_results(tmp_path):
    """All entries but the paper's change when every result does, so none is typed."""
    texts = [
        make_report(
            tmp_path / str(shift),
            [
                (make_cell(start, draw=draw), 0.1 + 0.11 * i + shift * (1 + j) ** (1 + i))
                for i, start in enumerate(("random", "GR", "GD", "GD+LR"))
                for j, draw in enumerate(("c1", "c2"))
            ],
        )
        for shift in (0.0, 0.02)
    ]
    fixed = {"labelled", "start", "runs", "gain", "pairs", "paper", "run"}
    for first, second in zip(*(tables(text) for text in texts), strict=True):
        for row, other in zip(first, second, strict=True):
            if row.get("runs") != "0":
                same = {column for column, entry in row.items() if entry == other[column] != "–"}
                assert same <= fixed


def test_other_runs_than_the_papers_have_a_table_of_their_own(tmp_path):
    recipe = Recipe("other", mixup_alpha=0.2)
    cells = [replace(make_cell("GD", draw=draw), recipe=recipe) for draw in ("c1", "c2")]
    text = make_report(tmp_path, [*((cell, 0.5) for cell in cells), (make_cell("random", draw="c2"), 0.3)])
    block = evaluations(text, "Beside the paper's tables")[TITLES[0]]
    assert "Not the paper's schedule" in block
    ((row,), (gain,)) = tables(block)
    assert (row["start"], row["runs"], row["Dice"], row["paper"]) == ("GD+other", "2 (2 draws)", ".600 ± .000", "–")
    assert (gain["gain"], gain["mean ± standard error"]) == ("GD+other − random", "+0.200")
    assert "GD" not in main_rows(text)


def test_gains_beyond_the_paper_are_over_its_own_recipe(tmp_path):
    cells = [replace(make_cell("GD", draw=draw), recipe=RECIPES["self"]) for draw in ("c1", "c2")]
    plain = [(make_cell("GD", draw=draw), dice) for draw, dice in (("c1", 0.5), ("c2", 0.4))]
    text = make_report(tmp_path, [*plain, (make_cell("random"), 0.1), *((cell, 0.6) for cell in cells)])
    block = evaluations(text, f'Table "beyond": {TABLES["beyond"].title}')[TITLES[0]]
    rows, gains = tables(block)
    assert {row["start"]: row["Dice"] for row in rows if row["runs"] != "0"} == {
        "GD": ".550 ± .071",
        "GD+self": ".700 ± .000",
    }
    assert [(gain["gain"], gain["mean ± standard error"]) for gain in gains] == [("GD+self − GD", "+0.150 ± .050")]
    assert "figures/tablebeyond.png" in text


def test_gains_of_the_pre_training_under_the_recipe_beyond(tmp_path):
    beyond = {start: replace(make_cell(start), recipe=RECIPES["beyond"]) for start in ("random", "GD")}
    text = make_report(tmp_path, [(beyond["random"], 0.5), (beyond["GD"], 0.7)])
    _, gains = tables(evaluations(text, f'Table "beyond": {TABLES["beyond"].title}')[TITLES[0]])
    assert [(gain["gain"], gain["mean ± standard error"]) for gain in gains] == [
        ("GD+beyond − random+beyond", "+0.200")
    ]


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
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "Runs: 1." in text and main_rows(text)["GD"]["Dice"] == ".600"


def test_without_results_there_is_no_table(tmp_path, capsys):
    text = make_report(tmp_path)
    assert text.startswith("# Results") and "|" not in text
    assert f"Wrote {tmp_path / 'README.md'}" in capsys.readouterr().out


def test_dice_is_drawn_where_there_is_something_to_compare(tmp_path, drawn):
    runs = [(make_cell("GD", number, draw), 0.5) for number in (1, 2) for draw in ("c1", "c2")]
    text = make_report(tmp_path, [*runs, (make_cell("random", "all"), 0.7), (make_cell("random"), 0.2)])
    assert list(drawn) == ["table6.png"]
    _, measured, paper = drawn["table6.png"]
    expected = {"random": {1: [0.3], "all": [0.8]}, "GD": {1: [0.6, 0.6], 2: [0.6, 0.6]}}
    assert {row: {n: pytest.approx(dice) for n, dice in values.items()} for row, values in measured.items()} == expected
    assert (paper["random"], paper["GD"]) == ({"all": 0.912}, {1: 0.691, 2: 0.784, 8: 0.87})
    assert "![Dice by the number of labelled volumes](acdc/reduced/figures/table6.png)" in text


def test_training_curves_are_drawn_by_step(tmp_path, drawn):
    for draw in ("c1", "c2"):
        curves = {"train_loss": [[10, 0.7]], "mean_dice": [[1, 0.25], [2, 0.5]]}
        write(tmp_path, make_cell("GD", draw=draw), 0.5, curves=curves)
    write(tmp_path, make_cell("random"), 0.5)
    text = make_report(tmp_path)
    assert drawn["training_curves.png"][1] == {1: {"GD": [[(50, 0.25), (100, 0.5)]] * 2}}
    assert "![Validation Dice by step](acdc/reduced/figures/training_curves.png)" in text


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
    text = (tmp_path / "results" / "README.md").read_text(encoding="utf-8")
    figures = tmp_path / "results" / "acdc" / "reduced" / "figures"
    names = [f"{shown.name}.{rank}.png" for rank in ("worst", "median", "best")]
    assert sorted(path.name for path in figures.iterdir()) == sorted(names)
    assert "| GD, 1 labelled | | |" in text
    for name, volume in zip(names, ("worst: d, .100", "median: a, .400", "best: b, .900"), strict=True):
        assert re.search(rf"\| {re.escape(volume)}<br>!\[\w+\]\(acdc/reduced/figures/{re.escape(name)}\) \|", text)
        with Image.open(figures / name) as picture:
            assert picture.size == (720, 50)
    report(str(tmp_path / "results"))  # keeps them
    assert (tmp_path / "results" / "README.md").read_text(encoding="utf-8") == text


EMBEDDINGS = {
    "weights_sha256": {"pretrained_encoder.pt": "f00"},
    "volumes": 20,
    "slices": 170,
    "partitions": 4,
    "neighbour_accuracy": {"before": 0.5, "after": 0.75, "chance": 0.25},
}
PROBE = {"starts": [{"start": "encoder", "region_match": 0.25, "anatomy_over_place": 1.0, "probe_dice": 0.125}]}


def test_what_other_commands_wrote_is_shown(tmp_path):
    write(tmp_path, make_cell(), 0.5)
    figures = tmp_path / "acdc" / "reduced" / "figures"
    figures.mkdir()
    assert "embeddings" not in make_report(tmp_path).lower()
    for name in ("partitions.png", "embeddings.png"):
        (figures / name).touch()
    write_record(figures / "embeddings.json", EMBEDDINGS)
    write_record(figures.parent / "probe.json", PROBE)
    text = make_report(tmp_path)
    assert "![Partitions](acdc/reduced/figures/partitions.png)" in text
    assert "(acdc/reduced/figures/embeddings.png)" in text and "`pretrained_encoder.pt`, SHA-256 `f00`" in text
    assert "same one of 4 partitions for .500 of the slices before and .750 after pre-training; by chance .250." in text
    assert "| encoder | .250 | 1.000 | .125 |" in text


@pytest.mark.parametrize("name", ["figures/embeddings.json", "probe.json"])
@pytest.mark.parametrize(
    "content",
    ["{", "{}", {}, {"starts": [{**PROBE["starts"][0], "probe_dice": 1.5}], "neighbour_accuracy": {"before": -0.5}}],
    ids=["cut off", "no hash", "empty", "out of range"],
)
def test_damaged_files_of_other_commands_are_named(tmp_path, name, content):
    folder = write(tmp_path, make_cell(), 0.5).parent
    (folder / "figures").mkdir()
    write_record(folder / "probe.json", PROBE)
    write_record(folder / "figures" / "embeddings.json", EMBEDDINGS)
    if isinstance(content, dict):
        write_record(folder / name, content)
    else:
        (folder / name).write_text(content)
    with pytest.raises(SystemExit, match=f"{re.escape(str(folder / name))} is .*: move it away and make it again"):
        report(str(tmp_path))
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "Table 6" in text and ("by chance" in text) != ("region match" in text)


def test_the_committed_report_is_that_of_the_committed_results(tmp_path):
    copy = tmp_path / "results"
    shutil.copytree(RESULTS, copy)
    (copy / "README.md").unlink()
    report(str(copy))
    committed = (RESULTS / "README.md").read_text(encoding="utf-8")
    assert (copy / "README.md").read_text(encoding="utf-8") == committed
    for link in re.findall(r"\]\(([^)]*)\)", committed):
        assert (RESULTS / link).is_file(), link


def test_committed_pictures_are_small():
    large = {path.name: path.stat().st_size for path in RESULTS.rglob("*.png") if path.stat().st_size > 200_000}
    assert not large
