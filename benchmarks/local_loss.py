"""Local contrastive losses, forward and backward: ours beside a loop over pairs of regions, or of pixels.

Inputs: region vectors of 40 images (5 volumes, 4 partitions, 2 views) for LR and LD. Timed is the loss alone, from
the region vectors on; the cutting of the regions and their projection belong to the network. The decoder block d_l
enters only through the length of the vectors: for regions of one pixel (K = 1) the channels of its map, for 3 × 3
pixels (K = 3) the 128 of the projection, whatever the block. So blocks with vectors of one length share a case. The
loop form is the float64 reference of the tests. Paper: Chaitanya et al., NeurIPS 2020, arXiv 2006.10511, section 3.2.

For LE and LX the map of d3 is read at sampled pixels, which belongs to the loss. Their loops run with a tenth of the
default pixels, as their graph has a node for every pair; so does NTXentLoss of pytorch-metric-learning, of the same
formula as LE, which compares each positive pair with each negative one. What share of a step the loss takes with the
default pixels is in the benchmark `step`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import torch
from pytorch_metric_learning.losses import NTXentLoss
from torch import Tensor
from tqdm import tqdm

from common.losses import DenseContrastiveLoss, LocalContrastiveLoss
from common.losses.dense_contrastive import sample_maps
from common.losses.local_contrastive import NUM_POSITIONS
from common.networks.heads import EMBEDDING_SIZE
from common.networks.unet2d import ENCODER_CHANNELS, NUM_DECODER_BLOCKS
from common.strategies import make_layout
from reference.dense_loss import dense_loss_by_loops
from reference.local_loss import local_loss_by_loops

from . import harness
from .global_loss import Contender

TEMPERATURE = 0.1
NUM_PIXELS = 1000
LIBRARY = "pytorch-metric-learning NTXentLoss"
_MAP = (64, 48, 48)  # that of d3, of slices of 192 x 192


def vector_sizes(region_size: int) -> dict[int, list[str]]:
    """Return the lengths of region vectors, longest first, and the decoder blocks with vectors of that length."""
    blocks: dict[int, list[str]] = {}
    for block in range(1, NUM_DECODER_BLOCKS + 1):
        size = ENCODER_CHANNELS[-1 - block] if region_size == 1 else EMBEDDING_SIZE
        blocks.setdefault(size, []).append(f"d{block}")
    return blocks


def measure(num_slices: int = 20, repetitions: int = 5) -> dict[str, Any]:
    """Time both in turn for each strategy, region size and vector length.

    Args:
        num_slices: half the number of images; a multiple of 4, at least 12.
        repetitions: runs of each.

    Returns:
        Result with a row for each case and contender: time as a multiple of that of ours (median, lowest and highest
        of the paired runs), memory at the peak, and the difference of the value from ours. On a GPU also milliseconds.
    """
    device = harness.default_device()
    cases = [
        (strategy, region_size, size, blocks)
        for strategy in ("LR", "LD")
        for region_size in NUM_POSITIONS
        for size, blocks in vector_sizes(region_size).items()
    ]
    rows = []
    for strategy, region_size, size, blocks in tqdm(cases, desc="local_loss"):
        case = {"strategy": strategy, "K": region_size, "blocks": " ".join(blocks), "vector length": size}
        rows += [case | row for row in _measure_case(strategy, region_size, size, num_slices, repetitions, device)]
    for strategy, num_pixels in product(("LE", "LX"), (NUM_PIXELS // 10, NUM_PIXELS)):
        case = {"strategy": strategy, "blocks": "d3", "vector length": _MAP[0], "pixels": num_pixels}
        contenders = _dense_contenders(strategy, num_pixels, num_slices, device)
        rows += [case | row for row in _measure_contenders(contenders, repetitions, device)]
    compared = [row for row in rows if row["contender"] != "ours"]
    loops = [row for row in compared if row["contender"] == "loop form"]
    targets = [
        harness.target(
            "largest relative difference of a value from ours",
            max(row["difference of value"] for row in compared),
            at_most=1e-5,
        ),
        harness.target(
            "time of the loop form / time of ours, worst case", min(row["times ours"] for row in loops), at_least=50
        ),
    ]
    notes = [
        f"{2 * num_slices} images. The loss is timed from the region vectors on; the decoder block enters only through "
        "their length, so blocks with vectors of one length share a case. For LE and LX it is timed from the map on.",
        "Runs of the loop form are in float64, those of ours in float32.",
    ]
    return harness.result("local_loss", rows, targets, notes)


def _measure_case(
    strategy: str, region_size: int, size: int, num_slices: int, repetitions: int, device: torch.device
) -> list[dict[str, Any]]:
    layout = make_layout(strategy, 2 * num_slices)
    generator = torch.Generator().manual_seed(0)
    shape = (2 * num_slices, NUM_POSITIONS[region_size], size)
    regions = torch.randn(shape, generator=generator).to(device).requires_grad_()
    loops = partial(local_loss_by_loops, layout=layout, region_size=region_size, temperature=TEMPERATURE)
    contenders = {
        "ours": Contender(LocalContrastiveLoss(layout, region_size, TEMPERATURE), (regions,)),
        "loop form": Contender(loops, (regions,)),
    }
    return _measure_contenders(contenders, repetitions, device)


def _dense_contenders(strategy: str, num_pixels: int, num_slices: int, device: torch.device) -> dict[str, Contender]:
    """Make the contenders of a dense strategy, ours first; with the default pixels there is no other."""
    layout = make_layout(strategy, 2 * num_slices)
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2 * num_slices, *_MAP, generator=generator).to(device).requires_grad_()
    points = 2 * torch.rand(2 * num_slices, num_pixels // num_slices, 2, generator=generator).to(device) - 1
    ours = DenseContrastiveLoss(layout, num_pixels, TEMPERATURE)
    contenders = {"ours": Contender(partial(_with_points, ours, points), (maps,))}
    if num_pixels < NUM_PIXELS:
        loops = partial(dense_loss_by_loops, layout=layout, temperature=TEMPERATURE)
        contenders["loop form"] = Contender(partial(_with_points, loops, points), (maps,))
        if strategy == "LE":
            library = NTXentLoss(temperature=TEMPERATURE)
            labels = layout.slices[:, None] * points.shape[1] + torch.arange(points.shape[1])
            contenders[LIBRARY] = Contender(partial(_of_vectors, library, points, labels.flatten().to(device)), (maps,))
    return contenders


def _with_points(loss: Callable[[Tensor, Tensor], Tensor], points: Tensor, maps: Tensor) -> Tensor:
    return loss(maps, points)


def _of_vectors(loss: Callable[[Tensor, Tensor], Tensor], points: Tensor, labels: Tensor, maps: Tensor) -> Tensor:
    return loss(sample_maps(maps, points).flatten(0, 1), labels)


def _measure_contenders(
    contenders: dict[str, Contender], repetitions: int, device: torch.device
) -> list[dict[str, Any]]:
    steps = {name: contender.step for name, contender in contenders.items()}
    steps["ours"]()  # what a first call loads and makes is not its cost
    calls = {name: harness.observe(step, device) for name, step in steps.items()}
    num_calls = {name: harness.calls_per_run(steps[name], call, device) for name, call in calls.items()}
    seconds = harness.time_in_turn(steps, repetitions, warm_up=0, device=device, calls=num_calls)
    rows = []
    for name, call in calls.items():
        times_ours = harness.ratios(seconds, name, "ours")
        row = {
            "contender": name,
            "times ours": times_ours["median"],
            "low": times_ours["low"],
            "high": times_ours["high"],
            "peak MiB": call.peak_mib,
            "difference of value": None if name == "ours" else abs(call.value / calls["ours"].value - 1),
        }
        if device.type == "cuda":
            row["ms"] = 1000 * harness.spread(seconds[name])["median"]
        rows.append(row)
    return rows
