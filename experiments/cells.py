"""One cell of a table: its stages, each kept when finished and shared by the cells that need it, and its result."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import statistics
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bundles.run import REPOSITORY, commit, run_config
from common.records import write_record
from release.results import EVALUATIONS, ResultError, short_hash

from .grid import STORED_NAMES, Cell
from .recipes import EARLIER_N4, OUTPUT, RECIPES
from .results import read_stage_record

logger = logging.getLogger(__name__)

Outcome = tuple[Cell, dict[str, Any] | Exception]
"""A cell, and its result or why it has none."""

_TRAIN = "bundle_*/configs/train.json"
_CURVE_POINTS = 100
# Seconds to wait for a stage that is in use: that of a killed process is free as soon as the system has cleared it up.
_LOCK_TIMEOUT = 1.0

OUTPUTS = {
    "pretrain_global": ("pretrained_encoder.pt",),
    "pretrain_local": ("pretrained_encoder_decoder.pt",),
    "pretrain_joint": ("pretrained_encoder.pt", "pretrained_encoder_decoder.pt"),
    "train": tuple(EVALUATIONS.values()),
}
"""What a finished stage leaves for those after it, by config."""
LOCK = ".lock"
"""Name of the file in a stage's folder that is locked while a process runs the stage."""


class Busy(RuntimeError):
    """Another process is at work on what is needed."""


@dataclass(frozen=True)
class Stage:
    """One run of a bundle's config.

    Attributes:
        bundle: the bundle's folder.
        config: of the bundle, such as "train".
        folder: gets the weights and the state of the run.
        settings: what is overridden.
        laid_over: a config that is laid over it.
        preprocessing: what is overridden of the preprocessing; not part of what names the folder.
    """

    bundle: Path
    config: str
    folder: Path
    settings: dict[str, Any]
    laid_over: str = ""
    preprocessing: Mapping[str, Any] = field(default_factory=dict)

    @property
    def record(self) -> dict[str, Any]:
        """What is known of its runs: seconds so far, and whether it is finished.

        Raises:
            ResultError: if the file that says so is damaged, or the stage is finished and its weights are gone.
        """
        path = self.folder / "record.json"
        if not path.is_file():
            return {"seconds": 0.0, "finished": False}
        record = read_stage_record(path)
        if record["config"] != self.config:
            raise ResultError(
                f"{path} is of the config {record['config']!r}, the stage's is {self.config!r}: move it away to let "
                "the stage go on from its last checkpoint."
            )
        gone = [name for name in OUTPUTS[self.config] if not (self.folder / name).is_file()]
        if record["finished"] and gone:
            raise ResultError(
                f"{self.folder}: the run is finished, but files are gone ({', '.join(gone)}): put them back, or delete "
                "the folder to run this stage again."
            )
        return record

    @property
    def images(self) -> int:
        """Steps times batch size: what its time is in proportion to, among the runs of one config."""
        return self.settings["steps"] * self.settings.get("batch_size", 1)


def bundle_of(dataset: str) -> Path:
    """Return the folder of a dataset's bundle.

    Raises:
        ValueError: if there is none.
    """
    places = (REPOSITORY, REPOSITORY / "experiments")  # here those that are for experiments only
    bundles = {path.parents[1].name[7:]: path.parents[1] for place in places for path in place.glob(_TRAIN)}
    if dataset not in bundles:
        raise ValueError(f"dataset must be one of {', '.join(sorted(bundles))}, which have a bundle, got {dataset!r}.")
    return bundles[dataset]


