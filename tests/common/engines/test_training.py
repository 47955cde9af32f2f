"""The trainer with its handlers: resuming, finishing, stopping, saving."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint, DiskSaver
from monai.engines import SupervisedTrainer
from monai.handlers import MLFlowHandler, TensorBoardStatsHandler, from_engine, mlflow_handler
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from common.checkpoints import CheckpointError, read_checkpoint, read_weights, save_atomically
from common.data.loader import BatchLoader, PairLoader
from common.data.samplers import UniformSampler
from common.data.slices import Slices
from common.engines import (
    AutocastInferer,
    BatchPictures,
    Progress,
    Resume,
    SaveWeights,
    StageTrainer,
    StopOnNaN,
    trainer,
)
from common.engines.trainer import epoch_length, num_epochs
from common.files import WriteError
from common.losses import GlobalContrastiveLoss, JointLoss, LocalContrastiveLoss
from common.networks import GlobalPretrainingNet, JointPretrainingNet, UNet2d
from common.strategies import make_layout
from common.transforms.intensity_views import RandomIntensity
from common.transforms.views import ContrastiveViews


class Run:
    """A small pre-training run, made afresh as a new process would."""

    def __init__(
        self,
        folder,
        epochs,
        seed=0,
        settings=None,
        handlers=(),
        loss=None,
        outputs=(),
        interval_seconds=0.0,
        resume=True,
    ):
        torch.manual_seed(seed)
        images = torch.rand(6, 1, 32, 32, generator=torch.Generator().manual_seed(9))
        slices = Slices(images, None, torch.tensor([0, 6]))
        loader = BatchLoader(slices, UniformSampler(slices, 3), ContrastiveViews("GR", RandomIntensity()), 2, seed)
        self.network = GlobalPretrainingNet(UNet2d(2), (32, 32), hidden_features=8)
        parameters = [value for value in self.network.parameters() if value.requires_grad]
        self.optimizer = torch.optim.Adam(parameters, lr=1e-3)
        self.losses: list[float] = []
        state = Resume(
            str(folder / "resume.pt"),
            {"network": self.network, "optimizer": self.optimizer},
            settings or {"seed": seed, "size": (32, 32)},
            outputs,
            interval_seconds,
            resume,
        )
        self.handlers = [*handlers, *(SaveWeights(self.network, path) for path in outputs), state]
        self.trainer = StageTrainer(
            device="cpu",
            max_epochs=epochs,
            train_data_loader=loader,
            network=self.network,
            optimizer=self.optimizer,
            loss_function=loss or GlobalContrastiveLoss(make_layout("GR", 6)),
            inferer=AutocastInferer(precision="float32"),
            train_handlers=self.handlers,
        )
        self.trainer.add_event_handler(
            Events.ITERATION_COMPLETED, lambda engine: self.losses.append(engine.state.output["loss"].item())
        )

    def run(self):
        self.trainer.run()
        return self


def test_resumed_run_equals_an_uninterrupted_one(tmp_path):
    whole = Run(tmp_path / "whole", epochs=3).run()
    part = Run(tmp_path / "part", epochs=1).run()
    rest = Run(tmp_path / "part", epochs=3).run()
    assert len(whole.losses) == 6 and part.losses + rest.losses == whole.losses
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, rest.network.state_dict()[name]), name


def test_interrupted_run_continues_from_the_last_epoch(tmp_path):
    class Interrupt:
        def attach(self, engine):
            engine.add_event_handler(Events.ITERATION_STARTED(once=4), self.stop)

        def stop(self):
            raise KeyboardInterrupt

    interrupted = Run(tmp_path, epochs=3, handlers=[Interrupt()])
    with pytest.raises(KeyboardInterrupt):
        interrupted.run()
    assert len(Run(tmp_path, epochs=3).run().losses) == 4


def test_finished_run_is_left_alone(tmp_path):
    first = Run(tmp_path, epochs=2).run()
    again = Run(tmp_path, epochs=2).run()
    assert again.losses == []
    for name, value in first.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name])


def foreign(path):
    save_atomically({"other": torch.ones(1)}, path)


@pytest.mark.parametrize(
    "spoil", [Path.unlink, lambda path: path.write_bytes(b""), foreign], ids=["gone", "empty", "foreign"]
)
def test_finished_run_writes_an_output_again_that_is_not_its_own(tmp_path, spoil, caplog):
    output = tmp_path / "weights.pt"
    Run(tmp_path, epochs=2, outputs=[output]).run()
    whole = output.read_bytes()
    spoil(output)
    with caplog.at_level("INFO"):
        assert Run(tmp_path, epochs=2, outputs=[output]).run().losses == []
    assert output.read_bytes() == whole and "already finished" not in caplog.text
    with caplog.at_level("INFO"):
        assert Run(tmp_path, epochs=2, outputs=[output]).run().losses == []
    assert "already finished, all 4 steps are done; --resume False trains again" in caplog.text


@pytest.mark.parametrize("kind", ["SaveWeights", "Checkpoint of Ignite"])
def test_why_weights_are_not_saved_by_ignite(tmp_path, monkeypatch, kind):
    """Ignite's has deleted the old file when it writes the new one."""
    network, engine, path = torch.nn.Linear(2, 1), Engine(lambda *_: None), tmp_path / "weights.pt"
    if kind == "SaveWeights":
        SaveWeights(network, path).attach(engine)
    else:
        disk = DiskSaver(tmp_path, require_empty=False)
        checkpoint = Checkpoint({"weights": network}, disk, filename_pattern="{name}.{ext}", n_saved=1)
        engine.add_event_handler(Events.COMPLETED, checkpoint)
    engine.run([0])
    assert path.exists()

    def fail(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(KeyboardInterrupt):
        engine.run([0], max_epochs=2)
    assert path.exists() == (kind == "SaveWeights")


@pytest.mark.parametrize("fails_at", [1, 2], ids=["output", "mark"])
def test_run_that_could_not_write_at_its_end_does_so_when_it_is_started_again(tmp_path, monkeypatch, fails_at):
    output = tmp_path / "weights.pt"
    whole = Run(tmp_path / "whole", epochs=2, outputs=[tmp_path / "whole.pt"]).run()
    calls, replace = [], os.replace

    def refuse(source, target):
        calls.append(target)
        if len(calls) == fails_at:
            raise OSError(errno.EROFS, "Read-only file system")
        replace(source, target)

    part = Run(tmp_path, epochs=2, outputs=[output], interval_seconds=1000)
    with monkeypatch.context() as patch, pytest.raises(WriteError, match="is read-only"):
        patch.setattr(os, "replace", refuse)
        part.run()
    assert output.exists() == (fails_at == 2) and not (tmp_path / "resume.pt").exists()
    again = Run(tmp_path, epochs=2, outputs=[output]).run()
    assert again.losses == whole.losses and output.read_bytes() == (tmp_path / "whole.pt").read_bytes()


def test_run_without_a_step_left_is_completed(tmp_path):
    output = tmp_path / "weights.pt"
    Run(tmp_path / "whole", epochs=2, outputs=[tmp_path / "whole.pt"]).run()

    class Stop:
        def attach(self, engine):
            engine.add_event_handler(Events.COMPLETED, self.stop)

        def stop(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Run(tmp_path, epochs=2, outputs=[output], handlers=[Stop()]).run()
    assert read_checkpoint(tmp_path / "resume.pt")["iteration"] == 4 and not output.exists()
    run = Run(tmp_path, epochs=2, outputs=[output], handlers=[Progress("global")])
    assert run.run().losses == [] and output.read_bytes() == (tmp_path / "whole.pt").read_bytes()
    assert Run(tmp_path, epochs=2, outputs=[output]).trainer.finished


@pytest.mark.parametrize("resumed", [False, True])
def test_a_second_call_does_nothing(tmp_path, resumed):
    starts = []

    class Count:
        def attach(self, engine):
            engine.add_event_handler(Events.STARTED, lambda: starts.append(1))

    run = Run(tmp_path, epochs=1, outputs=[tmp_path / "weights.pt"], handlers=[Count()])
    if not resumed:
        run.trainer = StageTrainer(
            "cpu",
            1,
            run.trainer.data_loader,
            run.trainer.network,
            run.trainer.optimizer,
            run.trainer.loss_function,
            train_handlers=[Count()],
        )
    for _ in range(2):
        run.trainer.run()
    assert starts == [1]


def test_output_that_vanishes_during_the_run(tmp_path):
    run = Run(tmp_path, epochs=1, outputs=[tmp_path / "weights.pt"], interval_seconds=1000)
    (resume,) = [handler for handler in run.handlers if isinstance(handler, Resume)]
    resume.outputs.append(tmp_path / "nobody.pt")
    with pytest.raises(CheckpointError, match=r"nobody\.pt: is not there at the end.*not marked as finished"):
        run.run()
    assert not (tmp_path / "resume.pt").exists()


def test_starting_afresh_leaves_no_state_that_a_later_run_could_take_up(tmp_path):
    output = tmp_path / "weights.pt"
    Run(tmp_path, epochs=1, outputs=[output]).run()
    run = Run(tmp_path, epochs=1, outputs=[output], resume=False)
    assert not (tmp_path / "resume.pt").exists()
    assert len(run.run().losses) == 2 and not (tmp_path / "resume.pt").exists()


@pytest.mark.parametrize("epochs", [0, -1])
def test_run_without_an_epoch_is_refused(tmp_path, epochs):
    with pytest.raises(ValueError, match=f"max_epochs must be a whole number from 1, got {epochs}"):
        Run(tmp_path, epochs=epochs)


def test_fewer_steps_than_were_done_are_refused(tmp_path):
    Run(tmp_path, epochs=3).run()
    with pytest.raises(CheckpointError, match=r"has done 6 steps, more than the 4 .* --resume False to train 4 steps"):
        Run(tmp_path, epochs=2)


def test_curves_have_no_step_twice_after_a_resume(tmp_path):
    class Interrupt:
        def attach(self, engine):
            engine.add_event_handler(Events.ITERATION_COMPLETED(once=6), self.stop)

        def stop(self):
            raise KeyboardInterrupt

    def handlers():
        loss = TensorBoardStatsHandler(
            log_dir=str(tmp_path), tag_name="train_loss", output_transform=lambda out: out["loss"].item()
        )
        return [loss, BatchPictures(str(tmp_path), every_epochs=1)]

    with pytest.raises(KeyboardInterrupt):
        Run(tmp_path, epochs=4, handlers=[*handlers(), Interrupt()]).run()  # the state is that of step 4
    Run(tmp_path, epochs=4, handlers=handlers()).run()
    Run(tmp_path, epochs=4, handlers=handlers()).run()  # finished: nothing is removed
    events = EventAccumulator(str(tmp_path), size_guidance={"scalars": 0, "images": 0}).Reload()
    assert [event.step for event in events.Scalars("train_loss")] == list(range(1, 9))
    # The first batch of each process is shown besides those of the epochs.
    assert [event.step for event in events.Images("batch/images")] == [1, 2, 4, 6, 8]


def test_other_settings_are_refused(tmp_path):
    Run(tmp_path, epochs=1).run()
    with pytest.raises(CheckpointError, match=r"seed was 0, is 1.*Choose another output_dir"):
        Run(tmp_path, epochs=1, settings={"seed": 1, "size": (32, 32)})


def test_nan_stops_the_run_and_saves_nothing(tmp_path):
    target = tmp_path / "weights.pt"

    def broken(embeddings, targets):
        return embeddings.sum() * float("nan")

    run = Run(tmp_path, epochs=2, loss=broken, handlers=[StopOnNaN(every=1)])
    run.trainer.add_event_handler(Events.COMPLETED, SaveWeights(run.network, str(target)).save)
    with pytest.raises(FloatingPointError, match="nan at step 1"):
        run.run()
    assert list(tmp_path.iterdir()) == []


def test_weights_of_a_part_are_saved_bare(tmp_path):
    run = Run(tmp_path, epochs=1)
    saver = SaveWeights(run.network.unet, str(tmp_path / "pretrained_encoder.pt"), run.network.pretrained_prefixes())
    saver.attach(run.trainer)
    run.run()
    weights = read_weights(tmp_path / "pretrained_encoder.pt")
    assert set(weights) == {name for name in UNet2d(2).state_dict() if name.startswith("encoder.")}


def test_only_the_first_process_writes(tmp_path, capsys, monkeypatch):
    Run(tmp_path, epochs=1).run()
    first = (tmp_path / "resume.pt").read_bytes()
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: 1)
    run = Run(tmp_path, epochs=2, handlers=[Progress("global"), BatchPictures(str(tmp_path / "events"))])
    SaveWeights(run.network.unet, str(tmp_path / "weights.pt")).attach(run.trainer)
    run.run()
    assert len(run.losses) == 2  # of the second epoch: it has read what the first process had saved
    assert [path.name for path in tmp_path.iterdir()] == ["resume.pt"]
    assert (tmp_path / "resume.pt").read_bytes() == first
    assert capsys.readouterr().err == ""


def test_progress_and_pictures(tmp_path, capsys):
    run = Run(tmp_path, epochs=1, handlers=[Progress("global", every=1), BatchPictures(str(tmp_path / "events"))])
    run.run()
    assert "global: 100%" in capsys.readouterr().err
    assert any(path.stat().st_size > 1000 for path in (tmp_path / "events").iterdir())


WEIGHT = 8.0  # a power of two: gradients of the weighted loss are then rounded as those of the loss itself


def test_tracking_gets_every_loss_ten_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(mlflow_handler, "mlflow", MagicMock())
    monkeypatch.setattr(mlflow_handler.mlflow.entities, "Metric", lambda name, value, _, step: (name, step, value))
    sent = []
    client = mlflow_handler.mlflow.MlflowClient.return_value
    client.log_batch.side_effect = lambda metrics, **_: sent.append(metrics)

    def start(self, engine):
        self.cur_run = MagicMock()

    monkeypatch.setattr(MLFlowHandler, "start", start)
    # As MONAI makes it for `--tracking mlflow`.
    options = {"tag_name": "train_loss", "output_transform": from_engine(["loss"], first=True)}
    run = Run(tmp_path, epochs=11, handlers=[MLFlowHandler(f"sqlite:///{tmp_path}/mlruns.db", **options)]).run()
    found = {(name, step): value for metrics in sent for name, step, value in metrics}
    steps = range(1, len(run.losses) + 1)
    assert {step: found[("train_loss", step)] for step in steps} == dict(zip(steps, run.losses, strict=True))
    assert found[("lr_group_0", steps[-1])] == 1e-3
    (handler,) = [handler for handler in run.handlers if isinstance(handler, MLFlowHandler)]
    assert handler.iteration_logger is None  # what others made is left as it is


def make_joint_losses():
    return GlobalContrastiveLoss(make_layout("GR", 6)), LocalContrastiveLoss(make_layout("LR", 6))


def joint_step(network, precision="float32", **options):
    """One step of joint training; return its trainer, whose network keeps the gradient."""
    images = torch.rand(6, 1, 64, 64, generator=torch.Generator().manual_seed(9))
    slices = Slices(images, None, torch.tensor([0, 6]))
    first, second = (
        BatchLoader(slices, UniformSampler(slices, 3), ContrastiveViews(strategy, RandomIntensity()), 1, seed)
        for strategy, seed in (("GR", 0), ("LR", 1))
    )
    trainer = StageTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=PairLoader(first, second),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.0),
        loss_function=JointLoss(*make_joint_losses(), WEIGHT),
        inferer=AutocastInferer(precision=precision),
        **options,
    )
    trainer.run()
    return trainer


