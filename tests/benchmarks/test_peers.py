"""The benchmark beside peers: with stand-ins where these are not installed, with themselves where they are."""

from __future__ import annotations

import itertools
import multiprocessing
import re
import sys
import time
from types import ModuleType, SimpleNamespace

import nibabel
import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import peers, step
from benchmarks.peers import segmentation, training
from benchmarks.peers.feed import Feed
from benchmarks.peers.training import DATA, LIGHTLY, NNUNET, NO_PRECISION, STOCK, WHOLE, Case
from common.engines.precision import resolve_precision
from tests.places import REPOSITORY

CPU = torch.device("cpu")
SIDE = 64
NUM_IMAGES = 4
SETTINGS = {"device": "cpu", "image_size": [64, 64], "spacing_mm": 2.4, "precision": "float32"}
FINE_TUNING = Case("fine-tuning", "fine-tuning", NUM_IMAGES, (NNUNET, STOCK))


def precisions():
    return list(dict.fromkeys(str(resolve_precision(name, CPU)).removeprefix("torch.") for name in ("auto", "float32")))


# --------------------------------------------------------------------------------------------------------------- feed


def count(queue, counter):
    for number in itertools.count():
        counter.value = number
        queue.put(number)


@pytest.fixture
def counting():
    """A feed with one worker, the value it is at, and the process."""
    counter, queue, started = multiprocessing.Value("q", 0), multiprocessing.Queue(3), []

    def start():
        process = multiprocessing.Process(target=count, args=(queue, counter), daemon=True)
        process.start()
        started.append(process)
        return iter(queue.get, None)

    def finish(batches):
        process.terminate()
        process.join(5)

    feed = Feed(start, finish)
    (process,) = started
    yield feed, counter, process
    with feed:
        pass


def test_workers_rest_between_runs(counting):
    feed, counter, _ = counting
    assert (feed.first, feed.workers) == (0, 1)
    time.sleep(0.1)
    before = counter.value
    time.sleep(0.2)
    assert counter.value == before  # it rests, whether its queue has room or not
    assert list(feed.take(5)) == [1, 2, 3, 4, 5]
    assert list(feed.take(5)) == [6, 7, 8, 9, 10]
    time.sleep(0.1)
    before = counter.value
    assert 10 <= before <= 15
    time.sleep(0.2)
    assert counter.value == before


def test_workers_go_on_while_batches_are_taken(counting):
    feed, counter, _ = counting
    taken = feed.take(2)
    assert next(taken) == 1
    time.sleep(0.5)
    assert counter.value >= 4  # the queue is full again
    assert list(taken) == [2]


def test_the_end_of_a_feed_ends_its_workers(counting):
    feed, _, process = counting
    with feed:
        assert process.is_alive()
    assert not process.is_alive()
    with pytest.raises(RuntimeError, match="take must come before the end of the feed's `with` block"):
        next(feed.take(1))


def test_a_feed_without_workers():
    with Feed(itertools.count) as feed:
        assert (feed.first, feed.workers) == (0, 0)
        assert list(feed.take(2)) == [1, 2]
        assert list(feed.take(1)) == [3]


# ----------------------------------------------------------------------------------------------------------- training


class StandIn:
    """What `benchmarks.peers.nnunet` has, as far as training needs it; counts."""

    def __init__(self, side: int = SIDE) -> None:
        self.side = side
        self.steps = 0

    def store(self, slices, folder):
        assert slices.labels is not None

    def make_trainer(self, slices, batch_size, class_names, folder):
        assert len(class_names) == step.NUM_CLASSES
        self.batch_size = batch_size
        return self

    def train_step(self, batch):
        self.steps += 1
        time.sleep(0.001)

    def default_workers(self):
        return 0

    def feed(self, trainer, workers):
        batch = {"data": torch.rand(self.batch_size, 1, self.side, self.side), "target": torch.zeros(1)}
        return Feed(lambda: itertools.repeat(batch))


def run_case(case, modules, folder):
    slices = step.random_slices(case.stage == "fine-tuning", SIDE, CPU)
    return training.measure_case(case, slices, modules, folder, batches=1, steps=2, repetitions=1)


