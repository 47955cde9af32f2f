"""Segmentation of one volume, file to file, and where its time goes.

Contenders, all made from the bundle's `inference.json` with one set of weights, on one volume of 10 slices:

    ours          `segment_volumes`, which is the config's `run`, without pictures
    plain         the config's evaluator by itself, in float32, with MONAI's `SaveImaged`
    TorchScript   `segment_volumes` with the network exported to TorchScript, in float32

Each with N4, and with N4 left out of the preprocessing, as for a volume that was corrected beforehand. The input is the
first ACDC volume of 10 slices, or a phantom of its size.
"""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import nibabel
import numpy as np
import torch
from monai.bundle import ConfigParser

from benchmarks import harness
from benchmarks.prepare import ACDC_SIZE, volume_files
from bundles.run import REPOSITORY, load_config
from common import outputs, segmentation
from common.checkpoints import save_atomically
from common.engines.precision import resolve_precision

BUNDLE = REPOSITORY / "bundle_acdc"
NUM_SLICES = 10
CONTENDERS = ("ours", "plain", "TorchScript")
COMPUTED, LEFT_OUT = "computed", "left out"
STAGES = (
    "load and check",
    "N4 in ITK",
    "N4 around it",
    "rest of preprocessing",
    "network",
    "back to the native grid",
    "writing",
)
_STAGE_OF_TRANSFORM = {
    "LoadImaged": "load and check",
    "CheckVolumed": "load and check",
    "N4BiasFieldCorrectiond": "N4 around it",
    "SaveImaged": "writing",
}