def stages_of(cell: Cell, runs_dir: Path) -> list[Stage]:
    """List what has to be run for a cell, in order; equal pre-trainings have equal folders.

    Raises:
        ValueError: if it is one that earlier versions ran.
    """
    if not cell.is_run:
        raise ValueError(
            f"{cell.name}: the recipe was run by versions up to 0.7, whose results stay; take 'recommended'."
        )
    bundle, schedule, pretraining = bundle_of(cell.dataset), cell.schedule, cell.pretraining
    shared = {"seed": cell.seed, "steps_per_epoch": schedule.steps_per_epoch}
    stages: list[Stage] = []

    def add(config: str, name: str, settings: dict[str, Any], laid_over: str = "") -> None:
        # An earlier stage is in the settings as the name of its folder, which ends in a hash. Only the name counts, so
        # that all the folders can be moved together.
        plain = {
            STORED_NAMES.get(key, key): value.relative_to(runs_dir).as_posix() if isinstance(value, Path) else value
            for key, value in settings.items()
        }
        identity = short_hash((cell.dataset, config, plain))
        preprocessing = _preprocessing(cell, config)
        stages.append(Stage(bundle, config, runs_dir / f"{name}_{identity}", settings, laid_over, preprocessing))

    contrastive = {
        **shared,
        "strategy": pretraining.global_strategy,
        "batch_size": pretraining.batch_size,
        "num_partitions": pretraining.num_partitions,
        "steps": schedule.global_steps,
    }
    regions = {"num_blocks": pretraining.num_blocks, "region_size": pretraining.region_size}
    if pretraining.joint_weight:
        settings = {
            **contrastive,
            **regions,
            "local_strategy": pretraining.local_strategy,
            "local_weight": pretraining.joint_weight,
        }
        add("pretrain_joint", pretraining.name, settings)
    elif pretraining.global_strategy:
        add("pretrain_global", pretraining.global_strategy, contrastive)
        if pretraining.local_strategy:
            settings = {**shared, **regions, "strategy": pretraining.local_strategy, "steps": schedule.local_steps}
            settings["pretrained_path"] = stages[-1].folder / "pretrained_encoder.pt"
            add("pretrain_local", pretraining.name, settings)
    steps, batch_size = cell.fine_tuning_length
    settings = {
        **shared,
        "num_labelled": cell.num_labelled,
        "draw": cell.draw,
        "initialisation": pretraining.initialisation,
        "batch_size": batch_size,
        "steps": steps,
    }
    if stages:
        settings["pretrained_dir"] = stages[-1].folder
    # Cells whose recipes differ in what is done with the output only share the network.
    name = replace(cell, recipe=RECIPES["paper"]).name
    laid_over = "paper"
    if cell.recipe.self_training_rounds:  # what is not said is as it is by default
        del settings["steps_per_epoch"]
        laid_over = ""
    add("train", name, {**settings, **cell.recipe.settings}, laid_over)
    return stages


def run_stage(stage: Stage, dataset_dir: Path) -> None:
    """Run a stage, from where it was interrupted, unless it is finished.

    Raises:
        Busy: if another process is running it.
        ResultError: if its record is damaged.
    """
    if stage.record["finished"]:
        return
    stage.folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(stage.folder / LOCK).acquire(timeout=_LOCK_TIMEOUT)
    except Timeout:
        raise Busy(
            f"{stage.folder} is in use by another process: run the same command again when that has finished."
        ) from None
    with lock:
        before = stage.record
        if before["finished"]:  # by the process that had the lock until now
            return
        started, finished = time.monotonic(), False
        try:
            run_config(
                stage.bundle,
                "+".join(filter(None, (stage.config, stage.laid_over))),
                dataset_dir=dataset_dir,
                output_dir=stage.folder,
                ckpt_dir=stage.folder,
                **stage.preprocessing,
                **stage.settings,
            )
            finished = True
        finally:
            seconds = round(before["seconds"] + time.monotonic() - started, 1)
            record = {"config": stage.config, "seconds": seconds, "finished": finished, "images": stage.images}
            write_record(stage.folder / "record.json", record)


