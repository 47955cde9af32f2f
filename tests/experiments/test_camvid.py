"""The bundle for experiments on photographs that are at hand."""

from __future__ import annotations

import json

from bundles.draw import draw_split
from bundles.write import bundles_of_repository, write_folder
from common.data.datalists import camvid
from common.data.splits import draws_of
from experiments.cells import bundle_of
from experiments.grid import SCHEDULES
from experiments.report.figures import terms_of
from experiments.report.runs import Group
from tests.places import REPOSITORY

BUNDLE = REPOSITORY / "experiments" / "bundle_camvid"


def test_it_is_found_by_experiments_and_not_released():
    assert bundle_of("camvid") == BUNDLE
    assert BUNDLE not in bundles_of_repository()


def test_committed_files_are_what_is_written():
    assert write_folder(BUNDLE, check=True) == [], "run `python -m bundles write experiments/bundle_camvid`"


def test_split_follows_the_rule():
    path = BUNDLE / "configs" / "splits.json"
    split = json.loads(path.read_text())
    sizes = {25: 25, 50: 50, 100: 50}
    assert draw_split(split["pretrain"] + split["test"], 0, sizes, test=split["test"]) == split
    assert {number: len(names) for number, names in draws_of(path).items()} == {25: 3, 50: 3, 100: 3, "all": 1}


def test_split_is_that_of_the_files(camvid_dir):
    split = json.loads((BUNDLE / "configs" / "splits.json").read_text())
    ids = {item["id"]: item["image"] for item in camvid(camvid_dir)}
    assert sorted(ids) == sorted(split["pretrain"] + split["test"])
    assert {id_ for id_, path in ids.items() if "/test/" in path} == set(split["test"])


def test_the_report_says_where_the_terms_are():
    for dataset, folder in (("acdc", "bundle_acdc"), ("camvid", "experiments/bundle_camvid")):
        assert f"`{folder}/docs/data_license.txt`" in terms_of(Group(REPOSITORY, dataset, SCHEDULES["reduced"], []))
