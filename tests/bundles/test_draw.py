"""Splits that are drawn by a rule."""

from __future__ import annotations

import json

import pytest

from bundles.draw import draw, draw_split
from bundles.facts import FactsError
from common.data.splits import draws_of, read_split
from tests.made_up_photographs import write_label_map, write_photograph
from tests.places import BUNDLES

IDS = [f"p{number:03d}" for number in range(60)]
SIZES = {5: 4, 10: 8}


def test_lists_are_disjoint_and_as_long_as_asked_for():
    split = draw_split(IDS, 12, SIZES)
    assert len(split["test"]) == 12 and sorted(split["pretrain"] + split["test"]) == IDS
    for number, validation in SIZES.items():
        for lists in split["draws"][str(number)].values():
            assert (len(lists["labelled"]), len(lists["validation"])) == (number, validation)
            assert not set(lists["labelled"]) & set(lists["validation"])
            assert set(lists["labelled"]) | set(lists["validation"]) <= set(split["pretrain"])
    (benchmark,) = split["draws"]["all"].values()
    assert sorted(benchmark["labelled"] + benchmark["validation"]) == split["pretrain"]


def test_fewer_are_among_more_and_draws_differ():
    draws = draw_split(IDS, 12, SIZES)["draws"]
    for name in ("c1", "c2", "c3"):
        assert set(draws["5"][name]["labelled"]) < set(draws["10"][name]["labelled"])
        assert set(draws["5"][name]["validation"]) < set(draws["10"][name]["validation"])
    assert len({tuple(draws["10"][name]["labelled"]) for name in draws["10"]}) == 3


def test_the_order_of_the_ids_makes_no_difference_and_a_new_one_hardly_any():
    assert draw_split(IDS[::-1], 12, SIZES) == draw_split(IDS, 12, SIZES)
    more = draw_split([*IDS, "q"], 12, SIZES)["test"]
    assert len(set(more) & set(draw_split(IDS, 12, SIZES)["test"])) >= 11


def test_the_test_may_be_that_of_the_dataset():
    split = draw_split(IDS, 0, SIZES, test=IDS[7:20])
    assert split["test"] == IDS[7:20] and not set(split["pretrain"]) & set(IDS[7:20])


@pytest.mark.parametrize(
    ("num_test", "test", "message"),
    [
        (45, [], "10 labelled and 8 validation images must be drawn .* got 15 of these among 60"),
        (0, [], "num_test must be 0 where a folder says what the test is, and only there, got 0"),
        (5, ["p001"], "num_test must be 0 .* got 5"),
    ],
)
def test_too_few_are_refused(num_test, test, message):
    with pytest.raises(FactsError, match=message):
        draw_split(IDS, num_test, SIZES, test=test)


def test_the_split_of_street_scenes_follows_the_rule():
    path = BUNDLES["cityscapes"] / "configs" / "splits.json"
    split = json.loads(path.read_text())
    ids = split["pretrain"] + split["test"]
    assert draw_split(ids, 705, {100: 100, 200: 200, 400: 200}) == split
    assert (len(ids), len(split["pretrain"])) == (3475, 2770)
    assert {id_.split("_")[0] for id_ in split["test"]} >= {"frankfurt", "munster", "aachen"}  # of val and of train
    assert {number: len(names) for number, names in draws_of(path).items()} == {100: 3, 200: 3, 400: 3, "all": 1}
    assert len(read_split(path, "all").labelled) == 2570


@pytest.mark.parametrize("test_folder", ["", "imagesTs"])
def test_the_command_writes_the_split_of_a_bundle(tmp_path, capsys, test_folder):
    facts = {"class_names": ["background", "road"], "image_size": [32, 32], "modality": "RGB"}
    facts |= {"dataset_dir": str(tmp_path / "data"), "datalist": "$datalists.photograph_label_folders"}
    (tmp_path / "bundle_x" / "configs").mkdir(parents=True)
    (tmp_path / "bundle_x" / "dataset.json").write_text(json.dumps(facts))
    for number in range(10):
        folder = "imagesTs" if number > 7 else "imagesTr"
        write_photograph(tmp_path / "data" / folder / f"{number}.jpg")
        write_label_map(tmp_path / "data" / "labelsTr" / f"{number}.png", [[0]])
    draw(str(tmp_path / "bundle_x"), 0 if test_folder else 2, {2: 1}, num_draws=2, test_folder=test_folder)
    split = read_split(tmp_path / "bundle_x" / "configs" / "splits.json", 2, "c2")
    assert len(split.pretrain) == 8 and len(split.test) == 2
    assert not test_folder or split.test == ("8", "9")
    assert "8 images to pre-train on, 2 to test on" in capsys.readouterr().out
