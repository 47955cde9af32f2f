"""What a run leaves for TensorBoard."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Events
from monai.handlers import TensorBoardStatsHandler
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from common.engines import BatchPictures, TrainingScalars, ValidationScalars
from common.engines.loss_buffer import LossBuffer
from common.strategies import make_layout

from .engines import make_engine

# ---- TrainingScalars, ValidationScalars


def curves(folder):
    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def run_with(*handlers, losses=(0.5, 0.25)):
    """Run 2 epochs of 12 steps; the metric is the epoch's number divided by 4."""
    engine = make_engine(losses)
    engine.add_event_handler(
        Events.EPOCH_COMPLETED, lambda: engine.state.metrics.update(mean_dice=engine.state.epoch / 4)
    )
    for handler in handlers:
        handler.attach(engine)
    engine.run(range(12), max_epochs=2)


def test_losses_and_metrics_become_curves(tmp_path):
    run_with(TrainingScalars(str(tmp_path / "train")), ValidationScalars(str(tmp_path / "validate")))
    losses = [(step, 0.5 if step == 1 else 0.25) for step in range(1, 25)]
    assert curves(tmp_path / "train") == {"train_loss": losses}
    assert curves(tmp_path / "validate") == {"mean_dice": [(1, 0.25), (2, 0.5)]}


def test_name_of_a_curve(tmp_path):
    run_with(TrainingScalars(str(tmp_path), every=8, tag="loss"))
    assert set(curves(tmp_path)) == {"loss"}


def test_losses_are_read_together(tmp_path, monkeypatch):
    """To read a number waits for the device: within an epoch of 12 steps every fifth, and at its end."""
    read, add = [], LossBuffer.add
    monkeypatch.setattr(LossBuffer, "add", lambda *of: read.append(add(*of)) or read[-1])
    run_with(TrainingScalars(str(tmp_path), every=5))
    assert [len(losses) for losses in read if losses] == [5, 5, 2, 3, 5, 4]


def test_rate_and_round_are_curves(tmp_path):
    engine = make_engine((0.5,))
    engine.optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.125)
    training = SimpleNamespace(rounds=3, round=2)
    TrainingScalars(str(tmp_path), self_training=training).attach(engine)
    engine.run(range(3), max_epochs=1)
    found = curves(tmp_path)
    assert len(found.pop("train_loss")) == 3
    assert found == {"learning_rate": [(3, 0.125)], "round": [(3, 2.0)]}


@pytest.mark.parametrize("kind", [TrainingScalars, ValidationScalars, BatchPictures])
@pytest.mark.parametrize("rank", [0, 1])
def test_only_the_first_process_makes_a_file(tmp_path, monkeypatch, kind, rank):
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: rank)
    handler = kind(str(tmp_path / "events"))
    assert not (tmp_path / "events").exists()  # a handler that is only made leaves nothing
    engine = make_engine(batch=make_batch(4))
    handler.attach(engine)
    engine.run(range(10), max_epochs=1)
    assert (tmp_path / "events").exists() == (rank == 0)


def test_handler_of_monai_writes_in_every_process(tmp_path, monkeypatch):
    """Why there are handlers of our own."""
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: 1)
    TensorBoardStatsHandler(log_dir=str(tmp_path / "events"))
    assert (tmp_path / "events").exists()


# ---- BatchPictures


def pictures(folder, tag):
    events = EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()
    if tag not in events.Tags()["images"]:
        return []
    return [(event.step, event.height, event.width) for event in events.Images(tag)]


def make_batch(count, labels=True):
    images = torch.rand(count, 1, 4, 6, generator=torch.Generator().manual_seed(0))
    return images, torch.ones(count, 3, 4, 6) if labels else SimpleNamespace(num_volumes=2)


@pytest.mark.parametrize(("labels", "steps"), [(True, [1, 6, 12]), (False, [])], ids=["fine-tuning", "pre-training"])
def test_pictures_come_at_the_start_and_after_epochs(tmp_path, labels, steps):
    engine = make_engine(batch=make_batch(4, labels))
    BatchPictures(str(tmp_path), every_epochs=2).attach(engine)
    engine.run(range(3), max_epochs=5)
    assert pictures(tmp_path, "batch/images") == [(step, 8, 12) for step in (1, 6, 12)]
    assert pictures(tmp_path, "batch/labels") == [(step, 8, 12) for step in steps]