@pytest.fixture
def one_core(monkeypatch):
    """A peer that takes as many workers as there are cores takes one."""
    monkeypatch.setattr(training, "num_cores", lambda: 1)


def test_rows_and_targets_of_a_case(tmp_path, one_core):
    nnunet = StandIn()
    rows, targets, notes = run_case(FINE_TUNING, {NNUNET: nnunet}, tmp_path)
    labels = ["nnU-Net, 1 worker", "nnU-Net, 0 workers", "stock MONAI, 1 worker", "stock MONAI, 0 workers"]
    own = [(DATA, NO_PRECISION), *((WHOLE, name) for name in precisions())]
    assert [(row["part"], row["ours in"], row["peer"]) for row in rows] == [
        (*part, label) for part in own for label in labels
    ]
    for row in rows:
        assert row["low"] == row["ours / peer"] == row["high"] == pytest.approx(row["peer, s"] / row["ours, s"])
        assert row["images"] == NUM_IMAGES
        assert row["ours, images/s"] == pytest.approx(NUM_IMAGES / row["ours, s"])
        assert row["peer, images/s"] == pytest.approx(NUM_IMAGES / row["peer, s"])
    assert nnunet.steps == 2 * 3 * 2  # two numbers of workers, two runs that do not count and one that does
    assert len(targets) == 2 * len(own)
    # The stand-in does nothing, so that ours is behind: the profile says where the time of ours goes.
    whole = [entry for entry in targets if f", {WHOLE}:" in entry["rule"] and entry["rule"].endswith(NNUNET)]
    assert whole and not any(entry["met"] for entry in whole)
    assert any(note.startswith("fine-tuning, whole step: operations of ours that take longest") for note in notes)


def test_nothing_is_timed_without_a_peer(tmp_path):
    assert run_case(Case("x", "fine-tuning", NUM_IMAGES, (NNUNET,)), {}, tmp_path) == ([], [], [])


def test_batches_of_another_size_are_refused(tmp_path):
    with pytest.raises(
        RuntimeError, match=r"got \(4, 1, 64, 64\) torch.float32 of ours and \(4, 1, 32, 32\) .* 1 worker;"
    ):
        run_case(Case("x", "fine-tuning", NUM_IMAGES, (NNUNET,)), {NNUNET: StandIn(side=32)}, tmp_path)


def test_targets_take_the_best_of_each_peer():
    rows = [
        {"work": "w", "part": part, "peer": peer, "ours in": name, "ours / peer": factor}
        for part, peer, name, factor in (
            (DATA, "stock MONAI, 2 workers", NO_PRECISION, 4.0),
            (DATA, "stock MONAI, 0 workers", NO_PRECISION, 2.5),
            (DATA, "nnU-Net, 2 workers", NO_PRECISION, 0.9),
            (WHOLE, "stock MONAI, 2 workers", "bfloat16", 3.1),
            (WHOLE, "stock MONAI, 0 workers", "bfloat16", 3.5),
            (WHOLE, "nnU-Net, 2 workers", "bfloat16", 2.0),
            (WHOLE, "nnU-Net, 0 workers", "bfloat16", 1.5),
            (WHOLE, "stock MONAI, 2 workers", "float32", 1.2),
            (WHOLE, "nnU-Net, 2 workers", "float32", 0.99),
        )
    ]
    made = [(entry["rule"], entry["measured"], entry["at_least"], entry["met"]) for entry in training.targets(rows)]
    assert made == [
        ("w, data: images a second, ours / stock MONAI", 2.5, 3, False),
        ("w, data: images a second, ours / nnU-Net", 0.9, 1, False),
        ("w, whole step: images a second, ours in bfloat16 / stock MONAI", 3.1, 3, True),
        ("w, whole step: images a second, ours in bfloat16 / nnU-Net", 1.5, 1, True),
        ("w, whole step: images a second, ours in float32 / stock MONAI", 1.2, 1, True),
        ("w, whole step: images a second, ours in float32 / nnU-Net", 0.99, 1, False),
    ]


