"""Training steps and inference beside nnU-Net, lightly and stock MONAI, with the same network, batch and input.

| work                             | ours                                   | peers                                    |
|----------------------------------|----------------------------------------|------------------------------------------|
| fine-tuning, nnU-Net's changes   | the bundles' default, "strong+elastic" | nnU-Net's 2-D trainer                    |
| fine-tuning, the paper's changes | "paper"                                | MONAI's transforms, as in `pipeline`     |
| pre-training, GR                 | GR                                     | lightly's SimCLR: its transform and loss |
| pre-training, GD                 | GD                                     | the same, and MONAI's, as in `pipeline`  |
| inference                        | `segment_volumes` without N4           | nnU-Net's predictor, mirrored and not    |

Every peer trains and segments with our network, which for it is in torch's default memory format and in the precision
that the peer has by default: float32 on a CPU; on a GPU nnU-Net autocasts to float16. Ours is timed in its default
precision and in float32. All else is the peer's own; see its module. Its batches come from as many workers as it
starts by default (nnU-Net) or as there are cores, from one (nnU-Net), and from none; targets take the best of them. The
data part is drawing, augmenting and moving to the device.

Slices are noise, as many as ACDC's pre-training set has. The volume is the first of ACDC with 10 slices, or a phantom
of its size. nnU-Net's tiles are as large as our crop, or cover the slice; of the middle of the volume that one tile
covers both networks see the same pixels. Its predictor runs in this process, since starting others would cost it
seconds.
"""

from __future__ import annotations

import importlib.metadata
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tqdm import tqdm

from benchmarks import harness, step
from common.data.cores import num_cores

from . import segmentation, training

REMEDY = "`benchmarks/peers/install.sh FOLDER` makes an environment with it; run this with FOLDER/bin/python."
_PACKAGES = ("nnunetv2", "batchgeneratorsv2", "lightly", "torchvision")


def measure(
    dataset_dir: str | None = None,
    batches: int = 5,
    steps: int | None = None,
    repetitions: int = 5,
    side: int = step.SIDE,
    cases: Sequence[training.Case] = training.CASES,
    inference: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Time ours and every peer that is installed, in turn.

    Args:
        dataset_dir: folder of ACDC for inference; None makes phantoms.
        batches: of a run of the data part.
        steps: of a run of whole steps; None takes 4 on a CPU and 50 on a GPU.
        repetitions: runs of each.
        side: H and W of the slices.
        cases: of training.
        inference: further arguments of `segmentation.measure`.

    Returns:
        Result with a row for each peer, number of workers and precision of ours: seconds for a batch, a step or a
        volume, images (slices) a second, and those of ours as a multiple of the peer's.
    """
    device = harness.default_device()
    steps = steps or (4 if device.type == "cpu" else 50)
    notes: list[str] = []
    # nnU-Net starts as many threads for what torch does around its network, 8 unless it is told.
    with patch.dict(os.environ, nnUNet_def_n_proc=str(num_cores())):
        modules = training.import_peers(notes, REMEDY)
    rows: list[dict[str, Any]] = []
    targets: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for index, case in enumerate(tqdm(cases, desc="peers, training")):
            slices = step.random_slices(case.stage == "fine-tuning", side, device)
            place = Path(folder, str(index))
            made = training.measure_case(case, slices, modules, place, batches, steps, repetitions)
            rows += made[0]
            targets += made[1]
            notes += made[2]
        if training.NNUNET in modules:
            place = Path(folder, "inference")
            nnunet = modules[training.NNUNET]
            timed = segmentation.measure(nnunet, place, dataset_dir, repetitions=repetitions, **(inference or {}))
            rows += timed
            targets += segmentation.targets(timed)
    notes += [
        f"A run is {batches} batches of the data part, {steps} whole steps, or one volume. Images are views in "
        "pre-training, and slices in inference.",
        "Peers have the network in torch's default memory format and, on a CPU, in float32; ours is in channels_last.",
        "Workers rest while others are timed, with the batches that they have made ahead. Only nnU-Net's threads in "
        "this process go on looking for batches every 2 ms, which costs whoever is timed a little.",
        "For inference both have the bundle's weights. They expect our preprocessing, so that what nnU-Net's predictor "
        "makes of them says nothing about it.",
    ]
    outcome = harness.result("peers", rows, targets, notes)
    outcome["versions"] |= {package: _version(package) for package in _PACKAGES}
    return outcome


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"
