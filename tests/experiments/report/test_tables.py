"""Means, spreads, gains and verdicts."""

from __future__ import annotations

import statistics
from dataclasses import replace

import pytest

from experiments.recipes import PHOTOGRAPH_RECIPES, RECIPES
from experiments.tables import TABLES

from .made_up import TITLES, change, evaluations, main_rows, make_cell, make_report, tables, write


def test_means_spreads_and_differences_are_computed(tmp_path):
    values = {"c1": 0.5, "c2": 0.6, "c3": 0.65}
    text = make_report(tmp_path, [(make_cell(draw=draw), rv) for draw, rv in values.items()])
    blocks = evaluations(text)
    assert list(blocks) == TITLES[:1]
    (row,) = [row for row in tables(blocks[TITLES[0]])[0] if row["row"] == "GD"]
    dice = [rv + 0.1 for rv in values.values()]  # RV, Myo and LV are 0.1 apart
    mean, spread = (float(number) for number in row["Dice"].split(" ± "))
    assert (mean, spread) == pytest.approx((statistics.mean(dice), statistics.stdev(dice)), abs=5e-4)
    for i, name in enumerate(("RV", "Myo", "LV")):
        assert float(row[name]) == pytest.approx(statistics.mean(dice) - 0.1 + 0.1 * i, abs=5e-4)
    assert (row["labelled"], row["runs"], row["paper"]) == ("1", "3 (3 draws)", ".691")
    assert float(row["ours − paper"]) == pytest.approx(statistics.mean(dice) - 0.691, abs=5e-4)


def test_other_evaluations_are_shown_where_they_say_something_else(tmp_path):
    """Here the gain is gone in the last checkpoint with running averages; the others agree with the first."""
    for draw, rv in (("c1", 0.3), ("c2", 0.35)):
        write(tmp_path, make_cell("random", draw=draw), rv)
        write(tmp_path, make_cell("GD", draw=draw), rv + 0.2 + 0.01 * (draw == "c2"))

    def lose(result):
        result["evaluations"]["last, running average"]["mean_dice"]["mean"] -= 0.2

    for draw in ("c1", "c2"):
        change(tmp_path / "acdc" / "reduced" / f"GD_1_{draw}_seed0.json", lose)
    text = make_report(tmp_path)
    blocks = evaluations(text)
    assert list(blocks) == [TITLES[0], TITLES[3]]
    assert tables(blocks[TITLES[0]])[1][0]["mean ± standard error"] == "+0.205 ± .005"
    assert tables(blocks[TITLES[3]])[1][0]["mean ± standard error"] == "+0.005 ± .005"
    assert "standard error: selected, running average; last, recomputed. [All runs](runs.md)" in text


def test_photographs_have_the_iou_beside_dice(tmp_path):
    cell = replace(make_cell("random", 25, dataset="camvid"), recipe=PHOTOGRAPH_RECIPES["paper"])
    path = write(tmp_path, cell, 0.5)

    def add_iou(result):
        for number, own in enumerate(result["evaluations"].values()):
            own["mean_iou"] = {"mean": 0.3 + 0.01 * number}

    change(path, add_iou)
    heading = f'Table "streets": {TABLES["streets"].title}'
    text = make_report(tmp_path)
    row = main_rows(text, heading, "25")["random"]
    assert (row["Dice"], row["IoU"], row["paper"]) == (".600", ".300", "–")
    assert "| random weights |" not in text  # of the short table, whose columns are other numbers


def test_seeds_are_pooled_and_one_run_has_no_spread(tmp_path):
    runs = [(make_cell("GD", draw=draw, seed=seed), 0.5) for draw in ("c1", "c2") for seed in (0, 1)]
    rows = main_rows(make_report(tmp_path, [*runs, (make_cell("random"), 0.2)]))
    assert (rows["GD"]["runs"], rows["GD"]["Dice"]) == ("4 (2 draws)", ".600 ± .000")
    assert (rows["random"]["runs"], rows["random"]["Dice"], rows["random"]["paper"]) == ("1 (1 draw)", ".300", "–")


def test_numbers_of_labelled_volumes_are_in_order(tmp_path):
    runs = [(make_cell("random", "all"), 0.7), (make_cell("random", 8), 0.4), (make_cell("random", 2), 0.3)]
    (table,) = tables(evaluations(make_report(tmp_path, runs))[TITLES[0]])
    random = [(row["labelled"], row["Dice"], row["paper"]) for row in table if row["row"] == "random"]
    assert random == [("2", ".400", "–"), ("8", ".500", "–"), ("all", ".800", ".912")]


