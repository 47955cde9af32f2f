"""What the documents say of Dice and gains, against the result files.

Tables and sentences that commands write into a document are tested where those commands are. Here is the rest: each
claim stands once with what it must say, computed from the files, and no other number of the kind may stand in them.
"""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from experiments.report.numbers import differences, number_of, spread_of, with_error
from experiments.report.runs import Group, read_groups
from experiments.report.summary import MARKS
from experiments.tables import paper_dice
from release.results import MAIN_EVALUATION
from tests.places import REPOSITORY
from tests.test_documents import DOCUMENTS, name_of

RESULTS = REPOSITORY / "experiments" / "results"
_NOT_READ = (
    "CHANGELOG.md",  # what was measured then
    "docs/annotators.md",  # compared with its file in `test_documents`
)
CLAIMING = [path for path in DOCUMENTS if "results" not in path.parts and name_of(path) not in _NOT_READ]
COUNTS = ("no", "one", "two", "three", "four", "five")
# As the results are written: options have a zero before the point.
_NUMBER = re.compile(r"(?<![\w.])\.\d{3,4}(?!\d|\.\d)")


@cache
def group_of(dataset: str) -> Group:
    groups, problems = read_groups(RESULTS)
    assert problems == []
    (group,) = (group for group in groups if group.dataset == dataset)
    return group


def dice(row: str, number: int | str, dataset: str = "acdc", draw: str = "", spread: bool = False) -> str:
    """Write the mean of the runs of a row, of one draw or of all, and if asked for how much they scatter."""
    values = [
        run.dice[MAIN_EVALUATION]["mean"]
        for run in group_of(dataset).runs
        if (run.cell.row, run.number) == (row, number) and draw in ("", run.cell.draw)
    ]
    return spread_of(values) if spread else number_of(statistics.mean(values))


def gain(first: str, second: str, number: int | str, dataset: str = "acdc", loss: bool = False) -> str:
    """Write by how much the second row is better, or worse, with its standard error."""
    values = differences(group_of(dataset).runs, first, second, number, MAIN_EVALUATION)
    return with_error([-value for value in values] if loss else values).replace("0.", ".").lstrip("+" if loss else "")


def pairs(first: str, second: str, number: int | str, dataset: str = "acdc") -> int:
    return len(differences(group_of(dataset).runs, first, second, number, MAIN_EVALUATION))


def study(path: str) -> Any:
    return json.loads((RESULTS / "acdc" / "reduced" / path).read_text(encoding="utf-8"))


def lever(what: str, number: int, draw: str) -> float:
    """Return the Dice of one of the trials for the recipe."""
    (found,) = (
        run["mean"]
        for run in study("levers.json")["runs"]
        if (run["what"], run["num_labelled"], run["draw"]) == (what, number, draw)
    )
    return float(found)


def mixed(number: int, draw: str, best: bool = False) -> float:
    """Return the Dice on the development patients with labelled slices in the statistics."""
    start = {("c1", 1): "first draw", ("c2", 2): "two labels", ("c1", 8): "eight labels"}[draw, number]
    if best:
        return lever("of the same run the weights of the best validation", number, draw)
    return lever(f"labelled slices in the statistics, {start}: last weights", number, draw)


def bias_field(case: str) -> str:
    return f"{study('figures/bias_field.json')['cases'][case]['dice']:.4f}".lstrip("0")


def claims_of_place(loss: dict[str, dict[str, list[float]]]) -> Iterator[str]:
    """Say what losses come to by strategy, start and step, as shares of that of equal vectors."""
    alone = "coordinates only"
    first, last = (max(loss[name][alone][step] for name in ("LR", "LD")) for step in (0, -1))
    later = [max(own[12:]) for name in ("LR", "LD") for start, own in loss[name].items() if start != alone]
    yield f"a loss of {_hundredths(first)} of that of equal vectors before the first step, for LR and for LD"
    yield f"of less than {number_of(math.ceil(1000 * last) / 1000)} after 30"
    yield f"is below {_hundredths(math.ceil(100 * max(later)) / 100)} of it from the 13th step on"
    yield f"stays at that of equal vectors ({loss['LE'][alone][-1]:.2f} after 30 steps)"
    yield f"pre-trained encoder it falls ({_hundredths(loss['LE']['pre-trained encoder'][-1])})"
    yield f"with an untrained one less ({_hundredths(loss['LE']['untrained encoder'][-1])})"