def make_joint_network():
    torch.manual_seed(0)
    return JointPretrainingNet(UNet2d(2), (64, 64), hidden_features=8)


def test_gradient_of_a_joint_step_is_the_weighted_sum_of_the_separate_ones():
    network = make_joint_network()
    trainer = joint_step(network)
    separate = []
    for number, loss in enumerate(make_joint_losses()):
        alone = make_joint_network().train()
        loss(alone(trainer.state.batch[0])[number]).backward()
        separate.append({name: value.grad for name, value in alone.named_parameters()})
    for name, value in network.named_parameters():
        of_global, of_local = (gradients[name] for gradients in separate)
        if name.startswith("unet.encoder.levels") and value.ndim == 4:
            assert of_global.norm() > 0 and of_local.norm() > 0
        assert (value.grad is None) == (not value.requires_grad)
        if value.grad is not None:
            expected = (0 if of_global is None else of_global) + (0 if of_local is None else WEIGHT * of_local)
            torch.testing.assert_close(value.grad, expected, rtol=1e-6, atol=1e-7)


def test_joint_step_in_bfloat16_has_a_loss_in_float32(tmp_path):
    pictures = BatchPictures(str(tmp_path / "events"))
    trainer = joint_step(make_joint_network(), "bfloat16", train_handlers=[StopOnNaN(every=1), pictures])
    assert [part.dtype for part in trainer.state.output["pred"]] == [torch.float32] * 2
    assert trainer.state.output["loss"].dtype == torch.float32 and trainer.state.output["loss"].isfinite()
    exact = joint_step(make_joint_network()).state.output["loss"]
    assert 0 < (trainer.state.output["loss"] / exact - 1).abs() < 0.1
    assert len(list((tmp_path / "events").iterdir())) == 1


