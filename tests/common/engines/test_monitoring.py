"""Handlers that show a run and stop it; `test_training` has them on a real trainer."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine, Events
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from common.engines import BatchPictures, Progress, StopOnNaN
from common.strategies import make_layout


def make_engine(losses=(0.5,), batch=None):
    """An engine whose step k, counted from 1, has the k-th loss (the last one from then on)."""

    def step(engine, _):
        engine.state.batch = batch
        return {"loss": torch.tensor(losses[min(engine.state.iteration, len(losses)) - 1])}

    engine = Engine(step)
    engine.network = torch.nn.Linear(2, 1)
    return engine


# ---- StopOnNaN


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -float("inf")], ids=str)
@pytest.mark.parametrize(
    ("every", "first_bad", "found"),
    [(1, 3, 3), (2, 3, 4), (10, 3, 5), (10, 6, 10)],
    ids=["at once", "2", "epoch", "10"],
)
def test_a_loss_that_is_not_finite_stops_the_run(loss, every, first_bad, found):
    engine = make_engine([0.5] * (first_bad - 1) + [loss])
    saved = []
    StopOnNaN(every).attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: saved.append(engine.state.iteration))
    with pytest.raises(FloatingPointError, match=f"The loss is {loss} at step {found}: nothing was saved"):
        engine.run(range(5), max_epochs=4)
    assert saved == [step for step in (5, 10, 15) if step < first_bad]


def test_finite_losses_pass():
    engine = make_engine([1e38, -1e38, 0.0])
    StopOnNaN(1).attach(engine)
    assert engine.run(range(3), max_epochs=2).iteration == 6


def test_parameters_that_are_not_finite_stop_the_run_at_the_end_of_the_epoch():
    engine = make_engine()
    StopOnNaN().attach(engine)

    @engine.on(Events.ITERATION_COMPLETED(once=5))
    def diverge(engine):
        torch.nn.init.constant_(engine.network.weight, float("nan"))

    with pytest.raises(FloatingPointError, match="parameters are no longer finite at step 6"):
        engine.run(range(3), max_epochs=4)


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

    monkeypatch.setattr("common.engines.monitoring.SummaryWriter", Writer)
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


# ---- Progress


@pytest.fixture
def bars(monkeypatch):
    """What happened to the progress bars."""
    made = []

    class Bar:
        def __init__(self, **options):
            self.options, self.n, self.shown, self.closed = options, options["initial"], [], False
            made.append(self)

        def set_postfix(self, values, refresh):
            self.shown.append(values)

        def update(self, steps):
            self.n += steps

        def close(self):
            self.closed = True

    monkeypatch.setattr("common.engines.monitoring.tqdm", Bar)
    return made


def test_progress_counts_every_step(bars):
    engine = make_engine([0.25])
    Progress("global", every=2).attach(engine)
    engine.run(range(5), max_epochs=3)
    (bar,) = bars
    assert (bar.options["total"], bar.options["initial"], bar.options["desc"]) == (15, 0, "global")
    assert bar.n == 15 and bar.closed
    assert bar.shown == [{"loss": "0.2500"}] * 7


def test_progress_goes_on_where_the_run_does(bars):
    engine = make_engine()
    Progress("local", every=1).attach(engine)
    engine.load_state_dict({"iteration": 10, "max_epochs": 3, "epoch_length": 5})
    engine.run(range(5), max_epochs=3)
    assert bars[0].options["initial"] == 10 and len(bars[0].shown) == 5 and bars[0].n == 15


def test_progress_shows_the_key_metric_once_there_is_one(bars):
    evaluator = SimpleNamespace(state=SimpleNamespace(metrics={}, key_metric_name="mean_dice"))
    engine = make_engine()
    Progress("train", evaluator, every=1).attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.state.metrics.update(mean_dice=0.5, other=1.0))
    engine.run(range(1), max_epochs=2)
    assert bars[0].shown == [{"loss": "0.5000"}, {"loss": "0.5000", "mean_dice": "0.500"}]


def test_progress_closes_when_the_run_is_ended_early(bars):
    engine = make_engine()
    Progress("train").attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), engine.terminate)
    engine.run(range(5), max_epochs=3)
    assert bars[0].closed and bars[0].n == 2
