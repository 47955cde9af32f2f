"""Dice and IoU over all images of a set taken together."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor

from common.display import Displayed
from common.evaluation import EvaluationReport, SetDice, mean_set_dice
from common.photograph_outputs import PHOTOGRAPHS

CLASSES = ["background", "road", "car", "bus"]


def item(prediction, label, name):
    def values(classes):
        return MetaTensor(torch.tensor(classes, dtype=torch.float32).view(1, 1, -1, 1))

    image = MetaTensor(torch.zeros(3, 1, 1, 1), meta={"filename_or_obj": f"{name}.png"})
    return {"id": name, "image": image, "pred": values(prediction), "label": values(label)}


# Together: road 3 of 4 predicted and 4 labelled, car 1 of 2 and 1, no bus.
FIRST = item([1, 1, 1, 2, 0], [1, 1, 1, 1, 0], "first")
SECOND = item([0, 1, 2, 0, 0], [0, 0, 2, 0, 0], "second")
ROAD, CAR = 2 * 3 / 8, 2 * 1 / 3
ROAD_IOU, CAR_IOU = 3 / 5, 1 / 2


def evaluate(items, handlers=()):
    engine = Engine(lambda _, batch: [{"pred": item["pred"], "label": item["label"]} for item in batch])
    metric = mean_set_dice(CLASSES)["mean_dice"]
    metric.attach(engine, "mean_dice")
    for make in handlers:
        make(metric.metric_fn).attach(engine)
    engine.run([[item] for item in items])
    return engine.state.metrics["mean_dice"]


def test_metric_is_over_all_images_and_their_classes():
    assert evaluate([FIRST, SECOND]) == pytest.approx((ROAD + CAR) / 2)
    assert evaluate([SECOND]) == pytest.approx((0 + 1) / 2)


def test_each_image_has_its_own_dice_too():
    metric = SetDice(4)
    for one in (FIRST, SECOND):
        metric(one["pred"][None], one["label"][None])
    expected = [6 / 7, 0, float("nan"), 0, 1, float("nan")]
    assert metric.of_volumes().flatten().tolist() == pytest.approx(expected, nan_ok=True)


def test_report_has_dice_and_iou_of_the_set(tmp_path, caplog):
    drawn = []

    def report(dice):
        display = PHOTOGRAPHS._replace(
            draw=lambda *arguments: drawn.append(arguments),
            read=lambda _, maps: Displayed(np.zeros((1, 1, 5, 3), np.uint8), maps),
        )
        return EvaluationReport(str(tmp_path), CLASSES, {}, dice, display=display)

    evaluate([FIRST, SECOND], [report])
    summary = json.loads((tmp_path / "evaluation.json").read_text())
    assert summary["mean_dice"] == {
        "road": pytest.approx(ROAD),
        "car": pytest.approx(CAR),
        "bus": None,
        "mean": pytest.approx((ROAD + CAR) / 2),
    }
    assert summary["mean_iou"]["road"] == pytest.approx(ROAD_IOU)
    assert summary["mean_iou"]["mean"] == pytest.approx((ROAD_IOU + CAR_IOU) / 2)
    with open(tmp_path / "dice.csv", newline="", encoding="utf-8") as file:
        assert [row["id"] for row in csv.DictReader(file)] == ["first", "second"]
    assert "neither labelled nor predicted" not in caplog.text
    assert [arguments[0] for arguments in drawn] == ["first.png", "second.png"]
    assert drawn[0][2].shape == (1, 5, 1) and drawn[0][3] == CLASSES
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "mean IoU" in page and "Evaluation on the given photographs" in page


def test_labels_are_needed():
    with pytest.raises(ValueError, match="evaluation needs labelled images"):
        SetDice(2)(torch.zeros(1, 1, 2))
