"""Facts of a dataset: defaults, and what is refused."""

from __future__ import annotations

import json

import pytest

from bundles.facts import FactsError, read_facts

NEEDED = {"class_names": ["background", "liver"], "spacing_mm": 1.5, "image_size": [96, 128]}


def write(folder, **changes):
    path = folder / "facts.json"
    path.write_text(json.dumps({**NEEDED, **changes}))
    return path


def test_three_facts_are_enough(tmp_path):
    facts = read_facts(write(tmp_path))
    assert facts.datalist == "$datalists.image_label_folders" and facts.label_values is None
    assert facts.further_frames is None and facts.end_systole is None and facts.ventricles == ()
    assert (facts.modality, facts.format, facts.slice_axis) == ("MR", "magnitude", "thickest")


def test_views_are_the_papers_share_of_the_smaller_side(tmp_path):
    assert read_facts(write(tmp_path, image_size=[192, 224])).crop_size == 100
    facts = read_facts(write(tmp_path))
    assert (facts.crop_size, facts.crop_start) == (50, (5, 34))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": ["background"]}, r"class_names must be a list of at least two different names, got \['backgr"),
        ({"class_names": ["a", "a"]}, "two different names"),
        ({"spacing_mm": 0}, "spacing_mm must be a number above 0, or a list of two, got 0"),
        ({"spacing_mm": [1.0]}, "a list of two"),
        ({"image_size": [100, 96]}, r"image_size must be a list of two multiples of 32, got \[100, 96\]"),
        ({"datalist": "datalists.x"}, "the name of a function"),
        ({"datalist": "$__import__('os').getcwd()"}, "the name of a function"),
        ({"further_frames": "$datalists.acdc_further_frames(1)"}, "the name of a function, as in .*, or null"),
        ({"end_systole": "acdc_end_systole", "ventricles": ["liver"]}, "the name of a function, as in .*, or null"),
        ({"end_systole": "$datalists.x", "ventricles": ["LV"]}, "ventricles must be among class_names, got LV"),
        ({"end_systole": "$datalists.x"}, r"must be given together, got '\$datalists.x' and \[\]: add the other"),
        ({"ventricles": ["liver"]}, r"must be given together, got None and \['liver'\]"),
        ({"extra_unlabelled_ids": "$__import__('os')"}, "a list of ids"),
        ({"label_values": {"a": 1}}, "an object from values to class indices"),
        ({"label_values": {"0": 0, "5": 2}}, r"must lead to the classes 0 to 1 of class_names, got \[2\]"),
        ({"channel": -1}, "the index of a channel"),
        ({"slice_axis": "z"}, '"thickest" or "fixed"'),
        ({"crop_size": 97}, "crop_size must be at most 96, a side of image_size, got 97"),
        ({"modality": "US"}, '"MR" or "CT" or "RGB", got'),
        ({"crop_share": [0.5, 1.0]}, r"has crop_share, which only photographs have \(modality MR\): leave that out"),
        ({"num_labelled": 0}, "num_labelled must be a whole number from 1, got 0"),
        ({"colour": "red"}, "has colour, which is no fact. There are: class_names"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, changes, message):
    with pytest.raises(FactsError, match=message):
        read_facts(write(tmp_path, **changes))


PHOTOGRAPHS = {"class_names": ["background", "road"], "image_size": [64, 96], "modality": "RGB"}


def write_photographs(folder, **changes):
    path = folder / "facts.json"
    path.write_text(json.dumps({**PHOTOGRAPHS, **changes}))
    return path


def test_photographs_have_no_pixel_size(tmp_path):
    facts = read_facts(write_photographs(tmp_path))
    assert facts.is_photographs and facts.spacing_mm is None and facts.crop_size is None
    assert facts.channels == ("red", "green", "blue") and facts.crop_share == (0.5, 1.0)
    assert not read_facts(write(tmp_path)).is_photographs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"spacing_mm": 1.5, "largest_component": True},
            "has spacing_mm, largest_component, which photographs have not",
        ),
        ({"n4_shrink": None}, r"has n4_shrink, which photographs have not \(modality RGB\): leave that out"),
        ({"crop_share": [0.8, 0.5]}, "crop_share must be a list of the smallest and the largest, above 0 and up to 1"),
        ({"crop_share": [0.5, 2]}, "crop_share must be"),
        ({"image_size": [64, 90]}, "two multiples of 32"),
    ],
)
def test_what_photographs_cannot_have_is_refused(tmp_path, changes, message):
    with pytest.raises(FactsError, match=message):
        read_facts(write_photographs(tmp_path, **changes))


def test_missing_facts_are_named(tmp_path):
    path = tmp_path / "facts.json"
    path.write_text('{"spacing_mm": 1}')
    with pytest.raises(FactsError, match="lacks class_names, image_size: add them"):
        read_facts(path)


@pytest.mark.parametrize("text", ["{", "[]", None])
def test_files_that_are_no_facts(tmp_path, text):
    path = tmp_path / "facts.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(FactsError, match="facts.json must be a JSON"):
        read_facts(path)
