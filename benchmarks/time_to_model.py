"""Minutes from a folder of volumes, one of them labelled, to a network; and how good it is then.

Contenders, both from the bundle's pre-trained weights, with the first draw of one labelled volume:

    recommended   `train.json`
    paper         `train.json` with `paper.json` laid over it, for as many images as the other

The clock starts with an empty cache and stops while the network is validated. That is done on the patients that are in
none of the paper's lists (pre-training, test, draws of 1, 2 and 8), so that the test stays out of it; their
preprocessing is done before.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from monai.engines import SupervisedEvaluator
from tqdm import tqdm

from benchmarks import harness
from bundles.development import development
from bundles.run import REPOSITORY, load_config, run_config
from common.data.cache import fill_cache
from common.engines.trainer import epoch_length
from phantom import write_acdc_phantom, write_phantom_splits

BUNDLE = REPOSITORY / "bundle_acdc"
CONTENDERS = {"recommended": "train", "paper": "train+paper"}
LEVELS = (0.80, 0.83)
_NUM_LABELLED, _DRAW = 1, "c1"
_NUM_VALIDATIONS = 15
_MOST_MINUTES, _MOST_GIB = 25.0, 4.0
_EARLY_MINUTES, _EARLY_DICE = 8, 0.80
_EARLY = f"Dice within {_EARLY_MINUTES} minutes"


def measure(dataset_dir: str | None = None, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Train both contenders and note their Dice as time passes.

    Args:
        dataset_dir: folder of ACDC; None makes phantoms, on which Dice says nothing.
        settings: values of `train.json` by id, to shrink it.

    Returns:
        The result. A level that was not reached has no minutes.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        split_path = BUNDLE / "configs" / "splits.json"
        if dataset_dir is None:
            dataset_dir, split_path = f"{folder}/data", Path(folder, "splits.json")
            ids = write_acdc_phantom(Path(dataset_dir), 9)
            write_phantom_splits(split_path, ids[:-2], num_pretrain=4)
        own = {"num_labelled": _NUM_LABELLED, "draw": _DRAW, "dataset_dir": dataset_dir, "split_path": str(split_path)}
        context = multiprocessing.get_context("spawn")  # the peak memory of a process is its own
        with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as processes:
            for name in tqdm(CONTENDERS, desc="time_to_model"):
                values = {**own, **(settings or {}), "cache_dir": f"{folder}/{name}/cache"}
                rows.append(processes.submit(train, name, values, f"{folder}/{name}").result())
    recommended = rows[0]
    targets = [
        harness.target("recommended: minutes of the whole run", recommended["minutes"], at_most=_MOST_MINUTES),
        harness.target("recommended: peak memory in GiB", recommended["peak GiB"], at_most=_MOST_GIB),
        harness.target(f"recommended: {_EARLY}", recommended[_EARLY], at_least=_EARLY_DICE),
    ]
    note = (
        f"Dice is the mean over {recommended['volumes']} volumes that are in none of the paper's lists but that of the "
        "benchmark with all labels. The recipe was chosen on them: what it is worth on others is in the results of the "
        "experiments. Pre-training came before, and is not counted."
    )
    return harness.result("time_to_model", rows, targets, [note])


def train(name: str, settings: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """Train one contender in this process; return its row."""
    own, other = (load_config(BUNDLE, config, **settings) for config in (CONTENDERS[name], "train"))
    steps = max(1, int(other["steps"]) * int(other["batch_size"]) // int(own["batch_size"]))
    items = development(own)
    cached = own.get_parsed_content("cached_preprocessing")
    fill_cache([item["image"] for item in items], cached, settings.get("unlabelled#num_workers"))
    overrides = {
        **settings,
        "steps": steps,
        "steps_per_epoch": epoch_length(steps, max(1, steps // _NUM_VALIDATIONS)),
        "output_dir": f"{folder}/output",
        "ckpt_dir": f"{folder}/models",
        "pretrained_dir": BUNDLE / "models",
        "validate#dataset#data": items,
    }
    with noted_validations() as notes:
        run_config(BUNDLE, CONTENDERS[name], quiet=True, **overrides)
    minutes, dice = notes[-1]
    return {
        "recipe": name,
        "images": steps * int(own["batch_size"]),
        "volumes": len(items),
        **{f"minutes to {level:.2f}": next((at for at, found in notes if found >= level), None) for level in LEVELS},
        _EARLY: best_within(notes, _EARLY_MINUTES),
        "minutes": minutes,
        "Dice": dice,
        "peak GiB": harness.resident_mib("VmHWM") / 1024,
    }


def best_within(notes: Sequence[tuple[float, float]], minutes: float) -> float:
    """Return the highest Dice of (minutes, Dice) that was there by then, 0 if none was."""
    return max((dice for at, dice in notes if at <= minutes), default=0.0)


@contextmanager
def noted_validations() -> Iterator[list[tuple[float, float]]]:
    """Yield a list that gets (minutes of training before it, mean Dice) of each validation in the block."""
    notes: list[tuple[float, float]] = []
    started, validating = time.monotonic(), 0.0
    run = SupervisedEvaluator.run

    def noted(evaluator: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal validating
        begun = time.monotonic()
        outcome = run(evaluator, *arguments, **options)
        state = evaluator.state
        notes.append(((begun - started - validating) / 60, float(state.metrics[state.key_metric_name])))
        validating += time.monotonic() - begun
        return outcome

    with patch.object(SupervisedEvaluator, "run", noted):
        yield notes
