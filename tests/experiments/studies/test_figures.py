"""Figures of the paper, from made-up slices."""

from __future__ import annotations

import pytest
import torch

import experiments.studies.figures as module
from common.checkpoints import content_hash, save_atomically
from common.data.slices import Slices
from common.networks import UNet2d
from common.records import read_record
from experiments.studies.figures import embed, figures, neighbour_accuracy, slice_partitions


def make_slices(depths, side=32):
    images = torch.rand(sum(depths), 1, side, side, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(sum(depths), side, side, dtype=torch.uint8)
    return Slices(images, labels, torch.tensor([0, *depths]).cumsum(0), [f"patient{k:03d}" for k in range(len(depths))])


def test_partitions_are_those_of_pretraining():
    expected = [0, 1, 2, 3, 0, 0, 1, 1, 2, 2, 3, 3, -1, -1, -1]
    assert slice_partitions(make_slices([4, 11])).tolist() == expected
    with pytest.raises(ValueError, match="patient001 has 3"):
        slice_partitions(make_slices([4, 3]))


def test_neighbours_are_of_other_volumes():
    volumes, partitions = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    by_volume = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    accuracy, chance = neighbour_accuracy(by_volume, volumes, partitions)
    # The nearest of all is always of the same volume; of the others, 0 -> 3, 1 -> 3, 2 -> 1, 3 -> 1.
    assert (accuracy, chance) == (0.5, 0.5)
    # By the angle, not by the length.
    by_partition = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.1, 0.0], [2.0, 3.0]])
    assert neighbour_accuracy(by_partition, volumes, partitions) == (1.0, 0.5)


def test_chance_is_the_share_of_the_partition_among_other_volumes():
    volumes, partitions = torch.tensor([0, 0, 1, 1, 1, 1]), torch.tensor([0, 1, 0, 1, 1, 1])
    _, chance = neighbour_accuracy(torch.rand(6, 3), volumes, partitions)
    assert chance == pytest.approx((1 / 4 + 3 / 4 + 4 * 1 / 2) / 6)


def test_neighbours_in_noise_agree_by_chance():
    volumes = torch.arange(100).repeat_interleave(8)
    partitions = torch.arange(4).repeat_interleave(2).repeat(100)
    accuracy, chance = neighbour_accuracy(
        torch.randn(800, 16, generator=torch.Generator().manual_seed(0)), volumes, partitions
    )
    assert chance == pytest.approx(0.25) and accuracy == pytest.approx(chance, abs=0.06)


def test_an_embedding_is_the_average_of_the_last_map():
    torch.manual_seed(0)
    network = UNet2d(4).eval()
    images = make_slices([21, 4]).images
    with torch.no_grad():
        expected = network.encoder(images)[-1].flatten(2).mean(dim=2)
    torch.testing.assert_close(embed(network, images), expected)


def test_figures_and_numbers_are_written(tmp_path, monkeypatch):
    given = {"test": make_slices([9, 4, 8]), "pretrain": make_slices([8])}
    monkeypatch.setattr(
        module, "load_slices", lambda dataset_dir, subsets, cache_dir: [given[name] for name in subsets]
    )
    torch.manual_seed(1)
    encoder = {name: value for name, value in UNet2d(4).state_dict().items() if name.startswith("encoder.")}
    save_atomically(encoder, tmp_path / "pretrained_encoder.pt")
    other = tmp_path / "other.pt"
    save_atomically(encoder, other)
    figures("data", str(tmp_path), str(tmp_path / "figures"), beside={"GR": str(other)})
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        "embeddings.json",
        "embeddings.png",
        "partitions.png",
    ]
    content = read_record(tmp_path / "figures" / "embeddings.json", "")
    sha256 = content_hash(tmp_path / "pretrained_encoder.pt")
    assert content["weights_sha256"] == {"pretrained_encoder.pt": sha256, "GR": content_hash(other)}
    assert content["beside"] == {"GR": content["neighbour_accuracy"]["after"]}  # the same weights
    assert (content["volumes"], content["slices"], content["partitions"]) == (3, 20, 4)
    shares = content["neighbour_accuracy"]
    assert list(shares) == ["before", "after", "chance"] and all(0 <= share <= 1 for share in shares.values())
    assert shares["chance"] == 0.25


def test_other_weights_must_have_names():
    with pytest.raises(ValueError, match=r"beside must be files by name, .* got 'GR=FILE'"):
        figures("data", "runs", "figures", beside="GR=FILE")
