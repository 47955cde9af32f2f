"""Made-up cases of a report."""

from __future__ import annotations

import numpy as np

from common.display import Displayed
from common.report import Case, Column, Report

CLASSES, COLOURS = ["background", "RV", "Myo", "LV"], ["#e41a1c", "#4daf4a", "#377eb8"]
COLUMNS = (Column("mean", "mean Dice", is_share=True), Column("distance", "distance, mm", 1), Column("doubt", "doubt"))
# Names from outside that would be markup, or end the script they stand in, if they were not escaped.
HOSTILE = (
    "</script><script>window.harm = 1</script>",
    "<img src=x onerror='window.harm = 2'>",
    '"><svg onload="window.harm = 3">',
    "<!--<script>",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:window.harm=4",
    "​\u2028`${window.harm = 5}`&lt;b&gt;",
)


def make_shown(seed=0, shape=(10, 216, 256), uncertainty=True, label=True):
    """A noisy image with three nested discs that move from slice to slice; the prediction is off by some pixels."""
    random = np.random.default_rng(seed)
    slices, rows, columns = shape
    y, x = np.mgrid[:rows, :columns]
    maps = {name: np.zeros(shape, np.float32) for name in ("label", "prediction")}
    for index in range(1, slices - 1):
        for name, shift in (("label", 0), ("prediction", 1 + index // 2)):
            distance = np.hypot(y - rows / 2 - index + shift, x - columns / 2 + shift)
            for value, share in ((1, 0.2), (2, 0.14), (3, 0.08)):
                maps[name][index][distance < share * rows] = value
    image = 40 * maps["label"] + random.normal(100, 15, shape) + 40 * np.sin(x / 20) * np.cos(y / 30)
    if uncertainty:
        maps["uncertainty"] = np.where(maps["label"] != maps["prediction"], 0.8, 0.0).astype(np.float32)
    if not label:
        del maps["label"]
    return Displayed(image.astype(np.float32), maps)


def make_report(number=3, names=None, class_names=CLASSES, shape=(10, 216, 256), slices=True, **options):
    """A report of so many volumes, or of these names; the first one is the best and the last one has no Dice."""
    names = names or [f"patient{index:03}" for index in range(1, number + 1)]
    report = Report("Evaluation", len(names), "volume", class_names, COLOURS)
    for index, name in enumerate(names):
        layers = report.encode(make_shown(index, shape, **options)) if slices else None
        dice = 0.9 - 0.04 * index if index < len(names) - 1 else None
        values = {"mean": dice, "distance": 2.0 + (7 * index) % 5, "doubt": name if index % 2 else None}
        details = {own: {"Dice": "0.900", "volume": "12.0 ml"} for own in class_names[1:]}
        report.add(Case(name, values, layers, details, f"a note on {name}"))
    return report


def write_made_up(path, report, title="Evaluation on the test volumes", **options):
    options = {"tiles": [("mean Dice", "0.812")], "facts": {"Settings": {"checkpoint": "model.pt"}}, **options}
    report.write(path, title, "some volumes", COLUMNS, "mean", **options)
    return path
