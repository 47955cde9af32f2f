"""What other commands wrote beside the results, and damage to it."""

from __future__ import annotations

import re

import pytest

from common.records import write_record
from experiments.report import report

from .made_up import make_cell, make_report, read_report, write

EMBEDDINGS = {
    "weights_sha256": {"pretrained_encoder.pt": "f00"},
    "volumes": 20,
    "slices": 170,
    "partitions": 4,
    "neighbour_accuracy": {"before": 0.5, "after": 0.75, "chance": 0.25},
    "beside": {"GR": 0.625},
}
PROBE = {"starts": [{"start": "encoder", "region_match": 0.25, "anatomy_over_place": 1.0, "probe_dice": 0.125}]}
LOCAL_STAGES = {
    "volumes": 23,
    "rows": [
        {"draw": draw, "strategy": name, "checkpoint_sha256": "cafe", "dice": dice}
        for draw, name, dice in (("c3", "LE", 0.75), ("c3", "LX", 0.5), ("c4", "LE", 0.625), ("c4", "LX", 0.875))
    ],
}
BIAS_FIELD = {
    "checkpoint_sha256": "beef",
    "cases": {
        "every 4th": {"time": 1.0, "difference": 0.0, "dice": 0.89},
        "none": {"time": None, "difference": 0.125, "dice": 0.8875},
    },
}
CHOOSING = {
    "settings": {"steps": 200},
    "volumes": 23,
    "rows": [
        {"number": 1, "name": name, "labelled": ["patient001"], "dice": dice}
        for name, dice in {"medoids": 0.5, "densest": 0.75, "random 1": 0.25, "random 2": 0.75, "paper c1": 0.5}.items()
    ],
}
TURNS = {
    "networks": [
        {
            "name": "shipped",
            "cases": {
                "0 and 180": {"rank_correlation": 0.5, "mean_absolute_error": 0.0625},
                "0 and 90": {"rank_correlation": -0.25, "mean_absolute_error": 0.125},
            },
        }
    ],
    "test": {
        "calibration": {
            name: {"number": 20, "rank_correlation": 0.75, "mean_absolute_error": 0.25} for name in ("RV", "mean")
        },
        "look_at": [{"number": 2, "worst_caught": 1, "caught_by_chance": 0.2}],
    },
}
SOME_SLICES = {
    "settings": {},
    "volumes": 20,
    "rows": [
        {"draw": "c1", "way": "slices", "dice": 0.75},
        {"draw": "c1", "way": "volume", "dice": 0.5},
        {"draw": "c2", "way": "slices", "dice": 0.5},
        {"draw": "c2", "way": "volume", "dice": 0.5},
        {"draw": "c3", "way": "slices", "dice": 0.25},
    ],
}
LEVERS = {
    "about": "On 23 patients.",
    "structures": ["RV", "Myo"],
    "runs": [
        {"what": "base", "num_labelled": 1, "draw": "c1", "seed": 0, "steps": 800, "batch_size": 20}
        | {"dice": {"RV": 0.75, "Myo": 0.5}, "mean": 0.625, "turned": None, "compared": "–"},
        {"what": "longer", "num_labelled": 2, "draw": "c2", "seed": 1, "steps": 900, "batch_size": 20}
        | {"dice": {"RV": 0.875, "Myo": 0.625}, "mean": 0.75, "turned": 0.8, "compared": "base"},
    ],
}


