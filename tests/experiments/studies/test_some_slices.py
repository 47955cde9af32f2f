"""One slice of each volume: what is kept, and what is trained on."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest

import experiments.studies.some_slices as module
from experiments.curve import Point
from experiments.studies.some_slices import keep_one_slice_each, some_slices


def test_one_slice_is_kept_and_the_rest_is_the_same(phantom, tmp_path):
    ids = ("patient001", "patient003")
    copy = keep_one_slice_each(phantom.dataset_dir, ids, tmp_path / "copy")
    levels = []
    for id_ in phantom.items:
        old = phantom.label(id_)
        new = copy / "training" / old.parent.name / old.name
        before, after = (np.asanyarray(nibabel.load(path).dataobj) for path in (old, new))
        assert np.array_equal(nibabel.load(new).affine, nibabel.load(old).affine)
        if id_ in ids:
            (kept,) = np.flatnonzero((after != 255).any(axis=(0, 1)))
            assert np.array_equal(after[..., kept], before[..., kept]) and (after[..., kept] > 0).any()
            levels.append(kept)
        else:
            assert new.is_symlink() and np.array_equal(before, after)
    assert levels[0] < levels[1]  # another level of the heart
    assert keep_one_slice_each(phantom.dataset_dir, ids, tmp_path / "copy") == copy


def test_both_ways_are_trained_once(tmp_path, monkeypatch):
    measured = []

    def measure(bundle, folder, dataset_dir, order, labelled, settings):
        measured.append((folder.name, len(labelled), settings["train"]["num_labelled"], settings["train"]["steps"]))
        return Point(order, labelled, ({}, {}), 0.5)

    monkeypatch.setattr(module, "measure", measure)
    monkeypatch.setattr(module, "keep_one_slice_each", lambda source, ids, target: target)
    output = tmp_path / "some_slices.json"
    some_slices("data", str(output), draws="c2", runs_dir=str(tmp_path), steps=7)
    assert measured == [("slices_c2", 8, 8, 7), ("volume_c2", 1, 1, 7)]
    some_slices("data", str(output), draws=["c2", "c3"], runs_dir=str(tmp_path), steps=7)
    assert [name for name, *_ in measured[2:]] == ["slices_c3", "volume_c3"]
    record = json.loads(output.read_text())
    assert record["volumes"] == 2 and record["settings"] == {"steps": 7}
    assert [(row["draw"], row["way"], len(row["labelled"])) for row in record["rows"]] == [
        ("c2", "slices", 8),
        ("c2", "volume", 1),
        ("c3", "slices", 8),
        ("c3", "volume", 1),
    ]
    with pytest.raises(ValueError, match="same settings, {}, got {'steps': 7}: name another output"):
        some_slices("data", str(output))
