"""What the probe measures, on made-up maps, and where its slices and networks come from."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.nn import functional as F

import experiments.studies.probe as module
from common.checkpoints import content_hash, save_atomically
from common.data.slices import Slices
from common.networks import UNet2d
from common.records import read_record
from experiments.studies.probe import _anatomy_over_place, _probe_dice, _region_match, load_network, load_slices, probe
from phantom import write_acdc_phantom, write_phantom_splits


def coordinates(count, side):
    """Maps that tell the place: a bump function of row and column, the same in every slice."""
    line = torch.linspace(-1, 1, side)
    bumps = torch.stack([torch.exp(-((line - centre) ** 2) / 0.02) for centre in torch.linspace(-1, 1, 9)])
    maps = (bumps[:, None, :, None] * bumps[None, :, None, :]).flatten(0, 1)
    return maps.expand(count, -1, -1, -1)


def test_region_match_of_maps_that_tell_the_place_is_one_and_of_noise_is_chance():
    starts = torch.tensor([0, 8, 17, 25])
    assert _region_match(coordinates(25, 48), starts) == 1
    noise = torch.randn(25 * 40, 6, 48, 48, generator=torch.Generator().manual_seed(0))
    assert _region_match(noise, torch.arange(101) * 10) == pytest.approx(1 / 13, abs=0.02)


class Pooling(torch.nn.Module):
    """Stands in for the U-Net: maps are the pooled images, or the place whatever the image shows."""

    def __init__(self, place):
        super().__init__()
        self.place = place

    def encoder(self, images):
        return images

    def decoder(self, images, num_blocks):
        pooled = F.avg_pool2d(images, 4)
        if self.place:
            return coordinates(len(images), pooled.shape[2])
        return torch.cat([pooled**k for k in (1, 2, 3, 4)], dim=1)


@pytest.mark.parametrize(("place", "expected"), [(False, 1.0), (True, 0.0)])
def test_anatomy_over_place(place, expected):
    images = torch.rand(3, 1, 192, 192, generator=torch.Generator().manual_seed(0))
    slices = Slices(images, torch.zeros(3, 192, 192, dtype=torch.uint8), torch.tensor([0, 3]))
    network = Pooling(place)
    share = _anatomy_over_place(network, slices, network.decoder(images, 3))
    assert share == pytest.approx(expected, abs=0.02)


def test_probe_dice_is_one_where_classes_are_linear_in_the_maps():
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(4, (2, 6, 6), generator=generator)
    maps = F.one_hot(targets, 4).permute(0, 3, 1, 2).float()
    assert _probe_dice(maps, targets, maps, targets, ridge=1e-6) == 1
    noise = torch.randn(2, 4, 6, 6, generator=generator)
    assert _probe_dice(noise, targets, torch.randn(2, 4, 6, 6, generator=generator), targets) < 0.5


def noise_slices(num_volumes, depth, side):
    images = torch.rand(num_volumes * depth, 1, side, side, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(4, (num_volumes * depth, side, side), generator=torch.Generator().manual_seed(1))
    return Slices(images, labels.to(torch.uint8), torch.arange(num_volumes + 1) * depth)


@pytest.fixture
def weights_dir(tmp_path):
    torch.manual_seed(5)
    held = {k: v for k, v in UNet2d(4).state_dict().items() if not k.startswith(("head.", "decoder.blocks.4."))}
    save_atomically(held, tmp_path / "pretrained_encoder_decoder.pt")
    return tmp_path


def test_slices_are_those_of_the_split(tmp_path, monkeypatch):
    ids = write_acdc_phantom(tmp_path / "phantom", 3, (48, 64))
    write_phantom_splits(tmp_path / "splits.json", ids, 1, (1,))
    small = {"image_size": [32, 32], "spacing_mm": 4.0, "n4_iterations": [2, 2]}
    read = partial(module.load_config, split_path=str(tmp_path / "splits.json"), **small)
    monkeypatch.setattr(module, "load_config", read)
    test, unlabelled = load_slices(str(tmp_path / "phantom"), ("test", "pretrain"), str(tmp_path / "cache"))
    assert (test.ids, unlabelled.ids) == ([ids[2]], [ids[0]])
    assert test.images.shape[1:] == (1, 32, 32) and test.labels.shape == (len(test), 32, 32)
    assert len(list((tmp_path / "cache").glob("*.pt"))) == 2


def test_networks_take_the_parts_and_fresh_statistics(weights_dir):
    path, unlabelled = weights_dir / "pretrained_encoder_decoder.pt", noise_slices(1, 8, 32)
    held = torch.load(path)
    random, first, second = (
        load_network(weights, unlabelled, parts)
        for weights, parts in ((None, ()), (path, ("encoder.",)), (path, ("encoder.",)))
    )
    assert not first.training
    for name, value in first.named_parameters():
        other = held[name] if name.startswith("encoder.") else dict(random.named_parameters())[name]
        assert torch.equal(value, other), name
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())
    mean = first.encoder.levels[0][0][1].running_mean
    assert not torch.equal(mean, torch.zeros_like(mean))


def test_numbers_and_weights_are_written(tmp_path, weights_dir, monkeypatch):
    given = {"labelled": noise_slices(1, 4, 192), "test": noise_slices(2, 4, 192), "pretrain": noise_slices(1, 2, 192)}
    monkeypatch.setattr(
        module, "load_slices", lambda dataset_dir, subsets, cache_dir: [given[name] for name in subsets]
    )
    path, other = weights_dir / "pretrained_encoder_decoder.pt", tmp_path / "other.pt"
    held = torch.load(path)
    save_atomically({k: v.flip(0) if k.startswith("decoder.") else v for k, v in held.items()}, other)
    probe("data", {"GD+LR": str(path), "GD+LE": str(other)}, str(tmp_path / "probe.json"))
    content = read_record(tmp_path / "probe.json", "")
    assert content["weights_sha256"] == {"GD+LR": content_hash(path), "GD+LE": content_hash(other)}
    assert [row.pop("start") for row in content["starts"]] == ["random", "encoder, random decoder", "GD+LR", "GD+LE"]
    assert all(0 <= value <= 1 for row in content["starts"] for value in row.values())
    assert len({tuple(row.values()) for row in content["starts"]}) == 4


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("{'GD+LR': a.pt}", "weights must be files by name, .* got \"{'GD"),
        ({}, "weights must be files by name"),
        ({"random": "a.pt"}, "weights must have other names than random, which"),
    ],
    ids=["text", "none", "name taken"],
)
def test_probe_rejects(weights, message):
    with pytest.raises(ValueError, match=message):
        probe("data", weights)