def claims_of_dense_stages() -> Iterator[str]:
    """Say what LE and LX bring before and after fine-tuning."""
    probe = {row["start"]: number_of(row["probe_dice"]) for row in study("probe.json")["starts"]}
    yield f"has a Dice of {probe['GD+LE']} on the test patients after LE and of {probe['GD+LX']} after LX"
    yield f"of {probe['GD+LR']} after LR, and of {probe['encoder, random decoder']} with GD's encoder and a random"
    rows = study("local_stages.json")["rows"]
    own = {name: [row["dice"] for row in rows if row["strategy"] == name] for name in ("LE", "LX")}
    assert [row["draw"] for row in rows] == ["c3", "c3", "c4", "c4"]
    without = [lever("such statistics throughout, of the teacher too, third draw", 1, "c3")]
    without.append(lever("such statistics throughout, of the teacher too", 1, "c4"))
    written = {name: " and ".join(map(number_of, values)) for name, values in {**own, "none": without}.items()}
    yield f"LE has {written['LE']} with one label (c3, c4), LX {written['LX']}, no local stage {written['none']} ("
    assert 0 < statistics.mean(own["LX"]) - statistics.mean(own["LE"]) < 0.001
    yield "LX was ahead of LE by less than .001 on average"
    one, two = (gain("GD+recommended", "GD+LX+recommended", number) for number in (1, 2))
    in_words = {number: COUNTS[pairs("GD+recommended", "GD+LX+recommended", number)] for number in (1, 2)}
    yield f"went to the test: {one} with one label ({in_words[1]} pairs), {two} with two ({in_words[2]} pairs)"
    paper = f"{gain('GD', 'GD+LX', 1)} ({COUNTS[pairs('GD', 'GD+LX', 1)]} pairs)"
    yield f"With the paper's fine-tuning on one label LX makes {paper}"


def _hundredths(value: float) -> str:
    return f"{value:.2f}".lstrip("0")


