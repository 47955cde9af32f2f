"""The log says whether weights are those that a bundle was released with; none are refused for that."""

from __future__ import annotations

import json

import pytest
import torch

from common.checkpoints import content_hash, read_weights, save_atomically
from common.released import compare_with_release


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "bundle" / "models" / "model.pt"
    save_atomically({"weight": torch.ones(2)}, path)
    (tmp_path / "bundle" / "configs").mkdir()
    return path


def describe(model, content, file="configs/metadata.json"):
    (model.parent.parent / file).write_text(content if isinstance(content, str) else json.dumps(content))


def in_metadata(digest):
    return {"weights": {"model.pt": {"sha256": digest}}}


def test_released_file(model, caplog):
    describe(model, in_metadata(content_hash(model)))
    with caplog.at_level("INFO"):
        read_weights(model)
    assert "is the file that this bundle was released with" in caplog.text


@pytest.mark.parametrize("file", ["configs/metadata.json", "large_files.json"])
def test_trained_file(model, caplog, file):
    digest = "0123456789abcdef" * 4
    large = {"large_files": [{"path": "models/model.pt", "url": "", "hash_val": digest, "hash_type": "sha256"}]}
    describe(model, large if file == "large_files.json" else in_metadata(digest), file)
    with caplog.at_level("INFO"):
        assert torch.equal(read_weights(model)["weight"], torch.ones(2))
    assert "model.pt: is not the file that this bundle was released with" in caplog.text
    assert "released 01234567..." in caplog.text


@pytest.mark.parametrize(
    "content", ["", "[]", "{", {}, {"weights": {}}, {"weights": []}, {"weights": {"model.pt": 1}}], ids=str
)
def test_bundle_that_says_nothing(model, caplog, content):
    describe(model, content)
    describe(model, {"large_files": [1, {"path": "models/model.pt"}]}, "large_files.json")
    with caplog.at_level("INFO"):
        assert compare_with_release(model) is None and caplog.text == ""


def test_file_elsewhere(model):
    describe(model, in_metadata("0" * 64))
    other = model.parent.parent / "output" / "model.pt"
    save_atomically({"weight": torch.ones(2)}, other)
    assert compare_with_release(other) is None
