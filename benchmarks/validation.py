"""What validating costs: its share of a training at the default interval, and an evaluation beside reading and network.

Training is `train.json` with all its options, but for the length: a few epochs, a validation after each. A step is the
median time between the ends of two steps of an epoch, a validation the mean over all. Self-training is left out: its
labelling is no validation, and a step within a round costs what others do (see `step`).

Evaluation is `evaluate.json` on the test volumes, whose preprocessed volumes are in the cache, from the reading of the
config to the last file written: with pictures and the page, as it is by default, and without.
"""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from ignite.engine import Events
from monai.engines import SupervisedEvaluator
from monai.inferers import SliceInferer
from monai.transforms import Activationsd, Invertd

from benchmarks import harness
from benchmarks.inference import random_weights, stopwatch
from bundles.run import REPOSITORY, load_config
from common import lineage, runs
from common.data.cache import fill_cache
from common.data.volumes import VolumeDataset
from common.engines import BatchNormStatistics, SaveBest, SaveWeights, StageTrainer
from common.evaluation import EvaluationReport, VolumeDice
from common.measures import Measures
from common.transforms import LargestComponentsd, MostProbabled
from phantom import write_acdc_phantom, write_phantom_splits

BUNDLE = REPOSITORY / "bundle_acdc"
MOST_PERCENT = 3.0
MOST_TIMES = 2.0
_NETWORK, _WAY_BACK, _DICE, _READING = "network", "way back to the grid", "Dice", "reading"
_STATISTICS, _SAVING, _REST, _TRAINING = "batch-norm statistics", "saving", "rest", "training"
_SHARED: dict[tuple[Any, str], str] = {
    (SliceInferer, "__call__"): _NETWORK,
    **{(transform, "__call__"): _WAY_BACK for transform in (Activationsd, Invertd, MostProbabled, LargestComponentsd)},
    (VolumeDice, "_compute_tensor"): _DICE,
}
_OF_VALIDATION = {
    **_SHARED,
    (BatchNormStatistics, "exchange"): _STATISTICS,
    (BatchNormStatistics, "restore"): _STATISTICS,
    (SaveWeights, "save"): _SAVING,
    (SaveBest, "compare"): _SAVING,
    (SupervisedEvaluator, "run"): _REST,
    (StageTrainer, "run"): _TRAINING,
}
_OF_EVALUATION = {
    **_SHARED,
    (VolumeDataset, "prepare"): _READING,
    (lineage, "find_overlap"): "overlap with the training",
    (Measures, "add"): "distances and volumes",
    (Measures, "write"): "distances and volumes",
    (EvaluationReport, "collect"): "pictures",
    (EvaluationReport, "write"): "tables and page",
}


def measure(
    dataset_dir: str | None = None,
    checkpoint: str | None = None,
    epochs: int = 3,
    settings: Mapping[str, Any] | None = None,
    own_processes: bool = True,
) -> dict[str, Any]:
    """Train for some epochs and evaluate.

    Args:
        dataset_dir: folder of ACDC; None makes phantoms.
        checkpoint: weights that are evaluated; None takes random ones.
        epochs: of the training, with a validation after each.
        settings: values of `train.json` and `evaluate.json` by id, to shrink them.
        own_processes: False measures in this process.

    Returns:
        The result. Per cent are those of the training between two validations, or of the evaluation.
    """
    with tempfile.TemporaryDirectory() as folder:
        places: dict[str, Any] = {"dataset_dir": dataset_dir, "cache_dir": f"{folder}/cache"}
        if dataset_dir is None:
            places |= {"dataset_dir": f"{folder}/data", "split_path": f"{folder}/splits.json"}
            write_phantom_splits(places["split_path"], write_acdc_phantom(places["dataset_dir"], 8), num_pretrain=4)
        values = {**places, "device": harness.default_device(), **(settings or {})}
        weights = checkpoint or random_weights({"device": values["device"]}, Path(folder, "random.pt"))
        trained = _run(own_processes, train, values, epochs, folder)
        evaluated = {
            pictures: _run(own_processes, evaluate, values, weights, pictures, f"{folder}/{pictures}")
            for pictures in (True, False)
        }

    step, parts, num_volumes, interval = trained
    between, cost = step * interval, sum(parts.values())
    rows: list[dict[str, Any]] = [
        {"of": f"training, {interval} steps", "part": "all steps", "s": between},
        {"of": f"training, {interval} steps", "part": "a validation", "s": cost, "per cent": 100 * cost / between},
    ]
    for part, seconds in parts.items():
        rows.append({"of": "a validation", "part": part, "s": seconds, "per cent": 100 * seconds / between})
    targets = [
        harness.target(
            "a validation, per cent of the training between two at the default interval",
            100 * cost / between,
            at_most=MOST_PERCENT,
        )
    ]
    notes = [
        f"{epochs} validations on {num_volumes} volumes each; a step takes {step:.3f} s, and the default interval is "
        f"{interval} steps. The longest part of a validation is '{max(parts, key=parts.__getitem__)}'."
    ]
    for pictures, (whole, parts, number) in evaluated.items():
        name = f"evaluation of {number} volumes, {'with' if pictures else 'without'} pictures"
        rows += [{"of": name, "part": "all of it", "s": whole, "per cent": 100.0}]
        rows += [{"of": name, "part": part, "s": s, "per cent": 100 * s / whole} for part, s in parts.items()]
        least = parts[_READING] + parts[_NETWORK]
        rule = f"{name}, times reading and network alone"
        targets.append(harness.target(rule, whole / least, at_most=MOST_TIMES))
        others = {part: s for part, s in parts.items() if part not in (_READING, _NETWORK)}
        notes.append(
            f"{name}: reading and network take {least:.1f} s of {whole:.1f} s; of the rest the longest part is "
            f"'{max(others, key=others.__getitem__)}'."
        )
    notes.append(
        f"{'Phantoms' if dataset_dir is None else 'Volumes of ACDC'}; the weights that are evaluated are "
        f"{'random' if checkpoint is None else 'trained'}."
    )
    return harness.result("validation", rows, targets, notes)


