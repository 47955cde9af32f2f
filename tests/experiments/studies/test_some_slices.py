"""One slice of each volume: what is kept, and what is trained on."""

from __future__ import annotations

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


@pytest.mark.parametrize(("way", "ways"), [("", ["slices", "volume"]), ("volume", ["volume"])])
def test_both_ways_are_trained(tmp_path, monkeypatch, way, ways):
    measured = []

    def measure(bundle, folder, dataset_dir, order, labelled, settings):
        measured.append((folder.name, len(labelled), settings["train"]["num_labelled"], settings["train"]["steps"]))
        return Point(order, labelled, (), 0.5)

    monkeypatch.setattr(module, "measure", measure)
    monkeypatch.setattr(module, "keep_one_slice_each", lambda source, ids, target: target)
    some_slices("data", str(tmp_path), draw="c2", way=way, steps=7)
    expected = {"slices": ("slices_c2", 8, 8, 7), "volume": ("volume_c2", 1, 1, 7)}
    assert measured == [expected[name] for name in ways]
    with pytest.raises(ValueError, match="way must be slices or volume"):
        some_slices("data", str(tmp_path), way="both")