def run_cell(cell: Cell, dataset_dir: Path, runs_dir: Path) -> dict[str, Any]:
    """Run what is missing of a cell and evaluate the selected and the last checkpoint on the test volumes.

    Returns:
        The result: cell, provenance, seconds of each stage, curves, and every evaluation with all volumes' Dice.
    """
    bundle = bundle_of(cell.dataset)
    provenance = {"commit": commit(), "configs_sha256": _configs_hash(bundle)}  # as they are now, not hours later
    stages = stages_of(cell, runs_dir)
    for stage in stages:
        logger.info(f"{cell.name}: {stage.config} in {stage.folder}.")
        run_stage(stage, dataset_dir)
    evaluations: dict[str, Any] = {}
    for name, file in EVALUATIONS.items():
        output_dir = runs_dir / cell.folder / f"test_{Path(file).stem}"
        run_config(
            bundle,
            "evaluate",
            dataset_dir=dataset_dir,
            num_labelled=cell.num_labelled,
            draw=cell.draw,
            checkpoint=stages[-1].folder / file,
            output_dir=output_dir,
            **stages[-1].preprocessing,
            **{name: getattr(cell.recipe, name) for name in OUTPUT},
            pictures=file == "model.pt",
        )
        summary = json.loads((output_dir / "evaluation.json").read_text())
        evaluations[name] = {key: summary[key] for key in ("mean_dice", "mean_iou", "volumes") if key in summary}
    settings = summary["settings"]
    return {
        "key": cell.key,
        "cell": cell.to_dict(),
        **provenance,
        "device": settings["device"],
        "precision": settings["precision"],
        "versions": summary["versions"],
        "seconds": _seconds(stages),
        "curves": _curves(stages[-1].folder),
        "evaluations": evaluations,
    }


def is_running(stages: Iterable[Stage]) -> bool:
    """Whether a process is at work on one of the stages."""
    for stage in stages:
        lock = stage.folder / LOCK
        if lock.is_file():
            try:
                with FileLock(lock).acquire(timeout=0):
                    pass
            except Timeout:
                return True
    return False


def seconds_per_image(runs_dir: Path) -> dict[str, float]:
    """Return the median of seconds by images (see `Stage`) of the finished stages of each config."""
    rates: dict[str, list[float]] = {}
    for path in sorted(runs_dir.glob("*/record.json")):
        try:
            record = read_stage_record(path)
        except ResultError:
            continue  # the cells that need this stage will say so
        if record["finished"]:
            rates.setdefault(record["config"], []).append(record["seconds"] / record["images"])
    return {config: statistics.median(values) for config, values in rates.items()}


def estimated_minutes(stages: Iterable[Stage], rates: dict[str, float]) -> float | None:
    """Return how long stages will take, those that are finished nothing; None if there is no experience with one.

    Args:
        stages: what has to be run.
        rates: seconds by images of each config (see `seconds_per_image`).
    """
    missing = [stage for stage in stages if not stage.record["finished"]]
    if any(stage.config not in rates for stage in missing):
        return None
    seconds = [stage.images * rates[stage.config] - stage.record["seconds"] for stage in missing]
    return sum(max(0.0, value) for value in seconds) / 60


def _preprocessing(cell: Cell, config: str) -> Mapping[str, Any]:
    """Return what is overridden of the preprocessing in a stage of a cell.

    Cells of the paper's tables at the reduced schedule, and the pre-training that the others share with them, go on
    with the N4 that the first of them had: a table has one.
    """
    earlier = cell.dataset == "acdc" and cell.schedule.name == "reduced"
    if earlier and (config != "train" or not cell.recipe.self_training_rounds):
        return EARLIER_N4
    return {}


def _seconds(stages: Iterable[Stage]) -> dict[str, float]:
    """Add up the seconds of the stages by config; with self-training there are two of one."""
    seconds: dict[str, float] = {}
    for stage in stages:
        seconds[stage.config] = round(seconds.get(stage.config, 0.0) + stage.record["seconds"], 1)
    return seconds


def _curves(folder: Path) -> dict[str, list[list[float]]]:
    """Read what fine-tuning wrote for TensorBoard: the loss by step and the validation Dice by epoch, thinned out.

    Values that are not finite are left out, since JSON has none.
    """
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    curves = {}
    for tag in events.Tags()["scalars"]:
        points = [[event.step, round(event.value, 5)] for event in events.Scalars(tag) if math.isfinite(event.value)]
        curves[tag] = points[:: -(-len(points) // _CURVE_POINTS)]
    return curves


def _configs_hash(bundle: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted((bundle / "configs").glob("*.json")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