@pytest.mark.parametrize(
    ("count", "num_images", "rows", "columns"),
    [(1, 16, 1, 1), (4, 16, 2, 2), (5, 16, 2, 2), (6, 16, 3, 2), (20, 16, 4, 4), (20, 3, 3, 1)],
)
def test_images_are_tiled_row_by_row(count, num_images, rows, columns):
    images = make_batch(count)[0]
    tiled = BatchPictures("", num_images=num_images)._tile(images)
    assert tiled.shape == (rows * 4, columns * 6)
    for row in range(rows):
        for column in range(columns):
            tile = tiled[4 * row : 4 * row + 4, 6 * column : 6 * column + 6]
            assert torch.equal(tile, images[row * columns + column, 0])


def test_photographs_keep_their_colours(shown):
    images = torch.rand(4, 3, 2, 5)
    engine = SimpleNamespace(state=SimpleNamespace(batch=(images, None), iteration=1))
    BatchPictures("").write(engine)
    tiled = shown["batch/images"]
    assert tiled.shape == (3, 4, 10) and torch.equal(tiled[:, 2:, :5], images[2])


def test_intensities_beyond_the_range_are_clipped():
    tiled = BatchPictures("")._tile(torch.tensor([-1.0, 0.25, 3.0]).view(1, 1, 1, 3))
    assert tiled.tolist() == [[0, 0.25, 1]]


@pytest.fixture
def shown(monkeypatch):
    """The last picture written under each name."""
    pictures_by_name = {}

    class Writer:
        def __init__(self, folder):
            pass

        def add_image(self, name, image, step, dataformats):
            pictures_by_name[name] = image

        def flush(self):
            pass

    monkeypatch.setattr("common.engines.tensorboard.SummaryWriter", Writer)
    return pictures_by_name


def test_views_of_a_slice_are_side_by_side(shown):
    images = torch.tensor([0.1, 0.2, 0.3, 0.4]).view(4, 1, 1, 1)
    engine = SimpleNamespace(state=SimpleNamespace(batch=(images, None), iteration=1))
    BatchPictures("", layouts=[make_layout("GR", 4)]).write(engine)
    assert torch.equal(shown["batch/images"], torch.tensor([[0.1, 0.3], [0.2, 0.4]]))


def test_share_of_a_batch_is_shown(shown):
    images = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5]).view(5, 1, 1, 1)  # of the first of two processes, of 10 images
    engine = SimpleNamespace(state=SimpleNamespace(batch=(images, None), iteration=1))
    BatchPictures("", num_images=4, layouts=[make_layout("GR", 10)]).write(engine)
    assert torch.equal(shown["batch/images"], torch.tensor([[0.1, 0.2], [0.3, 0.4]]))  # its first views alone
    BatchPictures("", num_images=4, layouts=[make_layout("GR", 6)]).write(engine)  # five rows of six
    assert torch.equal(shown["batch/images"], torch.tensor([[0.1, 0.4], [0.2, 0.5]]))


def test_both_batches_of_a_pair_are_shown(shown):
    images = torch.tensor([0.1, 0.2, 0.3, 0.4]).view(4, 1, 1, 1), torch.full((1, 1, 2, 3), 0.5)
    engine = SimpleNamespace(state=SimpleNamespace(batch=(images, (None, None)), iteration=1))
    BatchPictures("", layouts=[make_layout("GR", 4), make_layout("LR", 2)]).write(engine)
    assert set(shown) == {"batch/images_1", "batch/images_2"}
    assert torch.equal(shown["batch/images_1"], torch.tensor([[0.1, 0.3], [0.2, 0.4]]))
    assert torch.equal(shown["batch/images_2"], torch.full((2, 3), 0.5))


def test_labels_are_grey_levels(shown):
    classes = torch.tensor([[0, 1], [2, 1]])
    one_hot = torch.nn.functional.one_hot(classes, 3).permute(2, 0, 1)[None].float()
    engine = SimpleNamespace(state=SimpleNamespace(batch=(torch.zeros(1, 1, 2, 2), one_hot), iteration=1))
    BatchPictures("").write(engine)
    assert torch.equal(shown["batch/labels"], classes / 2)