@pytest.mark.parametrize(
    ("steps", "at_most", "length"), [(10_000, 100, 100), (150, 100, 75), (60, 100, 60), (7, 50, 7), (1, 50, 1)]
)
def test_epochs_fill_the_run(steps, at_most, length):
    assert epoch_length(steps, at_most) == length


@pytest.mark.parametrize(
    ("steps", "message"), [(0, "steps must be at least 1"), (401, "must have a divisor of 5 to 50")]
)
def test_lengths_that_no_epochs_fill(steps, message):
    with pytest.raises(ValueError, match=message):
        epoch_length(steps, 50)


@pytest.mark.parametrize(("steps", "per_epoch"), [(0, 5), (7, 5), (5, 0)])
def test_number_of_epochs(steps, per_epoch):
    assert num_epochs(10, 5) == 2
    with pytest.raises(ValueError, match="positive multiple"):
        num_epochs(steps, per_epoch)


@pytest.mark.parametrize(("device", "number"), [("cpu", 1), ("meta", 0)])
def test_freed_memory_is_kept_on_the_cpu(tmp_path, monkeypatch, device, number):
    calls = []
    monkeypatch.setattr(trainer.allocator, "keep_freed_memory", lambda: calls.append(1))
    run = Run(tmp_path, epochs=1)
    run.trainer.state.device = torch.device(device)
    monkeypatch.setattr(SupervisedTrainer, "run", lambda self: None)
    run.run()
    assert len(calls) == number
