"""Which subsets may have images in common."""

from __future__ import annotations

import itertools
import logging

import pytest

from common.data import leaks
from common.data.content import Content
from common.data.leaks import LABELLED, PRETRAINING, SELF_TRAINING, STATISTICS, TEST, VALIDATION, LeakError

SUBSETS = (LABELLED, VALIDATION, TEST, PRETRAINING, STATISTICS, SELF_TRAINING)
REFUSED = {frozenset(pair) for pair in [(LABELLED, VALIDATION), *((TEST, other) for other in SUBSETS if other != TEST)]}


def volume(name, image, label=None):
    return Content(name, image, label, f"/data/{name}.nii.gz")


@pytest.mark.parametrize("pair", itertools.combinations(SUBSETS, 2), ids=" and ".join)
def test_which_subsets_may_share(pair):
    subsets = {pair[0]: [volume("a", "1"), volume("b", "2")], pair[1]: [volume("c", "3"), volume("d", "2")]}
    if frozenset(pair) not in REFUSED:
        leaks.check(subsets)
        return
    with pytest.raises(LeakError) as caught:
        leaks.check(subsets)
    for part in (f"{pair[0]} and {pair[1]} volumes", "/data/b.nii.gz", "/data/d.nii.gz", "Take the volume out"):
        assert part in str(caught.value)
    assert "/data/a" not in str(caught.value)


def test_all_leaks_are_named_at_once():
    with pytest.raises(LeakError) as caught:
        leaks.check({LABELLED: [volume("a", "1")], VALIDATION: [volume("b", "1")], TEST: [volume("c", "1")]})
    assert str(caught.value).count("must have no image in common") == 3


def test_an_image_twice_in_a_subset_is_logged_once(caplog):
    with caplog.at_level(logging.WARNING):
        leaks.check({LABELLED: [volume("a", "1", "2"), volume("b", "1", "3"), volume("c", "4", "5")], VALIDATION: []})
    (record,) = caplog.records
    assert "2 times among the labelled volumes: a (/data/a.nii.gz), b (/data/b.nii.gz), with different labels" in (
        record.getMessage()
    )


def test_equal_labels_of_different_images_are_no_leak(caplog):
    leaks.check({LABELLED: [volume("a", "1", "9"), volume("b", "2", "9")], VALIDATION: [volume("c", "3", "9")]})
    assert not caplog.records


def test_earlier_stages_count(caplog):
    test, earlier = {TEST: [volume("a", "1")]}, [volume("b", "1")]
    with pytest.raises(LeakError, match="pre-training of the encoder"):
        leaks.check(test, {"pre-training of the encoder": earlier})
    leaks.check({VALIDATION: [volume("a", "1")]}, {"pre-training of the encoder": earlier})
    assert not caplog.records
    leaks.check({VALIDATION: [volume("a", "1")]}, {"labelled of the teacher": earlier})
    assert "no fair choice" in caplog.text


def test_without_a_dataset_folder_nothing_is_known_of_a_test(tmp_path):
    assert leaks.test_volumes(lambda folder: 1 / 0, str(tmp_path / "nowhere"), tmp_path / "splits.json") == []


def test_without_a_split_it_is_said(tmp_path, caplog):
    assert leaks.test_volumes(lambda folder: [], str(tmp_path), tmp_path / "splits.json") == []
    assert "splits.json" in caplog.text and "does not exist" in caplog.text