def test_comparison_pairs_runs_and_divides_them():
    row = training.comparison({"ours": [1.0, 2.0, 4.0], "peer": [4.0, 4.0, 4.0]}, "ours", "peer", number=2, images=10)
    assert row == {
        "ours, s": 1.0,
        "peer, s": 2.0,
        "ours, images/s": 10.0,
        "peer, images/s": 5.0,
        "ours / peer": 2.0,
        "low": 1.0,
        "high": 4.0,
    }


@pytest.fixture
def no_peers(monkeypatch):
    """Neither nnU-Net nor lightly is installed."""

    def fail(name, package=None):
        raise ImportError(f"No module for {name}")

    monkeypatch.setattr(training.importlib, "import_module", fail)


def test_peers_that_are_absent_are_noted_with_the_remedy(no_peers, one_core):
    case = Case("pre-training", "global", 16, (LIGHTLY, STOCK))
    outcome = peers.measure(batches=1, steps=1, repetitions=1, side=SIDE, cases=[FINE_TUNING, case])
    assert {row["peer"].partition(",")[0] for row in outcome["rows"]} == {STOCK}
    assert {row["work"] for row in outcome["rows"]} == {"fine-tuning", "pre-training"}
    for name, module, note in zip((NNUNET, LIGHTLY), ("nnunet", "simclr"), outcome["notes"], strict=False):
        assert note == f"{name} is absent: No module for .{module}. {peers.REMEDY}"
    assert set(peers._PACKAGES) < set(outcome["versions"])


def test_what_installs_peers_is_where_the_remedy_says():
    script = REPOSITORY / re.match("`(.+?) FOLDER`", peers.REMEDY).group(1)
    assert script.stat().st_mode & 0o111
    pinned = dict(line.split("==") for line in (REPOSITORY / "constraints.txt").read_text().split() if "==" in line)
    wanted = dict(line.split("==") for line in (script.parent / "requirements.txt").read_text().splitlines()[2:])
    assert wanted and {name: pinned.get(name, version) for name, version in wanted.items()} == wanted


# ------------------------------------------------------------------------------------------------------------ lightly


@pytest.fixture
def lightly(monkeypatch):
    """A stand-in for lightly, unless it is there: views are the picture and its mirror image."""
    loss, transforms = ModuleType("lightly.loss"), ModuleType("lightly.transforms")

    class SimCLRTransform:
        def __init__(self, input_size, normalize):
            self.input_size = input_size

        def __call__(self, picture):
            view = torch.from_numpy(np.asarray(picture) / np.float32(255))[None]
            assert view.shape == (1, self.input_size, self.input_size)
            return [view, view.flip(2)]

    class NTXentLoss:
        def __init__(self, temperature):
            self.temperature = temperature

        def __call__(self, first, second):
            return -nn.functional.cosine_similarity(first, second).mean() / self.temperature

    loss.NTXentLoss, transforms.SimCLRTransform = NTXentLoss, SimCLRTransform
    monkeypatch.delitem(sys.modules, "benchmarks.peers.simclr", raising=False)
    for module in (ModuleType("lightly"), loss, transforms):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    yield training.import_peers([], "")[LIGHTLY]
    sys.modules.pop("benchmarks.peers.simclr", None)  # what uses the stand-in


def test_views_of_lightly_are_those_of_the_drawn_slices(lightly):
    slices = step.random_slices(False, SIDE, CPU)
    with lightly.feed(slices, 2 * NUM_IMAGES, workers=0) as feed:
        first, second = feed.first
    assert first.shape == second.shape == (NUM_IMAGES, 1, SIDE, SIDE) and first.dtype == torch.float32
    drawn = (slices.images[:, None] - first).abs().flatten(2).amax(dim=2).min(dim=0)
    assert drawn.values.max() <= 0.5 / 255 + 1e-6 and len(drawn.indices.unique()) > 1
    assert torch.equal(second, first.flip(3))


def test_a_step_of_lightly_gives_the_network_one_view_after_the_other(lightly, monkeypatch):
    slices = step.random_slices(False, SIDE, CPU)
    made = []
    make_trainer = step.make_trainer
    monkeypatch.setattr(step, "make_trainer", lambda *a, **k: made.append(make_trainer(*a, **k)) or made[-1])
    step_on = lightly.training(slices, 16)
    network = made[0].network
    shapes = []
    network.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape)))
    weight = next(network.parameters())
    assert weight.is_contiguous() and weight.dtype == torch.float32
    before = weight.detach().clone()
    step_on([torch.rand(8, 1, SIDE, SIDE), torch.rand(8, 1, SIDE, SIDE)])
    assert shapes == 2 * [(8, 1, SIDE, SIDE)]
    assert not torch.equal(weight, before)


