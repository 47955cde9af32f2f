"""Dice of whole volumes, as a metric and as a report."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.handlers import IgniteMetricHandler, from_engine
from monai.metrics import DiceMetric
from monai.networks import one_hot

import common.evaluation as evaluation
from common.evaluation import EvaluationReport, VolumeDice, mean_dice, volume_dice

CLASSES = ["background", "RV", "Myo", "LV"]
NAN = float("nan")


# ---- volume_dice


@pytest.mark.parametrize(
    ("prediction", "label", "expected"),
    [
        ([0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [1, 1, 1]),
        ([0, 1, 1, 1, 2], [0, 0, 1, 1, 2], [2 / 3, 4 / 5, 1]),
        ([0, 0, 0, 0, 0], [1, 1, 1, 1, 1], [0, 0, NAN]),
        ([1, 1, 2, 2, 0], [2, 2, 1, 1, 0], [1, 0, 0]),
        ([0, 0, 0, 2, 2], [0, 0, 0, 0, 0], [6 / 8, NAN, 0]),
        ([0, 0, 0, 0, 0], [0, 0, 0, 2, 2], [6 / 8, NAN, 0]),
        ([0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [1, NAN, NAN]),
    ],
    ids=["equal", "one wrong", "all wrong", "exchanged", "predicted only", "labelled only", "empty"],
)
@pytest.mark.parametrize("dtypes", [(torch.float32, torch.float32), (torch.uint8, torch.int64)], ids=["float", "int"])
def test_dice_counted_by_hand(prediction, label, expected, dtypes):
    dice = volume_dice(torch.tensor(prediction, dtype=dtypes[0]), torch.tensor(label, dtype=dtypes[1]), 3)
    assert dice.dtype == torch.float64
    assert dice.tolist() == pytest.approx(expected, nan_ok=True)


def random_maps(seed, shape=(7, 6, 5), num_classes=4):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(num_classes, shape, generator=generator) for _ in range(2)]


@pytest.mark.parametrize("seed", range(3))
def test_dice_agrees_with_numpy_and_monai(seed):
    prediction, label = random_maps(seed)
    dice = volume_dice(prediction, label, 4)
    p, t = prediction.numpy(), label.numpy()
    by_sets = [2 * ((p == k) & (t == k)).sum() / ((p == k).sum() + (t == k).sum()) for k in range(4)]
    assert dice.tolist() == pytest.approx(by_sets)
    maps = [one_hot(values[None, None], 4) for values in (prediction, label)]
    assert dice.tolist() == pytest.approx(DiceMetric(include_background=True)(*maps)[0].tolist())


def test_dice_does_not_depend_on_the_order_of_voxels_or_arguments():
    prediction, label = random_maps(5)
    order = torch.randperm(prediction.numel())
    dice = volume_dice(prediction, label, 4)
    assert torch.equal(dice, volume_dice(prediction.flatten()[order], label.flatten()[order], 4))
    assert torch.equal(dice, volume_dice(label, prediction, 4))


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"one shape, got \(2, 3\) and \(3, 2\)"):
        volume_dice(torch.zeros(2, 3), torch.zeros(3, 2), 2)


@pytest.mark.parametrize("value", [-1.0, 3.0, 0.5, NAN])
@pytest.mark.parametrize("name", ["prediction", "label"])
def test_only_classes_are_accepted(name, value):
    maps = {"prediction": torch.zeros(4), "label": torch.zeros(4)}
    maps[name][2] = value
    with pytest.raises(ValueError, match=rf"{name} must hold the classes 0 to 2 only, got also \[{value}\]"):
        volume_dice(**maps, num_classes=3)


# ---- VolumeDice


def evaluate(volumes, handlers=(), metric=None):
    """Run an engine over (image, prediction, label) items, one volume a batch, as MONAI's evaluator would."""
    engine = Engine(lambda engine, batch: [{"pred": item["pred"], "label": item["label"]} for item in batch])
    if metric is not None:
        metric.attach(engine, "mean_dice")
    for handler in handlers:
        handler.attach(engine)
    engine.run([[volume] for volume in volumes])
    return engine


def item(prediction, label, identifier="a", image_path=None):
    meta = {"filename_or_obj": str(image_path)}
    return {
        "id": identifier,
        "image": MetaTensor(torch.zeros(1, 1, 1, 1), meta=meta),
        "pred": MetaTensor(torch.as_tensor(prediction, dtype=torch.float32).reshape(1, 1, 1, -1)),
        "label": MetaTensor(torch.as_tensor(label, dtype=torch.float32).reshape(1, 1, 1, -1)),
    }


