from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from common.data.datalists import acdc
from common.data.splits import Split, SplitError, draws_of, pretraining_ids, read_split, select

ACDC_SPLITS = Path(__file__).resolve().parents[3] / "bundle_acdc" / "configs" / "splits.json"
ACDC_DRAWS = {"1": 5, "2": 5, "8": 3, "all": 1}

VALID = {
    "source": "made up",
    "pretrain": ["a", "b", "v"],
    "test": ["t", "u"],
    "draws": {
        "1": {"c1": {"labelled": ["a"], "validation": ["v"]}, "c2": {"labelled": ["b"], "validation": ["w", "v"]}},
        "2": {"c1": {"labelled": ["b", "c"], "validation": ["v"]}},
        "all": {"c1": {"labelled": ["c", "b", "a"], "validation": ["v"]}},
    },
}


def patients(*numbers: int) -> tuple[str, ...]:
    return tuple(f"patient{number:03d}" for number in numbers)


@pytest.fixture
def split_file(tmp_path):
    def write(content) -> Path:
        path = tmp_path / "splits.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


@pytest.mark.parametrize(
    ("num_labelled", "draw", "labelled", "validation"),
    [
        (1, "c1", ("a",), ("v",)),
        ("1", "c2", ("b",), ("w", "v")),
        (2, "c1", ("b", "c"), ("v",)),
        ("all", "c1", ("c", "b", "a"), ("v",)),
    ],
    ids=["number", "digits", "two", "all"],
)
def test_reads_a_draw_in_the_order_of_the_file(split_file, num_labelled, draw, labelled, validation):
    split = read_split(split_file(VALID), num_labelled, draw)
    assert split == Split(pretrain=("a", "b", "v"), labelled=labelled, validation=validation, test=("t", "u"))


def test_a_byte_order_mark_changes_nothing(split_file):
    path = split_file(VALID)
    split = read_split(path, 1)
    path.write_text(json.dumps(VALID), encoding="utf-8-sig")
    assert read_split(path, 1) == split


def test_takes_the_first_draw_by_default_and_a_string_as_path(split_file):
    assert read_split(str(split_file(VALID)), 1).labelled == ("a",)


def test_source_may_be_left_out(split_file):
    content = {key: value for key, value in VALID.items() if key != "source"}
    assert read_split(split_file(content), 1).test == ("t", "u")


def test_lists_the_draws_by_number(split_file):
    assert draws_of(str(split_file(VALID))) == {1: ("c1", "c2"), 2: ("c1",), "all": ("c1",)}


def test_lists_no_draws_of_an_invalid_file(split_file):
    with pytest.raises(SplitError, match="test must be a list of at least one id"):
        draws_of(split_file({**VALID, "test": []}))


@pytest.mark.parametrize(
    ("num_labelled", "draw", "message"),
    [
        (3, "c1", "num_labelled must be one of 1, 2, all for .*splits.json, got 3"),
        ("c1", "1", "num_labelled must be one of 1, 2, all for .*splits.json, got 'c1'"),
        (1, "c3", "draw must be one of c1, c2 for num_labelled 1 of .*splits.json, got 'c3'"),
        (2, "c2", "draw must be one of c1 for num_labelled 2 .*, got 'c2'"),
    ],
)
def test_lists_the_draws_when_asked_for_another(split_file, num_labelled, draw, message):
    with pytest.raises(SplitError, match=message):
        read_split(split_file(VALID), num_labelled, draw)