def claims() -> Iterator[tuple[str, str]]:
    """Name documents and what they must say."""
    acdc, street, camvid = (
        f"{folder}/docs/README.md" for folder in ("bundle_acdc", "bundle_cityscapes", "experiments/bundle_camvid")
    )
    throughout = "such statistics throughout, of the teacher too"
    fourth = lever(throughout, 1, "c4") - lever("recommended recipe, fourth draw", 1, "c4")
    third = lever(f"{throughout}, third draw", 1, "c3") - lever("recommended recipe, third draw", 1, "c3")
    yield acdc, f"by {number_of(fourth)} and {number_of(third)} in the two draws in which both were tried"
    yield acdc, f"it cost {gain('GD+recomputed', 'GD+frames', 8, loss=True)} of the test Dice at end-diastole"
    paper = paper_dice(6, "acdc")
    for number, words in ((1, "by {} with one labelled volume"), (2, "by {} with two"), (8, "With eight it is, by {}")):
        ahead, counted = gain("GR", "GD", number).lstrip("+"), COUNTS[pairs("GR", "GD", number)]
        of_paper = number_of(paper["GD"][number] - paper["GR"][number])
        yield acdc, f"{words.format(ahead)} ({counted} pairs; paper {of_paper})"
    gains = [differences(group_of("acdc").runs, "random", "GD", number, MAIN_EVALUATION) for number in (1, 2, 8)]
    assert min(map(min, gains)) > 0
    yield acdc, "GD pre-training raised the test Dice in every draw of one, two and eight labelled volumes"
    yield acdc, f"with eight by {gain('random', 'GD', 8).lstrip('+')} ({COUNTS[len(gains[2])]} pairs)"
    yield acdc, f"additions come to {gain('random+beyond', 'GD+beyond', 1).lstrip('+')} less (three draws)"
    both = ("random+recommended", "GD+recommended")
    gains = [differences(group_of("acdc").runs, *both, number, MAIN_EVALUATION) for number in (1, 2, 8)]
    assert min(map(min, gains)) > 0
    one, two, eight = (gain(*both, number).lstrip("+") for number in (1, 2, 8))
    yield acdc, f"there too pre-training helps, in all {sum(map(len, gains))} pairs: by {one} with one label"
    yield acdc, f"{two} with two and {eight} with eight"
    better = [number_of(mixed(*of) - mixed(*of, best=True)) for of in ((1, "c1"), (2, "c2"), (8, "c1"))]
    yield acdc, f"better by {better[0]} in one of four draws of one label"
    yield acdc, f"better by {better[1]} on two labels (c2) and by {better[2]} on eight (c1)"
    eight, every, one = dice("GD+recommended", 8), dice("GD+recommended", "all"), dice("GD+recommended", 1)
    yield acdc, f"eight labels ({eight}, aim .902; with all 78, one run, {every})"
    yield acdc, f"a little with one ({one}, aim .865)"
    yield acdc, f'"beyond" gave {dice("GD+beyond", 1, spread=True)} on one label (three draws)'
    kept = [
        number_of(value) for value in (mixed(8, "c1", best=True), mixed(8, "c1"), lever("shipped weights", 8, "c1"))
    ]
    yield acdc, f"{kept[0]} for the weights that two validation volumes chose and {kept[1]} for the last ones, with"
    yield acdc, f"`recomputed` {kept[2]}."
    yield acdc, f"that recipe gives {dice('GD+frames', 8)} at end-diastole on eight"
    neighbours = study("figures/embeddings.json")
    same = {name: number_of(value) for name, value in neighbours["neighbour_accuracy"].items()}
    after_gr = number_of(neighbours["beside"]["GR"])
    yield (
        acdc,
        f"for {same['after']} of the slices after GD, for {after_gr} after GR and for {same['before']} with random",
    )
    yield acdc, f"weights (chance {same['chance']};"
    yield from ((acdc, claim) for claim in claims_of_dense_stages())
    yield from ((acdc, claim) for claim in claims_of_place(study("figures/place.json")["loss_as_share_of_chance"]))
    yield acdc, f"a Dice of {bias_field('every 4th pixel, 4 levels of 50')} with the field from every fourth pixel"
    yield acdc, f"{bias_field('every 12th pixel, 3 levels of 50')} with that from every twelfth pixel in three levels"
    yield acdc, f"and {bias_field('no correction')} without any correction"

    paper = paper_dice(8, "cityscapes")
    first, second = ([number_of(paper[row][n]) for n in (100, 200, 400)] for row in ("random", "GR+LR+mixup"))
    yield (
        street,
        f"{first[0]}, {first[1]} and {first[2]} with 100, 200 and 400 labelled photographs from random weights",
    )
    yield street, f"and {second[0]}, {second[1]} and {second[2]} with GR, LR and Mixup"

    few, some, many = (gain("random", "GR", number, "camvid") for number in (25, 50, 100))
    yield camvid, f"GR is worth {some} of the Dice with 50 labelled photographs and {many} with 100"
    yield camvid, f"With 25 it is worth nothing ({few})"
    yield camvid, f"takes {gain('GR+LR', 'GR+LR+mixup', 100, 'camvid', loss=True)} with 100 labelled photographs"
    both = [(dice("GR+LR+recommended", n, "camvid"), dice("GR+LR", n, "camvid", "c1")) for n in (25, 50)]
    yield camvid, "({} against {}, {} against {})".format(*(value for pair in both for value in pair))


def left(text: str, said: list[str]) -> set[str]:
    """Return the numbers of a text that are in none of what is said, nor between the marks of the written table.

    Raises:
        AssertionError: if the text does not say it.
    """
    first, last = map(re.escape, MARKS)
    text = " ".join(re.sub(rf"^{first}$.*?^{last}$", "", text, flags=re.DOTALL | re.MULTILINE).split())
    for claim in said:
        assert claim in text, f"must say: {claim}"
    for claim in said:
        text = text.replace(claim, "")
    return set(_NUMBER.findall(text))


@pytest.mark.parametrize("document", CLAIMING, ids=name_of)
def test_what_is_said_is_what_was_measured(document):
    said = [claim for name, claim in claims() if name == name_of(document)]
    assert left(document.read_text(encoding="utf-8"), said) == set()


def test_all_documents_with_claims_are_read():
    assert {name for name, _ in claims()} <= {name_of(path) for path in CLAIMING}


def test_what_is_wrong_is_found():
    text = (
        f"GD gives .571,\nmore than .443.\n{MARKS[0]}\n.999\n{MARKS[1]}\nRate 0.001, version 0.9.001, arXiv 2407.203."
    )
    assert left(text, ["GD gives .571, more"]) == {".443"}
    assert left(text, ["GD gives .571, more than .443"]) == set()
    with pytest.raises(AssertionError, match=r"must say: GD gives \.572"):
        left(text, ["GD gives .572"])