def test_gains_over_random_are_paired_by_draw_and_seed(tmp_path):
    random = {("c1", 0): 0.2, ("c1", 1): 0.3, ("c2", 0): 0.5}
    pretrained = {("c1", 0): 0.3, ("c1", 1): 0.6, ("c2", 0): 0.4, ("c3", 0): 0.7}
    runs = [(make_cell("random", draw=draw, seed=seed), rv) for (draw, seed), rv in random.items()]
    runs += [(make_cell("GD", draw=draw, seed=seed), rv) for (draw, seed), rv in pretrained.items()]
    text = make_report(tmp_path, runs)
    gains = [0.1, 0.3, -0.1]
    for block in evaluations(text).values():
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
    runs = [(make_cell(row, draw=f"c{i}"), rv) for row, values in dice.items() for i, rv in enumerate(values, 1)]
    text = make_report(tmp_path, [*runs, (make_cell("random", "all"), 0.7)])
    blocks = evaluations(text).values()
    for block in blocks:
        (line,) = [line for line in block.splitlines() if line.startswith("- ")]
        assert line.startswith(f"- 1 labelled: **{verdict}**; ") and all(detail in line for detail in details), line
    assert text.count("Does random < GR < GD < GD+LR hold") == len(blocks)  # of no other table


def test_structures_are_those_of_the_results(tmp_path):
    write(tmp_path, make_cell(), 0.5, names=("prostate",))
    row = main_rows(make_report(tmp_path))["GD"]
    assert list(row) == ["labelled", "row", "runs", "Dice", "prostate", "paper", "ours − paper"]


def test_a_structure_in_no_volume_is_dashed(tmp_path):
    def forget(result):
        for evaluation in result["evaluations"].values():
            evaluation["mean_dice"]["RV"] = None

    change(write(tmp_path, make_cell(), 0.5), forget)
    assert main_rows(make_report(tmp_path))["GD"]["RV"] == "–"


def test_every_number_of_the_tables_follows_the_results(tmp_path):
    """All entries but the paper's change when every result does, so none is typed."""
    texts = [
        make_report(
            tmp_path / str(shift),
            [
                (make_cell(row, draw=draw), 0.1 + 0.11 * i + shift * (1 + j) ** (1 + i))
                for i, row in enumerate(("random", "GR", "GD", "GD+LR"))
                for j, draw in enumerate(("c1", "c2"))
            ],
        )
        for shift in (0.0, 0.02)
    ]
    fixed = {"labelled", "fine-tuning from", "row", "runs", "gain", "pairs", "paper", "run"}
    for first, second in zip(*(tables(text) for text in texts), strict=True):
        for row, other in zip(first, second, strict=True):
            if row.get("runs") != "0":
                same = {column for column, entry in row.items() if entry == other[column] and entry[0] != "–"}
                assert same <= fixed


def test_gains_beyond_the_paper_are_over_its_own_recipe(tmp_path):
    cells = [replace(make_cell("GD", draw=draw), recipe=RECIPES["self"]) for draw in ("c1", "c2")]
    plain = [(make_cell("GD", draw=draw), dice) for draw, dice in (("c1", 0.5), ("c2", 0.4))]
    text = make_report(tmp_path, [*plain, (make_cell("random"), 0.1), *((cell, 0.6) for cell in cells)])
    block = evaluations(text, f'Table "beyond": {TABLES["beyond"].title}')[TITLES[0]]
    rows, gains = tables(block)
    assert {row["row"]: row["Dice"] for row in rows if row["runs"] != "0"} == {
        "GD": ".550 ± .071",
        "GD+self": ".700 ± .000",
    }
    assert [(gain["gain"], gain["mean ± standard error"]) for gain in gains] == [("GD+self − GD", "+0.150 ± .050")]
    assert "figures/tablebeyond.png" in text


def test_gains_of_the_pre_training_under_the_recipe_beyond(tmp_path):
    beyond = {row: replace(make_cell(row), recipe=RECIPES["beyond"]) for row in ("random", "GD")}
    text = make_report(tmp_path, [(beyond["random"], 0.5), (beyond["GD"], 0.7)])
    _, gains = tables(evaluations(text, f'Table "beyond": {TABLES["beyond"].title}')[TITLES[0]])
    assert [(gain["gain"], gain["mean ± standard error"]) for gain in gains] == [
        ("GD+beyond − random+beyond", "+0.200")
    ]