def test_there_may_be_no_validation_volumes(split_file):
    content = copy.deepcopy(VALID)
    content["draws"]["1"]["c1"]["validation"] = []
    assert read_split(split_file(content), 1, "c1").validation == ()


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["pretrain"], ["a", "u", "t"], "pretrain and test must have no id in common, got t, u in both"),
        (["draws", "2", "c1", "labelled"], ["a", "t"], "draws 2 c1 labelled and test must have no .* got t in both"),
        (["draws", "2", "c1", "validation"], ["u"], "draws 2 c1 validation and test must have no .* got u in both"),
        (
            ["draws", "all", "c1", "validation"],
            ["c"],
            "draws all c1 validation and draws all c1 labelled must have no id in common, got c in both",
        ),
        (["pretrain"], ["a", "b", "a"], "pretrain must have each id once, got a more than once"),
        (["test"], ["t", "t"], "test must have each id once, got t more than once"),
        (["draws", "2", "c1", "labelled"], ["b", "b"], "draws 2 c1 labelled must have each id once, got b"),
        (["draws", "2", "c1", "labelled"], ["b"], "draws 2 c1 labelled must have 2 ids, got 1: b"),
        (["draws", "2", "c1", "labelled"], ["a", "b", "c"], "draws 2 c1 labelled must have 2 ids, got 3: a, b, c"),
        (["draws", "all", "c1", "labelled"], [], "draws all c1 labelled must be a list of at least one id"),
        (["test"], "t", "test must be a list of at least one id, each a string, got 't'"),
        (
            ["draws", "1", "c1", "validation"],
            "v",
            "draws 1 c1 validation must be a list of ids, each a string, got 'v'",
        ),
        (["pretrain"], [1, 2], "pretrain must be a list of at least one id, each a string"),
        (["draws"], {}, "draws must be an object with at least one member"),
        (["draws", "2"], ["c1"], "draws 2 must be an object with at least one member"),
        (["draws", "2", "c1"], {"labelled": ["b", "c"]}, "draws 2 c1 must be an object with the keys validation"),
        (["draws", "2", "c1"], ["b"], "draws 2 c1 must be an object with the keys labelled, validation"),
        (["draws", "02"], VALID["draws"]["2"], "keys of draws must be positive whole numbers or 'all', got '02'"),
        (["draws", "0"], VALID["draws"]["2"], "keys of draws must be .* got '0'"),
        (["draws", "ALL"], VALID["draws"]["all"], "keys of draws must be .* got 'ALL'"),
        (["validation"], ["v"], "the file must have no other keys than .* got .'validation'."),
    ],
)
def test_checks_the_whole_file_whichever_draw_is_read(split_file, keys, value, message):
    content = copy.deepcopy(VALID)
    target = content
    for key in keys[:-1]:
        target = target[key]
    target[keys[-1]] = value
    with pytest.raises(SplitError, match=f"splits.json.*{message}"):
        read_split(split_file(content), 1, "c1")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "splits.json must be valid JSON: .*line 1"),
        ("[]", "splits.json: the file must be an object with the keys draws, pretrain, test"),
        ("{}", "splits.json: the file must be an object with the keys draws, pretrain, test"),
    ],
    ids=["malformed", "list", "empty"],
)
def test_rejects_what_is_no_split_file(split_file, content, message):
    with pytest.raises(SplitError, match=message):
        read_split(split_file(content), 1)


def test_names_a_missing_file(tmp_path):
    with pytest.raises(SplitError, match=r"nowhere\.json', which does not exist"):
        read_split(tmp_path / "nowhere.json", 1)


DATALIST = [
    {"id": "a", "image": "/data/training/a/a.nii", "label": "/data/training/a/a_gt.nii"},
    {"id": "b", "image": "/data/training/b/b.nii"},
    {"id": "c", "image": "/data/training/c/c.nii", "label": "/data/training/c/c_gt.nii"},
]


def test_selects_in_the_order_of_the_ids_and_without_labels():
    assert select(DATALIST, ["c", "b"]) == [
        {"id": "c", "image": "/data/training/c/c.nii"},
        {"id": "b", "image": "/data/training/b/b.nii"},
    ]


def test_selects_with_labels_where_they_are_required():
    selected = select(DATALIST, ("c", "a"), require_label=True)
    assert selected == [DATALIST[2], DATALIST[0]]
    selected[0]["label"] = "changed"
    assert DATALIST[2]["label"] == "/data/training/c/c_gt.nii"


