"""What the local losses come to where only the place in the frame is known, from made-up slices."""

from __future__ import annotations

import pytest
import torch

import experiments.studies.place as module
from common.checkpoints import content_hash, save_atomically
from common.data.slices import Slices
from common.networks import UNet2d
from common.records import read_record
from common.strategies import make_layout
from experiments.studies.place import CASES, Coordinates, ShiftedViews, losses, place


@pytest.fixture(scope="module")
def slices():
    """Three volumes of four slices of noise."""
    return Slices(torch.rand(12, 1, 64, 64, generator=torch.Generator().manual_seed(0)), None, torch.arange(4) * 4)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "pretrained_encoder.pt"
    save_atomically({key: value for key, value in UNet2d(4).state_dict().items() if key[:8] == "encoder."}, path)
    return path


def test_coordinates_solve_the_task_of_lr_and_not_that_of_le(slices, weights):
    """Of noise in which every place looks like any other."""
    lr, le = (losses(strategy, "coordinates only", slices, weights, 40, num_pixels=240) for strategy in ("LR", "LE"))
    assert lr[0] < 0.2 and lr[-1] < 0.05
    assert le[-1] > 0.8


def test_coordinates_say_nothing_of_the_image():
    torch.manual_seed(0)
    for dense, shape in ((True, (2, 64, 16, 24)), (False, (2, 17, 128))):
        network = Coordinates(dense).eval()
        found = network(torch.rand(2, 1, 64, 96))
        assert found.shape == shape and torch.equal(found[0], found[1])
        assert torch.equal(found, network(torch.zeros(2, 1, 64, 96)))


def test_second_views_are_moved_and_the_first_are_not(generator):
    layout = make_layout("LR", 8)
    images = torch.rand(4, 1, 96, 128, generator=generator)
    targets = object()
    batch, kept = ShiftedViews(lambda *_: (torch.cat([images, images]), targets), layout)(images, None, generator)
    assert kept is targets and torch.equal(batch[:4], images)
    for image, moved in zip(images[:, 0], batch[4:, 0], strict=True):
        assert torch.equal(moved.flatten().sort().values, image.flatten().sort().values)
        place_of_first = (moved == image[0, 0]).nonzero()[0]
        for distance, side in zip(place_of_first.tolist(), (96, 128), strict=True):
            assert 8 <= min(distance, side - distance) <= 16


def test_all_cases_are_measured_and_drawn(slices, weights, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "load_slices", lambda dataset_dir, subsets, cache_dir: [slices])
    monkeypatch.setattr(module, "losses", lambda strategy, case, *_: [1.0, 0.5] if case in CASES else None)
    place("somewhere", str(weights.parent), str(tmp_path), steps=2)
    record = read_record(tmp_path / "place.json", "again")
    assert record["weights_sha256"] == {weights.name: content_hash(weights)} and record["steps"] == 2
    found = record["loss_as_share_of_chance"]
    assert {strategy: len(cases) for strategy, cases in found.items()} == {"LR": 4, "LD": 4, "LE": 3}
    assert (tmp_path / "place.png").stat().st_size > 1000


@pytest.mark.parametrize(("strategy", "case"), [("LD", "views shifted"), ("LE", "untrained encoder")])
def test_networks_are_trained(slices, weights, strategy, case):
    found = losses(strategy, case, slices, weights, 2, num_pixels=120)
    assert len(found) == 2 and all(0 < value < 3 for value in found) and found[0] != found[1]
