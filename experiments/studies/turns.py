"""Which turns of the slices tell how sure a network is: expected and true Dice, with several networks.

The expectation is the mean Dice between the segmentations of the turns, two by two. The turns were chosen on the
development patients, which are in none of the paper's lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from bundles.development import development
from bundles.run import commit, load_config
from common.checkpoints import content_hash
from common.engines.turned_inferer import HALF_TURN, TurnedInferer
from common.expected_dice import calibration
from common.records import write_record
from common.transforms.uncertainty import ExpectedDiced

from .evaluation import BUNDLE, evaluate

CASES: dict[str, tuple[int, ...]] = {
    "0 and 180": HALF_TURN,
    "0 and 90": (0, 1),
    "0 and 270": (0, 3),
    "0, 90 and 180": (0, 1, 2),
    "0, 90, 180 and 270": (0, 1, 2, 3),
}
"""Quarter turns by what the report calls them, in degrees."""


def turns(dataset_dir: str, checkpoints: Mapping[str, str], output: str) -> None:
    """Compare all cases on the development patients, and evaluate the bundles' own on the test patients.

    Args:
        dataset_dir: the ACDC folder.
        checkpoints: files of weights that `train.json` wrote, by the name of each in the report; the first is
            evaluated on the test patients.
        output: the JSON file.

    Raises:
        CheckpointError: if weights cannot be read or do not fit.
    """
    networks = [
        {"name": name, "checkpoint_sha256": content_hash(path), "cases": compare(dataset_dir, path)}
        for name, path in tqdm(checkpoints.items(), desc="networks")
    ]
    test = evaluate({"dataset_dir": dataset_dir, "checkpoint": next(iter(checkpoints.values())), "uncertainty": True})
    record = {"commit": commit(), "networks": networks, "test": test["expected_dice"]}
    write_record(Path(output), record)
    print(f"Wrote {output}.")


def compare(
    dataset_dir: str, checkpoint: str, settings: Mapping[str, Any] | None = None
) -> dict[str, dict[str, float | int | None]]:
    """Return how well expected and true Dice of the development patients agree, for each case.

    Args:
        dataset_dir: see `turns`.
        checkpoint: weights.
        settings: values of `evaluate.json` by id.

    Returns:
        By case what `calibration` says of the mean over the structures.
    """
    given = {"dataset_dir": dataset_dir, "checkpoint": checkpoint, **(settings or {})}
    config = load_config(BUNDLE, "evaluate", **given)
    items = development(config)
    true = evaluate({**given, "dataset#data": items, "overlap": None})["volumes"]
    prepare, network, class_names, device = (
        config.get_parsed_content(name) for name in ("cached_preprocessing", "model", "class_names", "device")
    )
    num_classes, all_turns = len(class_names), max(CASES.values(), key=len)
    inferer = TurnedInferer(config.get_parsed_content("inferer"), all_turns)
    expect = ExpectedDiced("pred", num_classes, largest_component=config.get_parsed_content("largest_component"))
    pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in CASES}
    for item, dice in zip(items, true, strict=True):
        image = torch.as_tensor(prepare({"image": item["image"]})["image"])[None].to(device)
        with torch.inference_mode():
            output = inferer(image, network.eval())[0].cpu()
        for name, case in CASES.items():
            expected = expect({"pred": _of_turns(output, num_classes, [all_turns.index(turn) for turn in case])})
            pairs[name].append((float(expected["expected_dice"].mean()), dice["mean"]))
    return {name: calibration(own) for name, own in pairs.items()}


def _of_turns(output: Tensor, num_classes: int, chosen: Sequence[int]) -> Tensor:
    """Take some turns out of an output (K + T K, H, W, D) of all of them."""
    logits, *parts = output.split(num_classes)
    return torch.cat([logits, *(parts[index] for index in chosen)])