@pytest.mark.parametrize(
    ("datalist", "ids", "require_label", "message"),
    [
        (DATALIST, ["x", "a", "y"], False, "got x, y that the dataset does not have. Check the folder /data/training:"),
        (DATALIST, ["x"], True, "got x that the dataset does not have"),
        ([], ["x"], False, "Check dataset_dir, where no volume was found"),
        (DATALIST, ["a", "b"], True, "with a label, got b without one. Check the folder /data/training/b"),
    ],
    ids=["missing", "missing and labelled", "empty datalist", "no label"],
)
def test_names_the_volumes_it_cannot_select(datalist, ids, require_label, message):
    with pytest.raises(SplitError, match=message):
        select(datalist, ids, require_label)


def test_acdc_has_the_draws_of_the_paper():
    draws = draws_of(ACDC_SPLITS)
    assert {str(number): len(combinations) for number, combinations in draws.items()} == ACDC_DRAWS
    assert all(names == tuple(f"c{i + 1}" for i in range(len(names))) for names in draws.values())


@pytest.mark.parametrize(
    ("num_labelled", "draw"), [(n, f"c{c + 1}") for n, count in ACDC_DRAWS.items() for c in range(count)]
)
def test_acdc_counts(num_labelled, draw):
    split = read_split(ACDC_SPLITS, num_labelled, draw)
    num_expected = 78 if num_labelled == "all" else int(num_labelled)
    assert [len(ids) for ids in split] == [52, num_expected, 2, 20]


@pytest.mark.parametrize(
    ("num_labelled", "draw", "labelled", "validation"),
    [
        (1, "c1", patients(2), patients(11, 71)),
        (1, "c2", patients(42), patients(31, 72)),
        (1, "c3", patients(95), patients(11, 71)),
        (2, "c1", patients(42, 62), patients(31, 72)),
        (2, "c4", patients(2, 22), patients(11, 71)),
        (8, "c2", patients(2, 22, 42, 62, 95, 63, 94, 43), patients(31, 72)),
        (8, "c3", patients(2, 22, 42, 62, 95, 3, 94, 23), patients(11, 71)),
    ],
)
def test_acdc_draws(num_labelled, draw, labelled, validation):
    split = read_split(ACDC_SPLITS, num_labelled, draw)
    assert (split.labelled, split.validation) == (labelled, validation)


def test_acdc_benchmark_is_everything_but_validation_and_test():
    split = read_split(ACDC_SPLITS, "all")
    assert split.validation == patients(31, 71)
    assert set(split.labelled) == set(patients(*range(1, 101))) - set(split.validation) - set(split.test)


def test_acdc_pretraining_and_test_ids():
    split = read_split(ACDC_SPLITS, 1)
    tens = [*range(7, 11), *range(27, 31), *range(47, 51), *range(67, 71), *range(87, 91)]
    assert split.test == patients(*tens)
    assert split.pretrain[:7] == patients(1, 2, 3, 4, 5, 6, 12)
    assert split.pretrain[-4:] == patients(97, 98, 99, 100)
    assert set(patients(11, 31, 71, 94, 95)).isdisjoint(split.pretrain)


def test_acdc_ids_are_all_in_the_real_data(acdc_dir):
    datalist = acdc(acdc_dir)
    for num_labelled, count in ACDC_DRAWS.items():
        for draw in range(1, count + 1):
            for ids in read_split(ACDC_SPLITS, num_labelled, f"c{draw}"):
                items = select(datalist, ids, require_label=True)
                assert all(Path(item["image"]).is_file() and Path(item["label"]).is_file() for item in items)


PROSTATE_SPLITS = ACDC_SPLITS.parents[2] / "bundle_prostate" / "configs" / "splits.json"
MMWHS_SPLITS = ACDC_SPLITS.parents[2] / "bundle_mmwhs" / "configs" / "splits.json"


def prostate(*numbers: int) -> tuple[str, ...]:
    return tuple(f"prostate_{number:02d}" for number in numbers)


def heart(*numbers: int) -> tuple[str, ...]:
    return tuple(f"mr_train_{number}" for number in numbers)


