"""Lists of labelled volumes: ids, or a JSON file of them."""

from __future__ import annotations

import json

import pytest

from common.data.selections import read_selection, require_free, with_labelled
from common.data.split_volumes import SplitVolumes
from common.data.splits import Split, SplitError

SPLIT = Split(pretrain=("a", "b", "c"), labelled=("a",), validation=("v", "c"), test=("t",))


@pytest.mark.parametrize("given", [["b", "a"], ("b", "a")])
def test_ids(given):
    assert read_selection(given) == ("b", "a")


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_file(tmp_path, mark):
    (tmp_path / "s.json").write_text(mark + json.dumps(["b", "ä"]), encoding="utf-8")
    assert read_selection(tmp_path / "s.json") == read_selection(str(tmp_path / "s.json")) == ("b", "ä")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"s\.json', which cannot be read \(No such file.*\['first','second'\]"),
        ("[", r"s\.json must be a JSON list of ids .*: run select again"),
        ('{"a": 1}', r"s\.json must be a list of ids, each a string, got \{'a': 1\}"),
        ("[1]", "each a string, got"),
        ('["a", "b", "a"]', r"s\.json must have each id once, got a more than once"),
    ],
)
def test_files_that_are_none(tmp_path, text, message):
    if text is not None:
        (tmp_path / "s.json").write_text(text)
    with pytest.raises(SplitError, match=message):
        read_selection(str(tmp_path / "s.json"))


def test_binary_file(tmp_path):
    (tmp_path / "s.json").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(SplitError, match="must be a JSON list of ids"):
        read_selection(tmp_path / "s.json")


def test_a_split_with_other_labelled_volumes():
    assert with_labelled(SPLIT, ["b", "x"]) == SPLIT._replace(labelled=("b", "x"))


@pytest.mark.parametrize(
    ("labelled", "message"),
    [
        ([], "labelled must have at least one id, got none"),
        (["b", "t"], "must not be for the test, got t: take them out.$"),
        (["c", "b"], "must not be for the validation, got c: take them out or choose another draw"),
    ],
)
def test_volumes_that_must_not_be_labelled(labelled, message):
    with pytest.raises(SplitError, match=message):
        with_labelled(SPLIT, labelled)


def test_nothing_labelled_is_free():
    require_free(SPLIT, [])


@pytest.fixture
def volumes(tmp_path):
    draws = {"1": {"c1": {"labelled": ["a"], "validation": ["v"]}, "c2": {"labelled": ["a"], "validation": ["c"]}}}
    content = {"pretrain": ["a", "b", "c"], "test": ["t"], "draws": draws}
    (tmp_path / "splits.json").write_text(json.dumps(content))

    def datalist(folder):
        return [{"id": id_, "image": f"{folder}/{id_}", "label": f"{folder}/{id_}_gt"} for id_ in "abcovt"]

    def make(*arguments, **options):
        return SplitVolumes(datalist, str(tmp_path), tmp_path / "splits.json", *arguments, **options)

    return make


def ids(items):
    return [item["id"] for item in items]


def test_a_selection_takes_the_place_of_the_draws_volumes(volumes, tmp_path):
    (tmp_path / "s.json").write_text('["b", "o"]')
    split = volumes(labelled=str(tmp_path / "s.json"))
    assert ids(split.labelled()) == ["b", "o"] and all("label" in item for item in split.labelled())
    assert ids(split.validation()) == ["v"] and ids(split.subset("labelled")) == ["b", "o"]
    assert ids(volumes(labelled=None).labelled()) == ["a"]


def test_a_selection_of_another_dataset(volumes):
    with pytest.raises(SplitError, match="among the volumes of the dataset, got prostate_01 that the dataset does not"):
        volumes(labelled=["b", "prostate_01"]).labelled()


def test_candidates_are_neither_labelled_nor_for_validation(volumes):
    split = volumes(1, "c2", extra_unlabelled_ids=["o"])
    assert ids(split.candidates([])) == ["a", "b", "o"] and ids(split.candidates(["b"])) == ["a", "o"]
    assert not any("label" in item for item in [*split.candidates([]), *split.unlabelled(["b"])])
    with pytest.raises(SplitError, match="must not be for the test, got t"):
        split.unlabelled(["t"])
