"""Segmentation of a folder of volumes: seconds a volume beside the slowest of its parts alone.

Contenders, all made from the bundle's `inference.json` with one set of weights:

    default           what a user gets: it decides by itself whether volumes are preprocessed in other processes
    in this process   each volume is preprocessed when the one before is written
    ahead             the next volumes are preprocessed in other processes, one for each core, from the first one on

The volume is that of `inference`, copied under other names and with another word in each header, so that nothing can
know one from another. Each case (N4 or none, pictures or none) has its parts beside it: preprocessing of all volumes on
all cores (in this process, with the threads of ITK and torch, or in one process for each core, whichever is faster),
the network, pictures with the page, and the rest, each by itself. A part in this process is what its functions take in
the run of that name.
"""

from __future__ import annotations

import functools
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import nibabel
import torch
from tqdm import tqdm

from benchmarks import harness
from benchmarks.inference import BUNDLE, COMPUTED, LEFT_OUT, random_weights, stages_of, stopwatch, volume_file
from benchmarks.prepare import ACDC_SIZE, copy_volume
from bundles.run import load_config
from common import outputs, segmentation
from common.data.ahead import preprocess_ahead
from common.data.cores import num_cores
from common.report import SegmentationPage

DEFAULT, HERE, AHEAD = "default", "in this process", "ahead"
PREPROCESSING, NETWORK, PICTURES, REST = "preprocessing", "network", "pictures and page", "way back and writing"
PARTS = (PREPROCESSING, NETWORK, PICTURES, REST)
MOST_TIMES_SLOWEST = 1.15
_PART_OF_STAGE = {
    "load and check": PREPROCESSING,
    "N4 in ITK": PREPROCESSING,
    "N4 around it": PREPROCESSING,
    "rest of preprocessing": PREPROCESSING,
    "network": NETWORK,
    PICTURES: PICTURES,
}
_DRAWING: dict[tuple[Any, str], str] = {
    (outputs, "draw_comparison"): PICTURES,
    (SegmentationPage, "add"): PICTURES,
    (SegmentationPage, "write"): PICTURES,
}


@dataclass
class Case:
    """How a folder is segmented, and what was seen when it was.

    Attributes:
        n4: whether N4 is computed.
        pictures: whether pictures and a page are made.
        parser: of `inference.json`.
        each: seconds a volume of each run, by contender.
        start_up: seconds of each run of the default beyond those of its volumes.
        parts: seconds a volume of each run in this process, by part.
        pool: seconds a volume of each run of the preprocessing in processes.
    """

    n4: str
    pictures: bool
    parser: Any
    each: dict[str, list[float]] = field(default_factory=lambda: {DEFAULT: [], HERE: [], AHEAD: []})
    start_up: list[float] = field(default_factory=list)
    parts: dict[str, list[float]] = field(default_factory=lambda: {part: [] for part in PARTS})
    pool: list[float] = field(default_factory=list)

    def alone(self) -> dict[str, float]:
        """Return the seconds a volume of each part by itself, medians over runs; of preprocessing the faster way."""
        medians = {part: statistics.median(values) for part, values in self.parts.items()}
        return medians | {PREPROCESSING: min(medians[PREPROCESSING], statistics.median(self.pool))}


