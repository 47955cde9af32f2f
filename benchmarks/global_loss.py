"""Global contrastive loss, forward and backward: ours, a loop over pairs of images, and the losses of libraries.

Inputs: N embeddings of 128 features, two views of N / 2 slices, volume by volume with four partitions each; GD takes
whole volumes only, so its N is the nearest multiple of 8. Tables and labels are there before the clock starts. The
loop form is the float64 reference of the tests. Paper: Chaitanya et al., NeurIPS 2020, arXiv 2006.10511, section 3.1.

| contender                          | GR             | GD                                                    |
|------------------------------------|----------------|-------------------------------------------------------|
| ours                               | the loss       | the loss                                              |
| loop form                          | same formula   | same formula                                          |
| pytorch-metric-learning NTXentLoss | slices as      | partitions as labels: every image of the partition is |
|                                    | labels: same   | a positive, another formula; its cost only            |
| monai ContrastiveLoss              | same formula   | cannot express it                                     |
| lightly NTXentLoss                 | same formula   | cannot express it                                     |
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from monai.losses import ContrastiveLoss
from torch import Tensor
from tqdm import tqdm

from common.losses import GlobalContrastiveLoss
from common.strategies import make_layout
from reference.global_loss import global_loss_by_loops

from . import harness

TEMPERATURE = 0.1
NUM_FEATURES = 128
NUM_PARTITIONS = 4
OWN = ("ours", "loop form")  # the other contenders are libraries
# Exponentials in a call of the loop form; at this many a call takes some 10 seconds on a CPU.
MAX_LOOP_EXPONENTIALS = 250_000
# What NTXentLoss of pytorch-metric-learning holds at its peak, in tensors of positive pairs × negative pairs.
NTXENT_TENSORS = 5
CONTENDER_SECONDS = 5.0  # a contender whose repetitions would last longer gets fewer


class Contender(NamedTuple):
    """A loss, what it takes, and whether its value should be that of ours."""

    loss: Callable[..., Tensor]
    inputs: tuple[Tensor, ...]
    same_formula: bool = True

    def step(self) -> Tensor:
        """Compute the loss and its gradient and return the loss."""
        loss = self.loss(*self.inputs)
        torch.autograd.grad(loss, self.inputs)
        return loss.detach()


def measure(sizes: Sequence[int] = (40, 250, 450, 1024), repetitions: int = 11) -> dict[str, Any]:
    """Time every contender in turn with ours, for GR and GD.

    Args:
        sizes: N, ascending, at least 16.
        repetitions: runs of a contender that is fast enough for as many; a slow one gets one at least.

    Returns:
        Result with a row for each strategy, N and contender. Time is a multiple of that of ours at the same N: median,
        lowest and highest of the paired runs. Cost is a multiple of that of ours for GR at the smallest N. Then memory
        at the peak, and the difference of the value from ours. On a GPU also milliseconds.
    """
    device = harness.default_device()
    notes = [
        "cost is time in units of that of ours, GR at the smallest N; times ours is at the same N and strategy.",
        "GD takes whole volumes (8 images), so its N is the nearest multiple of 8. With partition labels NTXentLoss "
        "has another formula than GD: its cost is compared, its value is not.",
        "Runs of the loop form are in float64, all others in float32.",
    ]
    libraries = _import_libraries(notes)
    cases = [
        (strategy, round(size / (2 * step)) * step)
        for strategy, step in (("GR", 1), ("GD", NUM_PARTITIONS))
        for size in sizes
    ]
    unit = _contenders(*cases[0], device, {}, [])["ours"]
    for contender in _contenders("GR", 2 * NUM_PARTITIONS, device, libraries, []).values():
        contender.step()  # what a first call loads and makes belongs to no size
    rows = []
    for strategy, num_slices in tqdm(cases, desc="global_loss"):
        rows += _measure_case(strategy, num_slices, device, libraries, unit, repetitions, notes)
    return harness.result("global_loss", rows, _targets(rows), notes)


def _measure_case(
    strategy: str,
    num_slices: int,
    device: torch.device,
    libraries: dict[str, Any],
    unit: Contender,
    repetitions: int,
    notes: list[str],
) -> list[dict[str, Any]]:
    contenders = _contenders(strategy, num_slices, device, libraries, notes)
    calls = {name: harness.observe(contender.step, device) for name, contender in contenders.items()}
    steps = {name: contender.step for name, contender in contenders.items()}
    num_calls = {name: harness.calls_per_run(steps[name], call, device) for name, call in calls.items()}
    num_calls["unit"] = harness.calls_per_run(unit.step, harness.observe(unit.step, device), device)
    rows = []
    for name, contender in contenders.items():
        runs = min(repetitions, max(1, int(CONTENDER_SECONDS / calls[name].seconds)))
        in_turn = {"unit": unit.step, "ours": steps["ours"], name: steps[name]}
        seconds = harness.time_in_turn(in_turn, runs, warm_up=0, device=device, calls=num_calls)
        times_ours = harness.ratios(seconds, name, "ours")
        row = {
            "strategy": strategy,
            "N": 2 * num_slices,
            "contender": name,
            "times ours": times_ours["median"],
            "low": times_ours["low"],
            "high": times_ours["high"],
            "runs": runs,
            "cost": harness.ratios(seconds, name, "unit")["median"],
            "peak MiB": calls[name].peak_mib,
            "difference of value": None,
        }
        if contender.same_formula and name != "ours":
            row["difference of value"] = abs(calls[name].value / calls["ours"].value - 1)
        if device.type == "cuda":
            row["ms"] = 1000 * harness.spread(seconds[name])["median"]
        rows.append(row)
    return rows


def _import_libraries(notes: list[str]) -> dict[str, Any]:
    libraries = {}
    for name, module in (
        ("pytorch-metric-learning NTXentLoss", "pytorch_metric_learning.losses"),
        ("lightly NTXentLoss", "lightly.loss"),
    ):
        try:
            libraries[name] = importlib.import_module(module).NTXentLoss(temperature=TEMPERATURE)
        except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision made for another torch
            notes.append(f"{name} is absent: {error}.")
    return libraries


def _contenders(
    strategy: str, num_slices: int, device: torch.device, libraries: dict[str, Any], notes: list[str]
) -> dict[str, Contender]:
    """Make the contenders of a case, ours first; what is left out is noted with the reason."""
    layout = make_layout(strategy, 2 * num_slices, NUM_PARTITIONS)
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(2 * num_slices, NUM_FEATURES, generator=generator).to(device).requires_grad_()
    case = f"{strategy}, N = {2 * num_slices}"
    contenders = {"ours": Contender(GlobalContrastiveLoss(layout, TEMPERATURE), (embeddings,))}

    labels = layout.slices if strategy == "GR" else layout.partitions
    same = int((labels[:, None] == labels).sum())
    positive_pairs, negative_pairs = same - len(labels), len(labels) ** 2 - same
    # Terms × (their positive + their negatives). GR has a term per image, the ring of GD four.
    terms = len(labels) if strategy == "GR" else 4 * len(labels)
    exponentials = terms * (1 + negative_pairs // len(labels))
    if exponentials <= MAX_LOOP_EXPONENTIALS:
        loops = partial(global_loss_by_loops, layout=layout, temperature=TEMPERATURE)
        contenders["loop form"] = Contender(loops, (embeddings,))
    else:
        notes.append(
            f"{case}: the loop form is left out, it would compute {exponentials:,} exponentials one by one; "
            f"the limit of this benchmark is {MAX_LOOP_EXPONENTIALS:,}."
        )
    name = "pytorch-metric-learning NTXentLoss"
    if name in libraries:
        needed = NTXENT_TENSORS * 4 * positive_pairs * negative_pairs
        if needed <= _memory(device) / 2:
            loss = partial(libraries[name], labels=labels.to(device))
            contenders[name] = Contender(loss, (embeddings,), same_formula=strategy == "GR")
        else:
            notes.append(
                f"{case}: {name} is left out, as it compares each of {positive_pairs:,} positive pairs with each of "
                f"{negative_pairs:,} negative ones: some {needed / 2**30:.0f} GiB, over half of this machine's memory."
            )
    if strategy == "GR":
        halves = tuple(half.detach().clone().requires_grad_() for half in embeddings.chunk(2))
        contenders["monai ContrastiveLoss"] = Contender(ContrastiveLoss(TEMPERATURE), halves)
        if "lightly NTXentLoss" in libraries:
            contenders["lightly NTXentLoss"] = Contender(libraries["lightly NTXentLoss"], halves)
    return contenders


def _memory(device: torch.device) -> int:
    """Return the bytes of memory of the device."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _targets(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    targets = []
    differences = [row["difference of value"] for row in rows if row["difference of value"] is not None]
    targets.append(
        harness.target("largest relative difference of a value from ours, same formula", max(differences), at_most=1e-5)
    )
    loops = [row for row in rows if row["strategy"] == "GD" and row["contender"] == "loop form"]
    if loops:
        rule = f"GD at N = {loops[0]['N']}: time of the loop form / time of ours"
        targets.append(harness.target(rule, loops[0]["times ours"], at_least=50))
    for strategy in ("GR", "GD"):
        libraries = [row for row in rows if row["strategy"] == strategy and row["contender"] not in OWN]
        if libraries:
            sizes = ", ".join(str(size) for size in sorted({row["N"] for row in libraries}))
            rule = f"{strategy}: time of ours / time of the fastest library, worst of N = {sizes}"
            fastest = min(row["times ours"] for row in libraries)
            targets.append(harness.target(rule, 1 / fastest, at_most=1))
    growths = {}
    for strategy in ("GR", "GD"):
        ours = [row for row in rows if row["strategy"] == strategy and row["contender"] == "ours"]
        if len(ours) > 1 and ours[-2]["peak MiB"]:
            smaller, larger = ours[-2:]
            growth = larger["peak MiB"] / smaller["peak MiB"] / (larger["N"] / smaller["N"]) ** 2
            growths[growth] = f"{strategy}, N = {smaller['N']} to {larger['N']}"
    if growths:
        worst = max(growths)
        rule = f"growth of the peak memory of ours / growth of N², worst of GR and GD ({growths[worst]})"
        targets.append(harness.target(rule, worst, at_most=1.3))
    return targets
