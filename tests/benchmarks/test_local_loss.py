from __future__ import annotations

import torch

from benchmarks import harness, local_loss
from benchmarks.local_loss import vector_sizes
from common.networks import LocalPretrainingNet, UNet2d


def test_blocks_with_vectors_of_one_length_share_a_case():
    assert vector_sizes(1) == {128: ["d1", "d2"], 64: ["d3"], 32: ["d4"], 16: ["d5"]}
    assert vector_sizes(3) == {128: ["d1", "d2", "d3", "d4", "d5"]}


def test_lengths_are_those_of_the_network(generator):
    images = torch.rand(2, 1, 128, 128, generator=generator)
    for region_size in (1, 3):
        for size, blocks in vector_sizes(region_size).items():
            for block in blocks:
                network = LocalPretrainingNet(UNet2d(2), int(block[1]), region_size)
                assert network(images).shape == (2, 13 if region_size == 1 else 17, size)


def test_all_cases_with_both_contenders(monkeypatch):
    monkeypatch.setattr(harness, "RUN_SECONDS", 0.0)
    monkeypatch.setattr(local_loss, "NUM_PIXELS", 240)
    monkeypatch.setattr(local_loss, "_MAP", (4, 6, 6))
    monkeypatch.setattr(local_loss, "vector_sizes", lambda region_size: {8 * region_size: ["d1"]})
    outcome = local_loss.measure(num_slices=12, repetitions=1)
    lengths = [(1, 8), (3, 24)]
    rows = [row for row in outcome["rows"] if "K" in row]
    assert [(row["strategy"], row["K"], row["vector length"], row["contender"]) for row in rows] == [
        (strategy, *case, contender)
        for strategy in ("LR", "LD")
        for case in lengths
        for contender in ("ours", "loop form")
    ]
    dense = outcome["rows"][len(rows) :]
    assert [(row["strategy"], row["pixels"], row["contender"]) for row in dense] == [
        *[("LE", 24, contender) for contender in ("ours", "loop form", local_loss.LIBRARY)],
        ("LE", 240, "ours"),
        *[("LX", 24, contender) for contender in ("ours", "loop form")],
        ("LX", 240, "ours"),
    ]
    assert all(row["difference of value"] < 1e-5 for row in dense if row["contender"] != "ours")
    loops = [row for row in outcome["rows"] if row["contender"] == "loop form"]
    assert all(row["difference of value"] < 1e-5 for row in loops)
    equal, fast = outcome["targets"]
    assert equal["met"] and equal["measured"] == max(row["difference of value"] or 0.0 for row in outcome["rows"])
    assert fast["measured"] == min(row["times ours"] for row in loops) > 1
    assert outcome["notes"][0].startswith("24 images.")