def measure(
    dataset_dir: str | None = None,
    checkpoint: str | None = None,
    repetitions: int = 5,
    warm_up: int = 3,
    num_candidates: int = 8,
    size: tuple[int, int] = ACDC_SIZE,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Time all contenders in turn, and compare their segmentations with those of the plain one.

    Args:
        dataset_dir: folder of ACDC; None makes phantoms.
        checkpoint: state dict of the config's network; None takes random weights, whose segmentations say little about
            what precision does to those of trained ones.
        repetitions: timed runs of each contender.
        warm_up: untimed runs of each before; TorchScript optimises in its first two.
        num_candidates: first volumes of the data set, of which the one nearest to 10 slices is taken.
        size: least and greatest number of voxels along x and y of phantoms.
        settings: values of `inference.json` by id, to shrink it.

    Returns:
        The result. The stages of a row are those of the run whose total is the median; with "other", which is the
        engine and whatever is in no stage, they sum up to it.
    """
    device = harness.default_device()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        image = volume_file(dataset_dir, num_candidates, size, root / "phantoms")
        settings = {"device": device, "pictures": False, **(settings or {}), "input": str(image)}
        settings["checkpoint"] = checkpoint or random_weights(settings, root / "random.pt")
        exported = root / "network.ts"
        _export(settings, exported)

        cases = [
            _case(contender, n4, {**settings, "output_dir": str(root / n4 / contender)}, exported)
            for n4 in (COMPUTED, LEFT_OUT)
            for contender in CONTENDERS
        ]
        runs = {f"{case.contender}, N4 {case.n4}": functools.partial(case.run, device) for case in cases}
        seconds = harness.time_in_turn(runs, repetitions, warm_up, device)
        profiles = [case.profile[warm_up:] for case in cases]
        memory = [harness.peak_memory_mib(run, device) for run in runs.values()]
        name = outputs.segmentation_path(str(image), "").name
        labels = [np.asanyarray(nibabel.load(root / case.n4 / case.contender / name).dataobj) for case in cases]
        shape = nibabel.load(image).shape

    rows: list[dict[str, Any]] = []
    for index, (case, totals) in enumerate(zip(cases, seconds.values(), strict=True)):
        median = sorted(range(repetitions), key=totals.__getitem__)[repetitions // 2]
        plain = labels[index - index % len(CONTENDERS) + CONTENDERS.index("plain")]
        rows.append(
            {
                "N4": case.n4,
                "contender": case.contender,
                **{f"{stage}, s": value for stage, value in profiles[index][median].items()},
                "other, s": totals[median] - sum(profiles[index][median].values()),
                "total, s": totals[median],
                "low": min(totals),
                "high": max(totals),
                "voxels unlike plain, %": 100 * differing_share(labels[index], plain),
                "peak MiB": memory[index],
            }
        )
    ours, _, _, without_n4, _, _ = rows
    targets = [
        harness.target("seconds of ours, file to file", ours["total, s"], at_most=0.5),
        harness.target("seconds of ours where N4 is left out", without_n4["total, s"], at_most=0.25),
    ]
    if checkpoint is not None:
        different = max(ours["voxels unlike plain, %"], without_n4["voxels unlike plain, %"])
        targets.append(harness.target("voxels of ours that differ from plain float32, %", different, at_most=0.1))
    others: dict[str, float] = {stage: ours[f"{stage}, s"] for stage in STAGES if stage != "N4 in ITK"}
    longest = max(others, key=lambda stage: others[stage])
    weights = "random" if checkpoint is None else "trained"
    notes = [
        f"The volume is {image.name}, {' x '.join(map(str, shape))} voxels, "
        f"{'a phantom' if dataset_dir is None else 'of ACDC'}.",
        f"The precision of ours, 'auto', is {resolve_precision('auto', device)} on this device.",
        f"Profile of ours: of {ours['total, s']:.2f} s, ITK's N4 filter takes {ours['N4 in ITK, s']:.2f} s and "
        f"everything else {ours['total, s'] - ours['N4 in ITK, s']:.2f} s, of which the longest stage is '{longest}' "
        f"with {others[longest]:.2f} s.",
        f"The weights are {weights}."
        + (" How many voxels differ with trained ones is not measured." if checkpoint is None else ""),
    ]
    return harness.result("inference", rows, targets, notes)


def differing_share(labels: np.ndarray, reference: np.ndarray) -> float:
    """Return the share of voxels, from 0 to 1, at which two label maps of one shape differ.

    Raises:
        ValueError: if the shapes differ.
    """
    if labels.shape != reference.shape:
        raise ValueError(
            f"labels must have the shape {reference.shape} of the reference, got {labels.shape}; compare segmentations "
            "of one volume."
        )
    return float(np.mean(labels != reference))


@contextmanager
def stopwatch(stages: Mapping[tuple[Any, str], str], device: torch.device) -> Iterator[dict[str, float]]:
    """Add up the seconds that are spent in some functions, each without those it calls.

    Args:
        stages: for each function, as its owner (module or class) and name, the stage it belongs to.
        device: what it computes on is waited for.

    Yields:
        Seconds by stage; complete after the block.
    """
    seconds = dict.fromkeys(stages.values(), 0.0)
    within = [0.0]  # for each call that is going on, the seconds of the timed calls made by it

    def timed(function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            within.append(0.0)
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                harness.synchronise(device)
                elapsed = time.perf_counter() - started
                seconds[stage] += elapsed - within.pop()
                within[-1] += elapsed

        return call

    with ExitStack() as stack:
        for (owner, name), stage in stages.items():
            stack.enter_context(patch.object(owner, name, timed(getattr(owner, name), stage)))
        yield seconds


@dataclass
class _Case:
    """A contender, with or without N4, and the seconds of the stages of each of its runs."""

    contender: str
    n4: str
    segment: Callable[[], object]
    stages: Mapping[tuple[Any, str], str]
    profile: list[dict[str, float]] = field(default_factory=list)

    def run(self, device: torch.device) -> None:
        with stopwatch(self.stages, device) as seconds:
            self.segment()
        self.profile.append({stage: seconds.get(stage, 0.0) for stage in STAGES})


def _case(contender: str, n4: str, settings: Mapping[str, Any], exported: Path) -> _Case:
    parser = load_config(BUNDLE, "inference", **settings)
    if contender != "ours":
        parser["precision"] = "float32"
    if contender == "TorchScript":
        parser.update({"exported": str(exported), "network": "$torch.jit.load(@exported, map_location=@device)"})
    if contender == "plain":
        save = {
            "_target_": "SaveImaged",
            "keys": "pred",
            "output_dir": "@output_dir",
            "output_postfix": "seg",
            "output_dtype": "$torch.uint8",
            "separate_folder": False,
            "print_log": False,
        }
        parser.update({"saved": save, "inverse": parser["postprocessing"]})
        parser["postprocessing"] = "$type(@inverse)([*@inverse.transforms, @saved])"
    if n4 == LEFT_OUT:
        parser["n4_shrink"] = None

    evaluator, dataset, output_dir, class_names = (
        parser.get_parsed_content(key) for key in ("evaluator", "dataset", "output_dir", "class_names")
    )
    segment = functools.partial(segmentation.segment_volumes, evaluator, dataset, output_dir, class_names, False)
    return _Case(contender, n4, evaluator.run if contender == "plain" else segment, stages_of(parser))


def stages_of(parser: ConfigParser) -> dict[tuple[Any, str], str]:
    """Return the functions that take the time of a segmentation, each with its stage, for `stopwatch`.

    Args:
        parser: of `inference.json`.
    """
    # The class that `common.transforms.n4` uses; it takes seconds to load, which no other benchmark should pay.
    from itk.itkN4BiasFieldCorrectionImageFilterPython import itkN4BiasFieldCorrectionImageFilterIF3IUC3IF3

    inferer, preprocessing, postprocessing = (
        parser.get_parsed_content(key) for key in ("inferer", "preprocessing", "postprocessing")
    )
    stages: dict[tuple[Any, str], str] = {
        (itkN4BiasFieldCorrectionImageFilterIF3IUC3IF3, "Update"): "N4 in ITK",
        (type(inferer), "__call__"): "network",
        (outputs, "save_segmentation"): "writing",
    }
    for transforms, stage in ((preprocessing, "rest of preprocessing"), (postprocessing, "back to the native grid")):
        for kind in map(type, transforms.transforms):
            stages[kind, "__call__"] = _STAGE_OF_TRANSFORM.get(kind.__name__, stage)
    return stages


def volume_file(dataset_dir: str | None, num_candidates: int, size: tuple[int, int], folder: Path) -> Path:
    """Return the one of the first volumes that is nearest to 10 slices, see `volume_files`."""
    files = volume_files(dataset_dir, num_candidates, size, folder)
    return min(files, key=lambda path: abs(nibabel.load(path).shape[2] - NUM_SLICES))


def random_weights(settings: Mapping[str, Any], path: Path) -> str:
    """Write random weights of the network of `inference.json`, the same ones at every call; return where they are."""
    torch.manual_seed(0)
    network = load_config(BUNDLE, "inference", **settings).get_parsed_content("network_def")
    save_atomically(network.state_dict(), path)
    return str(path)


def _export(settings: Mapping[str, Any], path: Path) -> None:
    network = load_config(BUNDLE, "inference", **settings).get_parsed_content("network")
    torch.jit.script(network.eval()).save(str(path))