def test_pre_training_beside_lightly(lightly, tmp_path, one_core):
    rows, targets, _ = run_case(Case("x", "global", 8, (LIGHTLY,), strategy="GR"), {LIGHTLY: lightly}, tmp_path)
    assert {row["peer"] for row in rows} == {"lightly, 1 worker", "lightly, 0 workers"}
    assert {row["images"] for row in rows} == {8}
    assert len(targets) == 1 + len(precisions())


# ---------------------------------------------------------------------------------------------------------- inference


def write_volume(path, shape, voxel_mm, values=None):
    data = np.zeros(shape, np.float32) if values is None else values
    nibabel.save(nibabel.Nifti1Image(data, np.diag([*voxel_mm, 1.0])), path)
    return path


def test_middle_of_a_volume(tmp_path):
    values = np.arange(10 * 8 * 2, dtype=np.float32).reshape(10, 8, 2)
    image = write_volume(tmp_path / "volume.nii.gz", values.shape, (2.0, 1.5, 8.0), values)
    middle = nibabel.load(segmentation.write_middle(image, (9.0, 100.0), tmp_path / "middle.nii.gz"))
    assert np.array_equal(middle.get_fdata(), values[3:7])  # four voxels of 2 mm, all eight of 1.5 mm
    assert np.array_equal(middle.affine @ [0, 0, 0, 1], nibabel.load(image).affine @ [3, 0, 0, 1])


def test_tile_that_covers_a_slice(tmp_path):
    image = write_volume(tmp_path / "volume.nii.gz", (40, 70, 2), (1.6, 1.6, 8.0))
    assert segmentation.covering_tile(image, 1.6) == (96, 64)
    assert segmentation.covering_tile(image, 3.2) == (64, 32)


def test_pixels_that_a_network_gets_are_counted():
    network = nn.Identity()
    with segmentation.counted_pixels(network) as seen:
        network(torch.zeros(2, 1, 3, 4))
        network(torch.zeros(1, 1, 5, 5))
    network(torch.zeros(7))
    assert seen == [24, 25]


class Predictor:
    """What `benchmarks.peers.nnunet` has, as far as inference needs it."""

    def __init__(self, shift: int = 0) -> None:
        self.shift = shift

    def plain_network(self, network):
        return network

    def segmenter(self, network, image, output, tile, spacing_mm, class_names, mirrored, device):
        assert spacing_mm == SETTINGS["spacing_mm"] and class_names[0] == "background"
        volume = nibabel.load(image)

        def segment():
            with torch.inference_mode():
                for _ in range(volume.shape[2] * (4 if mirrored else 1)):
                    network(torch.zeros(1, 1, *tile))
            shape = (volume.shape[0] + self.shift, *volume.shape[1:])
            nibabel.save(nibabel.Nifti1Image(np.zeros(shape, np.uint8), volume.affine), output)

        return segment


def segment(nnunet, folder):
    options = {"num_candidates": 1, "size": (104, 112), "settings": SETTINGS, "repetitions": 1}
    return segmentation.measure(nnunet, folder, **options)


def test_inference_beside_the_predictor(tmp_path):
    rows = segment(Predictor(), tmp_path)
    whole, middle = (
        [row for row in rows if row["work"] == f"inference, {name}"] for name in ("a volume", "its middle, one tile")
    )
    assert len(rows) == len(whole) + len(middle)
    assert {row["ours in"] for row in rows} == set(precisions())
    covering = next(row["peer"] for row in whole if "64 x 64" not in row["peer"])
    height, width = map(int, re.search(r"tiles (\d+) x (\d+)", covering).groups())
    for row in rows:
        tile = 1 if "64 x 64" in row["peer"] else height * width / 64**2
        assert row["pixels, peer / ours"] == tile * (4 if "mirrored" in row["peer"] else 1)
        assert row["ours, images/s"] == pytest.approx(row["images"] / row["ours, s"])
    assert {row["peer"] for row in middle} == {"nnU-Net, tiles 64 x 64", "nnU-Net, tiles 64 x 64, mirrored"}
    for entry in segmentation.targets(rows):
        own, work = re.search("ours in (.+) /", entry["rule"]).group(1), entry["rule"].partition(":")[0]
        factors = [row["ours / peer"] for row in rows if (row["work"], row["ours in"]) == (work, own)]
        assert entry["measured"] == min(factors) and entry["at_least"] == 1