def test_what_other_commands_wrote_is_shown(tmp_path):
    write(tmp_path, make_cell(), 0.5)
    figures = tmp_path / "acdc" / "reduced" / "figures"
    figures.mkdir()
    assert "embeddings" not in make_report(tmp_path).lower()
    for name in ("partitions.png", "embeddings.png"):
        (figures / name).touch()
    write_record(figures / "embeddings.json", EMBEDDINGS)
    write_record(figures.parent / "probe.json", PROBE)
    write_record(figures.parent / "levers.json", LEVERS)
    write_record(figures.parent / "choosing.json", CHOOSING)
    write_record(figures.parent / "some_slices.json", SOME_SLICES)
    write_record(figures / "bias_field.json", BIAS_FIELD)
    write_record(figures.parent / "turns.json", TURNS)
    write_record(figures.parent / "local_stages.json", LOCAL_STAGES)
    text = make_report(tmp_path)
    assert "| every 4th | 1.000 | 0.0 | .8900 |\n| none | – | 12.5 | .8875 |" in text and "`beef`" in text
    assert "On 23 patients." in text
    assert "| base | 1 | c1, 0 | 800 x 20 | .750 | .500 | .625 | – | – |" in text
    assert "| longer | 2 | c2, 1 | 900 x 20 | .875 | .625 | .750 | .800 | base |" in text
    assert "![Partitions](figures/partitions.png)" in text
    assert "(figures/embeddings.png)" in text and "`pretrained_encoder.pt`, SHA-256 `f00`" in text
    assert "same one of 4 partitions for .500 of the slices before and .750 after pre-training; by chance .250." in text
    assert "by chance .250. After other pre-trainings: GR .625. Weights" in text
    assert "| encoder | .250 | 1.000 | .125 |" in text
    assert "with `steps` 200: Dice over the 23 patients" in text
    assert "| 1 | .750 (1 of 2) | .500 (1 of 2) | – | .500 ± .354 (2) | .500 (1) |" in text
    assert "with the defaults: Dice over the 20 test volumes" in text
    assert "| c1 | .750 | .500 |\n| c2 | .500 | .500 |\n| c3 | .250 | – |" in text
    assert "± standard error: +0.125 ± .125 (2 pairs)." in text
    assert "| draw | LE | LX |\n|---|---|---|\n| c3 | .750 | .500 |\n| c4 | .625 | .875 |" in text
    assert "| network | 0 and 180 | 0 and 90 |" in text and "| shipped | 0.50 (.062) | -0.25 (.125) |" in text
    assert "on the 20 test volumes: RV 0.75 (.250), mean 0.75 (.250). 1 of the 2 worst among the 2 least sure" in text
    assert "(figures/choosing.png)" in text and (figures / "choosing.png").is_file()


@pytest.mark.parametrize(
    "name",
    [
        "figures/embeddings.json",
        "figures/bias_field.json",
        "probe.json",
        "levers.json",
        "choosing.json",
        "some_slices.json",
        "turns.json",
        "local_stages.json",
    ],
)
@pytest.mark.parametrize(
    "content",
    ["{", "{}", {}, {"starts": [{**PROBE["starts"][0], "probe_dice": 1.5}], "neighbour_accuracy": {"before": -0.5}}],
    ids=["cut off", "no hash", "empty", "out of range"],
)
def test_damaged_files_of_other_commands_are_named(tmp_path, name, content):
    folder = write(tmp_path, make_cell(), 0.5).parent
    (folder / "figures").mkdir()
    write_record(folder / "probe.json", PROBE)
    write_record(folder / "levers.json", LEVERS)
    write_record(folder / "choosing.json", CHOOSING)
    write_record(folder / "some_slices.json", SOME_SLICES)
    write_record(folder / "turns.json", TURNS)
    write_record(folder / "local_stages.json", LOCAL_STAGES)
    write_record(folder / "figures" / "embeddings.json", EMBEDDINGS)
    write_record(folder / "figures" / "bias_field.json", BIAS_FIELD)
    if isinstance(content, dict):
        write_record(folder / name, content)
    else:
        (folder / name).write_text(content)
    with pytest.raises(SystemExit, match=f"{re.escape(str(folder / name))} is .*: move it away and make it again"):
        report(str(tmp_path))
    text = read_report(tmp_path)
    assert "Table 6" in text
    shown = {
        "figures/embeddings.json": "pre-training; by chance",
        "probe.json": "region match",
        "levers.json": "On 23 patients",
    }
    shown |= {"figures/bias_field.json": "bias field correction", "choosing.json": "drawn at random"}
    shown |= {"turns.json": "How sure", "some_slices.json": "Eight slices less one volume"}
    shown |= {"local_stages.json": "Which dense local stage"}
    assert {file for file, words in shown.items() if words in text} == {*shown} - {name}