def train(settings: Mapping[str, Any], epochs: int, folder: str) -> tuple[float, dict[str, float], int, int]:
    """Train in this process, with a validation after each epoch.

    Args:
        settings: values of `train.json` by id.
        epochs: of the default length.
        folder: for what the run writes.

    Returns:
        Seconds of a step; seconds of a validation by part; number of validation volumes; the default interval of
        validations in steps.
    """
    default = load_config(BUNDLE, "train", **settings)
    length = int(default.get_parsed_content("steps_per_epoch"))
    own = {
        "steps": length * epochs,
        "steps_per_epoch": length,
        "val_interval": 1,
        "self_training_rounds": 0,
        "resume": False,
        "output_dir": f"{folder}/output",
        "ckpt_dir": f"{folder}/models",
        "pretrained_dir": str(BUNDLE / "models"),
    }
    ends: list[float] = []
    steps: list[float] = []

    def note(trainer: StageTrainer) -> None:
        ends.append(time.perf_counter())
        if trainer.state.iteration % length != 1 and len(ends) > 1:  # no validation between
            steps.append(ends[-1] - ends[-2])

    with stopwatch(_OF_VALIDATION, harness.default_device()) as seconds:
        parser = load_config(BUNDLE, "train", **{**settings, **own})
        parser.get_parsed_content("train#trainer").add_event_handler(Events.ITERATION_COMPLETED, note)
        before = dict(seconds)  # none of it was within a training
        parser.get_parsed_content("training")
        number = len(parser.get_parsed_content("validate#dataset"))
    runs.release()
    parts = {stage: (seconds[stage] - before[stage]) / epochs for stage in seconds if stage != _TRAINING}
    interval = int(default.get_parsed_content("val_interval")) * length
    return statistics.median(steps), parts, number, interval


def evaluate(
    settings: Mapping[str, Any], checkpoint: str, pictures: bool, folder: str
) -> tuple[float, dict[str, float], int]:
    """Evaluate in this process, with the preprocessed volumes in the cache.

    Args:
        settings: values of `evaluate.json` by id.
        checkpoint: the weights.
        pictures: whether pictures and the page are made.
        folder: for what the run writes.

    Returns:
        Seconds of the whole; seconds by part; number of volumes.
    """
    known = load_config(BUNDLE, "evaluate")
    values = {key: value for key, value in settings.items() if key.partition("#")[0] in known.get()}
    values |= {"checkpoint": checkpoint, "pictures": pictures, "output_dir": folder}
    parser = load_config(BUNDLE, "evaluate", **values)
    items = parser.get_parsed_content("dataset").data
    fill_cache([item["image"] for item in items], parser.get_parsed_content("cached_preprocessing"), 0, progress=False)
    with stopwatch(_OF_EVALUATION, harness.default_device()) as seconds:
        started = time.perf_counter()
        load_config(BUNDLE, "evaluate", **values).get_parsed_content("run")
        whole = time.perf_counter() - started
    runs.release()
    return whole, {**seconds, _REST: whole - sum(seconds.values())}, len(items)


def _run(own_process: bool, function: Callable[..., Any], *arguments: Any) -> Any:
    if not own_process:
        return function(*arguments)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(function, *arguments).result()