def test_inference_of_a_volume_of_acdc(acdc_dir, tmp_path):
    options = {"num_candidates": 1, "settings": SETTINGS, "repetitions": 1}
    rows = segmentation.measure(Predictor(), tmp_path / "new", str(acdc_dir), **options)
    assert {row["work"] for row in rows} == {"inference, a volume", "inference, its middle, one tile"}


def test_a_segmentation_of_another_shape_is_refused(tmp_path):
    with pytest.raises(RuntimeError, match=r"must have the shape of the volume, .* of nnU-Net, tiles 64 x 64\."):
        segment(Predictor(shift=1), tmp_path)


# ------------------------------------------------------------------------------------------------------------ nnU-Net


@pytest.fixture(scope="module")
def nnunet():
    pytest.importorskip("nnunetv2", reason="needs nnU-Net: benchmarks/peers/install.sh")
    return training.import_peers([], "")[NNUNET]


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_and_steps_of_nnunet(nnunet, tmp_path, workers):
    slices = step.random_slices(True, SIDE, CPU)
    nnunet.store(slices, tmp_path)
    assert len(list(tmp_path.rglob("volume*_seg.b2nd"))) == slices.num_volumes
    trainer = nnunet.make_trainer(slices, NUM_IMAGES, training.CLASS_NAMES, tmp_path)
    weight = next(trainer.network.parameters())
    assert weight.is_contiguous() and weight.dtype == torch.float32
    ours = step.make_trainer("fine-tuning", slices, NUM_IMAGES).network.state_dict()
    assert all(torch.equal(value, ours[name]) for name, value in trainer.network.state_dict().items())
    shapes = []
    trainer.network.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape)))
    before = weight.detach().clone()
    with nnunet.feed(trainer, workers) as feed:
        assert feed.workers == workers
        assert feed.first["data"].shape == feed.first["target"].shape == (NUM_IMAGES, 1, SIDE, SIDE)
        assert feed.first["target"].unique().tolist() == list(range(step.NUM_CLASSES))
        for batch in feed.take(2):
            trainer.train_step(batch)
    assert shapes == 2 * [(NUM_IMAGES, 1, SIDE, SIDE)]
    assert not torch.equal(weight, before)
    assert not multiprocessing.active_children()


class Threshold(nn.Module):
    """Segments what is brighter than the mean."""

    def forward(self, images):
        return torch.cat([-images, images], dim=1)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("tile", [(32, 32), (64, 64)])
def test_segmenter_of_nnunet(nnunet, tmp_path, mirrored, tile):
    values = np.random.default_rng(0).uniform(1, 2, (40, 50, 3)).astype(np.float32)
    image = write_volume(tmp_path / "volume.nii.gz", values.shape, (1.5, 1.5, 8.0), values)
    output = tmp_path / "out" / "volume.nii.gz"
    nnunet.segmenter(Threshold(), image, output, tile, 1.5, ["background", "bright"], mirrored, CPU)()
    assert np.array_equal(nibabel.load(output).get_fdata(), values > values.mean())


def test_the_real_lightly_makes_batches_like_ours():
    pytest.importorskip("lightly", reason="needs lightly: benchmarks/peers/install.sh")
    simclr = training.import_peers([], "")[LIGHTLY]
    slices = step.random_slices(False, SIDE, CPU)
    with simclr.feed(slices, 16, workers=0) as feed:
        peer = SimpleNamespace(feed=feed, images=torch.cat, label=LIGHTLY)
        training.check_alike(step.make_trainer("global", slices, 16).data_loader.batch(0)[0], [peer])
        first, second = feed.first
        assert not torch.equal(first, second) and 0 <= first.min() and first.max() <= 1
