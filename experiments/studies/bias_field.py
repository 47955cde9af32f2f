"""What bias field correction costs and is worth: N4 at several resolutions and lengths, with one network.

Each case corrects the volumes of the development patients, which are in none of the paper's lists, and segments them
with the same weights. Written are the processor time of N4 as a share of that of the first case, the difference that
the case makes to the corrected image, and the Dice.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from monai.transforms import Compose
from tqdm import tqdm

from bundles.development import development
from bundles.run import commit, load_config
from common.checkpoints import content_hash
from common.records import write_record
from common.transforms.n4 import N4BiasFieldCorrection, N4BiasFieldCorrectiond

from .evaluation import BUNDLE, evaluate

CASES: dict[str, tuple[tuple[int, int, int], tuple[int, ...]] | None] = {
    "every 4th pixel, 4 levels of 50": ((4, 4, 1), (50, 50, 50, 50)),
    "every 8th pixel, 4 levels of 50": ((8, 8, 1), (50, 50, 50, 50)),
    "every 8th pixel, 4 levels of 20": ((8, 8, 1), (20, 20, 20, 20)),
    "every 8th pixel, 3 levels of 50": ((8, 8, 1), (50, 50, 50)),
    "every 12th pixel, 3 levels of 50": ((12, 12, 1), (50, 50, 50)),
    "every 12th pixel, 3 levels of 20": ((12, 12, 1), (20, 20, 20)),
    "every 16th pixel, 2 levels of 50": ((16, 16, 1), (50, 50)),
    "no correction": None,
}


def bias_field(dataset_dir: str, checkpoint: str, output: str) -> None:
    """Measure all cases with one network and write them.

    Args:
        dataset_dir: the ACDC folder.
        checkpoint: weights that `train.json` wrote.
        output: the JSON file.

    Raises:
        CheckpointError: if the weights cannot be read or do not fit.
    """
    cases = measure(dataset_dir, checkpoint)
    record = {"commit": commit(), "checkpoint_sha256": content_hash(checkpoint), "cases": cases}
    write_record(Path(output), record)
    print(f"Wrote {output}.")


def measure(
    dataset_dir: str,
    checkpoint: str,
    settings: Mapping[str, Any] | None = None,
    names: Sequence[str] = tuple(CASES),
) -> dict[str, dict[str, float | None]]:
    """Return time, difference of the image, and Dice of each case.

    Args:
        dataset_dir: see `bias_field`.
        checkpoint: see there.
        settings: values of `evaluate.json` by id.
        names: of the cases; the first is what the others are compared with.

    Returns:
        By case: "time" as a share of that of the first (None without N4), "difference" of the corrected images from the
        first case's, root mean square as a share of their standard deviation, and "dice", the mean over the volumes.
    """
    given = {"dataset_dir": dataset_dir, "checkpoint": checkpoint, "cache_dir": None, **(settings or {})}
    config = load_config(BUNDLE, "evaluate", **given)
    items = development(config)
    steps = config.get_parsed_content("preprocessing").transforms
    before_n4 = Compose(list(takewhile(lambda step: not isinstance(step, N4BiasFieldCorrectiond), steps)))
    volumes = [before_n4({"image": item["image"]})["image"] for item in tqdm(items, desc="volumes")]
    first: list[np.ndarray] = []
    first_seconds = 0.0
    found: dict[str, dict[str, float | None]] = {}
    for name in tqdm(names, desc="cases"):
        case = CASES[name]
        started = time.process_time()  # of all threads, and of nothing else that runs
        corrected = volumes if case is None else [N4BiasFieldCorrection(*case)(volume) for volume in volumes]
        seconds = time.process_time() - started
        images = [np.asarray(volume) for volume in corrected]
        first, first_seconds = first or images, first_seconds or seconds
        shrink, iterations = case or (None, (1,))
        found[name] = {
            "time": None if case is None else seconds / first_seconds,
            "difference": float(np.mean([_difference(*pair) for pair in zip(images, first, strict=True)])),
            "dice": _dice({**given, "n4_shrink": shrink and list(shrink), "n4_iterations": list(iterations)}, items),
        }
        tqdm.write(f"{name}: {found[name]}")
    return found


def _difference(image: np.ndarray, other: np.ndarray) -> float:
    """Return how far two images differ beyond a common factor, which the normalisation of intensities takes out."""
    factor = float((image * other).sum() / (image * image).sum())
    return float(np.sqrt(np.mean((factor * image - other) ** 2)) / other.std())


def _dice(settings: Mapping[str, Any], items: Sequence[Mapping[str, str]]) -> float:
    return float(evaluate({**settings, "dataset#data": list(items), "overlap": None})["mean_dice"]["mean"])