def measure(
    dataset_dir: str | None = None,
    checkpoint: str | None = None,
    num_files: int = 20,
    repetitions: int = 2,
    num_workers: int | None = None,
    num_candidates: int = 8,
    size: tuple[int, int] = ACDC_SIZE,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Segment the folder by all contenders in turn.

    Args:
        dataset_dir: folder of ACDC; None makes a phantom.
        checkpoint: state dict of the config's network; None takes random weights.
        num_files: files in the folder, at least 4.
        repetitions: runs of each contender.
        num_workers: processes of "ahead"; None takes one for each core, 0 none.
        num_candidates: see `inference`.
        size: least and greatest number of voxels along x and y of a phantom.
        settings: values of `inference.json` by id, to shrink it.

    Returns:
        The result. Seconds a volume are those of the second half of a run, when whatever is started has started.

    Raises:
        ValueError: if there are too few volumes.
    """
    if num_files < 4:
        raise ValueError(f"num_files must be at least 4, got {num_files!r}: the second half of them is timed.")
    device = harness.default_device()
    workers = num_cores() if num_workers is None else num_workers
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        image = volume_file(dataset_dir, num_candidates, size, root / "phantoms")
        shape = nibabel.load(image).shape
        for number in range(num_files):
            copy_volume(image, number, root / "folder")
        settings = {"device": device, **(settings or {}), "dataset_dir": str(root / "folder")}
        settings["checkpoint"] = checkpoint or random_weights(settings, root / "random.pt")
        cases = [
            Case(n4, pictures, _parser(n4, pictures, settings))
            for n4, pictures in ((COMPUTED, True), (COMPUTED, False), (LEFT_OUT, False))
        ]
        for case in tqdm(cases * repetitions, desc="folder"):
            _observe(case, workers, device)
    rows = [row for case in cases for row in _rows(case, num_files, workers)]
    targets, notes = [], []
    for case in cases:
        alone, each = case.alone(), statistics.median(case.each[DEFAULT])
        slowest = max(alone, key=alone.__getitem__)
        name = f"N4 {case.n4}, {'with' if case.pictures else 'without'} pictures"
        rule = f"{name}: seconds a volume, times those of the slowest part alone"
        targets.append(harness.target(rule, each / alone[slowest], at_most=MOST_TIMES_SLOWEST))
        total = sum(alone.values())
        notes.append(
            f"{name}: the slowest part is '{slowest}' with {alone[slowest]:.3f} s a volume, all parts together take "
            f"{total:.3f} s, the default takes {each:.3f} s."
        )
    notes.append(
        "A part alone has all cores. Parts that overlap share them: only what leaves cores idle, or computes on a GPU, "
        "can be hidden behind another part, and where every part keeps all cores busy their sum is the least."
    )
    notes.append(
        f"The volume is {image.name}, {' x '.join(map(str, shape))} voxels, "
        f"{'a phantom' if dataset_dir is None else 'of ACDC'}, {num_files} times. The weights are "
        f"{'random' if checkpoint is None else 'trained'}. Start-up of the default is what a run took beyond "
        f"{num_files} times its seconds a volume; ITK and the network are loaded before, which takes a command some "
        "seconds more."
    )
    return harness.result("folder", rows, targets, notes)


def steady(times: Sequence[float]) -> float:
    """Return the seconds between two volumes in the second half of a run.

    Args:
        times: when each volume was done, in seconds, at least two.
    """
    half = (len(times) + 1) // 2
    return (times[-1] - times[half - 1]) / (len(times) - half)


def _parser(n4: str, pictures: bool, settings: Mapping[str, Any]) -> Any:
    parser = load_config(BUNDLE, "inference", **settings)
    parser["pictures"] = pictures
    if n4 == LEFT_OUT:
        parser["n4_shrink"] = None
    return parser


def _observe(case: Case, workers: int, device: torch.device) -> None:
    """Run every contender of a case once, and the preprocessing in processes."""
    dataset = case.parser.get_parsed_content("dataset")
    case.parser.get_parsed_content("preprocessing")(dataset.data[0])  # loads ITK
    for contender, processes in ((DEFAULT, None), (HERE, 0), (AHEAD, workers)):
        with stopwatch({**stages_of(case.parser), **_DRAWING}, device) as seconds:
            took, written = _segment(case, processes)
        case.each[contender].append(steady(written))
        if contender == DEFAULT:
            case.start_up.append(took - len(written) * steady(written))
        if contender == HERE:
            spent = {**dict.fromkeys(PARTS, 0.0), REST: took}
            for stage, part in _PART_OF_STAGE.items():
                spent[part] += seconds.get(stage, 0.0)
                spent[REST] -= seconds.get(stage, 0.0)
            for part, value in spent.items():
                case.parts[part].append(value / len(written))
    case.pool.append(steady([time.perf_counter() for _ in preprocess_ahead(dataset, workers)]))


def _segment(case: Case, num_workers: int | None) -> tuple[float, list[float]]:
    """Segment the folder; return the seconds of the whole, and when each segmentation had been written."""
    written: list[float] = []
    save = outputs.NiftiOutputs.save

    def noted(*arguments: Any) -> None:
        save(*arguments)
        written.append(time.perf_counter())

    keys = ("evaluator", "dataset", "class_names", "pictures", "settings")
    evaluator, dataset, class_names, pictures, settings = map(case.parser.get_parsed_content, keys)
    ahead: Callable[..., Any] = functools.partial(preprocess_ahead, num_workers=num_workers)
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.object(outputs.NiftiOutputs, "save", noted),
        patch.object(segmentation, "preprocess_ahead", ahead),
    ):
        started = time.perf_counter()
        segmentation.segment_volumes(evaluator, dataset, folder, class_names, pictures, settings)
        return time.perf_counter() - started, written


def _rows(case: Case, num_files: int, workers: int) -> list[dict[str, Any]]:
    """Return a row for each contender and part."""
    alone = case.alone()
    slowest = max(alone.values())
    shared = {"N4": case.n4, "pictures": "yes" if case.pictures else "no", "volumes": num_files}
    rows = []
    seconds = {
        **case.each,
        **{f"{part} alone, in this process": values for part, values in case.parts.items() if sum(values) > 0},
        f"{PREPROCESSING} alone, {workers} process{'' if workers == 1 else 'es'}": case.pool,
    }
    for name, values in seconds.items():
        found = harness.spread(values)
        row = {**shared, "contender": name, "s a volume": found["median"], "low": found["low"], "high": found["high"]}
        row["times slowest part"] = found["median"] / slowest
        if name == DEFAULT:
            row["start-up, s"] = statistics.median(case.start_up)
        rows.append(row)
    return rows