# Foreground Dice: [1, 0.8, absent], [0, 1/2, 2/3] and, where there is nothing to find, three times absent.
FIRST = item([0, 1, 2, 2, 0], [0, 1, 2, 2, 2], "first")
SECOND = item([1, 2, 2, 3, 3, 3, 0], [2, 2, 0, 3, 3, 0, 3], "second")
NOTHING = item([0, 0], [0, 0], "nothing")


@pytest.mark.parametrize(
    ("volumes", "expected"),
    [([FIRST], 0.9), ([SECOND], (0 + 1 / 2 + 2 / 3) / 3), ([FIRST, SECOND], None), ([FIRST, NOTHING], 0.9)],
    ids=["first", "second", "both", "nothing there"],
)
def test_metric_averages_over_classes_then_volumes(volumes, expected):
    metric = IgniteMetricHandler(metric_fn=VolumeDice(4), output_transform=from_engine(["pred", "label"]))
    engine = evaluate(volumes, metric=metric)
    expected = (0.9 + (1 / 2 + 2 / 3) / 3) / 2 if expected is None else expected
    assert engine.state.metrics["mean_dice"] == pytest.approx(expected)
    assert engine.state.metric_details["mean_dice"].shape == (len(volumes), 3)
    engine.run([[FIRST]])  # the next run starts afresh
    assert engine.state.metrics["mean_dice"] == pytest.approx(0.9)


def test_metric_of_nothing_is_nan():
    metric = VolumeDice(4)
    metric(NOTHING["pred"][None], NOTHING["label"][None])
    assert math.isnan(metric.aggregate())


def test_metric_of_a_batch():
    metric = VolumeDice(2)
    scores = metric(torch.tensor([[[1, 1]], [[0, 1]]]), torch.tensor([[[1, 1]], [[1, 1]]]))
    assert scores.tolist() == [[1.0], [pytest.approx(2 / 3)]]
    assert float(metric.aggregate()) == pytest.approx(5 / 6)


def test_metric_needs_labels():
    with pytest.raises(ValueError, match="needs labelled volumes"):
        VolumeDice(2)(torch.zeros(1, 1, 2))


# ---- mean_dice


def test_dice_of_each_structure_that_there_is_is_beside_the_mean():
    metric = mean_dice(CLASSES)["mean_dice"]
    assert set(evaluate([FIRST], [], metric).state.metrics) == {"mean_dice", "RV_dice", "Myo_dice"}
    found = evaluate([FIRST, SECOND], [], metric).state.metrics
    assert found["RV_dice"] == pytest.approx(0.5) and found["Myo_dice"] == pytest.approx(0.65)
    assert found["LV_dice"] == pytest.approx(2 / 3)


# ---- EvaluationReport


def reporting(folder, settings=None, pictures=False):
    """Return the handler that reports to a folder, and the metric that it takes the values of."""
    metric = mean_dice(CLASSES)["mean_dice"]
    return EvaluationReport(str(folder), CLASSES, settings or {}, metric.metric_fn, pictures), metric


def report(folder, volumes, settings=None, pictures=False):
    handler, metric = reporting(folder, settings, pictures)
    evaluate(volumes, [handler], metric)

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads((folder / "evaluation.json").read_text(), parse_constant=refuse)


