"""TensorBoard's files are cut back to what a run goes on from; `test_training` has the same with a real run."""

from __future__ import annotations

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from common.engines.event_files import cut_back, event_file_sizes


def write(folder, name, steps):
    with SummaryWriter(str(folder), filename_suffix=f".{name}") as writer:
        for step in steps:
            writer.add_scalar(name, step, step)


def steps(folder):
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {tag: [event.step for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_later_events_and_files_are_removed(tmp_path):
    writer = SummaryWriter(str(tmp_path), filename_suffix=".loss")
    writer.add_scalar("loss", 1.0, 1)
    writer.flush()
    sizes = event_file_sizes(tmp_path)
    writer.add_scalar("loss", 1.0, 2)
    writer.close()
    write(tmp_path, "dice", [1])  # counts in epochs
    write(tmp_path, "own", [])
    (tmp_path / "model.pt").write_bytes(b"stays")
    assert len(sizes) == 1 and steps(tmp_path) == {"loss": [1, 2], "dice": [1]}
    cut_back(tmp_path, sizes)
    assert steps(tmp_path) == {"loss": [1]} and event_file_sizes(tmp_path).items() >= sizes.items()
    assert sorted(path.name.rsplit(".")[-1] for path in tmp_path.iterdir()) == ["loss", "own", "pt"]
    cut_back(tmp_path, {})
    assert steps(tmp_path) == {}
    aside = [path for path in tmp_path.iterdir() if "earlier_run" in path.name]
    assert [path.stat().st_size for path in aside] == list(sizes.values())


def test_files_that_are_gone_or_shorter_are_left(tmp_path):
    write(tmp_path, "loss", [1])
    ((name, size),) = event_file_sizes(tmp_path).items()
    cut_back(tmp_path, {name: size + 5, "events.out.tfevents.gone": 9})
    assert event_file_sizes(tmp_path) == {name: size} and steps(tmp_path) == {"loss": [1]}
    cut_back(tmp_path / "no folder", {})