@pytest.mark.parametrize(
    ("path", "draws", "counts", "benchmark"),
    [
        (PROSTATE_SPLITS, {1: 5, 2: 5, 8: 3, "all": 1}, [17, 2, 15], 15),
        (MMWHS_SPLITS, {1: 5, 2: 4, 8: 3, "all": 1}, [10, 2, 10], 8),
    ],
    ids=["prostate", "mmwhs"],
)
def test_draws_of_the_other_datasets(path, draws, counts, benchmark):
    assert draws_of(path) == {number: tuple(f"c{i + 1}" for i in range(count)) for number, count in draws.items()}
    for number, names in draws_of(path).items():
        for name in names:
            pretrain, labelled, validation, test = read_split(path, number, name)
            assert [len(pretrain), len(validation), len(test)] == counts
            assert len(labelled) == (benchmark if number == "all" else number)
            assert set(labelled) | set(validation) <= set(pretrain)


@pytest.mark.parametrize(
    ("path", "num_labelled", "draw", "labelled", "validation"),
    [
        (PROSTATE_SPLITS, 1, "c1", prostate(1), prostate(13, 14)),
        (PROSTATE_SPLITS, 1, "c5", prostate(4), prostate(25, 28)),
        (PROSTATE_SPLITS, 2, "c2", prostate(21, 24), prostate(17, 20)),
        (PROSTATE_SPLITS, 2, "c4", prostate(4, 10), prostate(13, 14)),
        (PROSTATE_SPLITS, 8, "c2", prostate(2, 4, 6, 7, 10, 16, 21, 18), prostate(17, 20)),
        (PROSTATE_SPLITS, 8, "c3", prostate(0, 1, 6, 7, 10, 17, 18, 24), prostate(25, 28)),
        (MMWHS_SPLITS, 1, "c2", heart(1006), heart(1001, 1008)),
        (MMWHS_SPLITS, 1, "c4", heart(1001), heart(1002, 1005)),
        (MMWHS_SPLITS, 2, "c2", heart(1009, 1008), heart(1007, 1002)),
        (MMWHS_SPLITS, 2, "c4", heart(1010, 1007), heart(1004, 1008)),
        (MMWHS_SPLITS, 8, "c1", heart(1001, 1003, 1004, *range(1006, 1011)), heart(1002, 1005)),
        (MMWHS_SPLITS, 8, "c3", heart(1001, *range(1003, 1007), *range(1008, 1011)), heart(1007, 1002)),
    ],
)
def test_labelled_and_validation_volumes_of_the_other_datasets(path, num_labelled, draw, labelled, validation):
    split = read_split(path, num_labelled, draw)
    assert (split.labelled, split.validation) == (labelled, validation)


def test_prostate_ids():
    split = read_split(PROSTATE_SPLITS, "all")
    assert split.pretrain == prostate(0, 1, 2, 4, 6, 7, 10, 13, 14, 16, 17, 18, 20, 21, 24, 25, 28)
    assert split.test == prostate(29, 31, 32, 34, 35, *range(37, 45), 46, 47)
    assert split.validation == prostate(13, 14)
    assert set(split.labelled) == set(split.pretrain) - set(split.validation)


def test_prostate_ids_are_those_that_have_labels(prostate_dir):
    split = read_split(PROSTATE_SPLITS, "all")
    names = {path.name.removesuffix(".nii.gz") for path in (prostate_dir / "msd_labelsTr").glob("*.nii.gz")}
    assert {*split.pretrain, *split.test} == names


def test_mmwhs_ids():
    split = read_split(MMWHS_SPLITS, "all")
    assert (split.pretrain, split.test) == (heart(*range(1001, 1011)), heart(*range(1011, 1021)))
    assert split == read_split(MMWHS_SPLITS, 8, "c1")


def test_pretraining_ids_take_extra_ones_but_no_test_volume():
    path = ACDC_SPLITS
    ids = pretraining_ids(path, ["patient011", "patient001"])
    assert len(ids) == 53 and ids[-1] == "patient011"
    with pytest.raises(SplitError, match="extra_unlabelled_ids and test must have no id in common, got patient007"):
        pretraining_ids(path, ["patient007"])