def test_report_has_every_structure_of_every_volume(tmp_path, caplog):
    folder = tmp_path / "deep" / "out"
    summary = report(folder, [FIRST, SECOND], {"checkpoint": "model.pt", "seed": 3})
    first, second = summary["volumes"]
    assert first == {"id": "first", "RV": 1.0, "Myo": pytest.approx(0.8), "LV": None, "mean": pytest.approx(0.9)}
    assert second["id"] == "second" and second["RV"] == 0 and second["LV"] == pytest.approx(2 / 3)
    means = summary["mean_dice"]
    assert means["RV"] == pytest.approx(0.5) and means["Myo"] == pytest.approx(0.65)
    assert means["LV"] == pytest.approx(2 / 3)
    assert means["mean"] == pytest.approx((first["mean"] + second["mean"]) / 2)
    assert summary["settings"] == {"checkpoint": "model.pt", "seed": 3}
    assert summary["versions"]["torch"] == torch.__version__
    assert "first: LV neither labelled nor predicted" in caplog.text and "second:" not in caplog.text

    with open(folder / "dice.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "RV", "Myo", "LV", "mean"]
    assert [row["id"] for row in rows] == ["first", "second"]
    assert rows[0]["LV"] == "" and float(rows[1]["LV"]) == second["LV"]
    files = ["dice.csv", "evaluation.json", "surface_distances.csv", "volumes.csv"]
    assert sorted(path.name for path in folder.iterdir()) == files


def test_report_agrees_with_the_metric(tmp_path):
    metric = IgniteMetricHandler(metric_fn=VolumeDice(4), output_transform=from_engine(["pred", "label"]))
    engine = evaluate([FIRST, SECOND, NOTHING], metric=metric)
    summary = report(tmp_path, [FIRST, SECOND, NOTHING])
    assert summary["mean_dice"]["mean"] == pytest.approx(engine.state.metrics["mean_dice"])


def test_dice_is_computed_once_for_metric_and_report(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(evaluation, "volume_dice", lambda *maps: calls.append(1) or volume_dice(*maps))
    report(tmp_path, [FIRST, SECOND, NOTHING])
    assert len(calls) == 3


def test_what_is_nowhere_is_null(tmp_path, caplog):
    summary = report(tmp_path, [NOTHING])
    assert summary["volumes"] == [{"id": "nothing", "RV": None, "Myo": None, "LV": None, "mean": None}]
    assert set(summary["mean_dice"].values()) == {None}
    assert "RV, Myo, LV neither" in caplog.text


def test_any_setting_can_be_written(tmp_path):
    settings = {
        "checkpoint": Path("models/model.pt"),
        "device": torch.device("cuda", 1),
        "sizes": (192, 192),
        "nested": {1: Path("a"), "nan": NAN},
        "infinite": math.inf,
        "flag": True,
        "none": None,
        "number": 0.5,
        "dtype": torch.bfloat16,
    }
    assert report(tmp_path, [FIRST], settings)["settings"] == {
        "checkpoint": "models/model.pt",
        "device": "cuda:1",
        "sizes": [192, 192],
        "nested": {"1": "a", "nan": None},
        "infinite": None,
        "flag": True,
        "none": None,
        "number": 0.5,
        "dtype": "torch.bfloat16",
    }


def test_a_second_run_starts_afresh(tmp_path):
    handler, metric = reporting(tmp_path)
    engine = evaluate([FIRST, SECOND], [handler], metric)
    engine.run([[SECOND]])
    assert [row["id"] for row in json.loads((tmp_path / "evaluation.json").read_text())["volumes"]] == ["second"]


def test_an_interrupted_run_leaves_the_former_report(tmp_path):
    report(tmp_path, [FIRST])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    class Stop:
        def attach(self, engine):
            engine.add_event_handler(Events.ITERATION_STARTED(once=2), self.stop)

        def stop(self):
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        handler, metric = reporting(tmp_path)
        evaluate([SECOND, FIRST], [handler, Stop()], metric)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_failure_while_writing_leaves_the_former_table(tmp_path, monkeypatch):
    report(tmp_path, [FIRST])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(self, rows):
        raise OSError("disk full")

    monkeypatch.setattr(csv.DictWriter, "writerows", fail)
    with pytest.raises(OSError, match="disk full"):
        report(tmp_path, [SECOND])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_pictures_are_named_after_the_volumes(tmp_path):
    image_path = tmp_path / "image.nii.gz"
    image = np.arange(8 * 6 * 2, dtype=np.int16).reshape(8, 6, 2)
    nibabel.save(nibabel.Nifti1Image(image, np.diag([-1, -1, 8, 1])), image_path)
    label = torch.zeros(1, 8, 6, 2)
    label[:, 2:5, 2:5] = 2
    volume = {**item([0], [0], "patient007", image_path), "pred": label, "label": MetaTensor(label)}
    report(tmp_path / "out", [volume], pictures=True)
    assert [path.name for path in (tmp_path / "out" / "pictures").iterdir()] == ["patient007.png"]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Open the slices of patient007" in page and "volumes.png" not in page
    report(tmp_path / "out", [FIRST])  # another evaluation without one
    assert not (tmp_path / "out" / "report.html").exists()


def test_pictures_of_volumes_that_are_no_longer_evaluated_are_deleted(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "dice.csv").write_text("id,object,mean\na,0.5,0.5\nb,0.5,0.5\n")
    for name in ("a", "b", "mine"):
        (tmp_path / "pictures" / f"{name}.png").touch()
    report = EvaluationReport(str(tmp_path), ["background", "object"], {}, VolumeDice(2))
    report._rows = [{"id": "b", "object": 1.0, "mean": 1.0}]
    report.write()
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["b.png", "mine.png"]
