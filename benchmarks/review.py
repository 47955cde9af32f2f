"""What a person gets besides a segmentation, and what it costs: a ranking of volumes, uncertainty, and a page.

ranking       `select.json` on volumes that are prepared, as after a first run: the whole command but for loading Python
segmentation  `inference.json` on some volumes, without pictures
uncertainty   the same with `uncertainty`
page          the same as the second with `pictures`, which adds `report.html` and a picture of each volume
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from monai.inferers import SliceInferer
from monai.transforms import Invertd

from benchmarks import harness
from benchmarks.inference import stopwatch
from bundles.run import REPOSITORY, load_config, run_config
from common.engines.turned_inferer import TurnedInferer
from common.outputs import NiftiOutputs
from common.transforms.uncertainty import ExpectedDiced, Uncertaintyd
from phantom import write_acdc_phantom

BUNDLE = REPOSITORY / "bundle_acdc"
_NUM_CHOSEN = 8
_OF_UNCERTAINTY: dict[tuple[Any, str], str] = {
    (SliceInferer, "__call__"): "network",
    (TurnedInferer, "__call__"): "turning slices and probabilities",
    (ExpectedDiced, "__call__"): "expected Dice",
    (Invertd, "__call__"): "way back to the grid",
    (Uncertaintyd, "__call__"): "entropy",
    (NiftiOutputs, "save"): "writing",
}
_MOST_SECONDS, _MOST_RATIO, _MOST_PAGE_SECONDS = 20.0, 2.0, 0.3


def measure(
    dataset_dir: str | None = None,
    checkpoint: str | None = None,
    num_ranked: int = 100,
    num_segmented: int = 10,
    repetitions: int = 3,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Time all four, the last three in turn.

    Args:
        dataset_dir: folder of ACDC; None makes phantoms.
        checkpoint: weights of the bundle's network; None takes those of the bundle.
        num_ranked: volumes to rank; fewer if the data set has fewer.
        num_segmented: volumes to segment.
        repetitions: timed runs of each.
        settings: values of the configs' ids, to shrink them.

    Returns:
        The result.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if dataset_dir is None:
            dataset_dir = str(root / "data")
            write_acdc_phantom(Path(dataset_dir), max(num_segmented, 4))
        common = {**(settings or {}), "dataset_dir": dataset_dir}
        items = load_config(BUNDLE, "select", **common).get_parsed_content("datalist")(dataset_dir)
        ranked = _rank_run(items[:num_ranked], common, root)
        chosen = root / "input"
        chosen.mkdir()
        for item in items[:num_segmented]:
            source = Path(item["image"]).resolve()
            (chosen / f"{item['id']}{''.join(source.suffixes)}").symlink_to(source)
        segmentation = {**(settings or {}), "input": str(chosen), "pictures": False, "quiet": True}
        if checkpoint is not None:
            segmentation["checkpoint"] = checkpoint
        segment = partial(run_config, BUNDLE, "inference", **segmentation)
        contenders = {
            "segmentation": partial(segment, output_dir=root / "plain"),
            "uncertainty": partial(segment, output_dir=root / "uncertain", uncertainty=True),
            "page": partial(segment, output_dir=root / "page", pictures=True),
        }
        seconds = {
            **harness.time_in_turn({"ranking": ranked}, repetitions, warm_up=1),  # the first one prepares the volumes
            **harness.time_in_turn(contenders, repetitions, warm_up=1),
        }
        with stopwatch(_OF_UNCERTAINTY, harness.default_device()) as parts:
            started = time.perf_counter()
            contenders["uncertainty"]()
            whole = time.perf_counter() - started
    volumes = {name: min(num_ranked if name == "ranking" else num_segmented, len(items)) for name in seconds}
    rows: list[dict[str, Any]] = [
        {"what": name, "volumes": volumes[name], "seconds": times["median"], "low": times["low"], "high": times["high"]}
        for name, times in ((name, harness.spread(values)) for name, values in seconds.items())
    ]
    ratio = harness.ratios(seconds, "uncertainty", "segmentation")["median"]
    pages = [page - plain for page, plain in zip(seconds["page"], seconds["segmentation"], strict=True)]
    page = harness.spread(pages)["median"] / volumes["page"]
    targets = [
        harness.target(f"seconds to rank {volumes['ranking']} volumes", rows[0]["seconds"], at_most=_MOST_SECONDS),
        harness.target("time with uncertainty / time without", ratio, at_most=_MOST_RATIO),
        harness.target("seconds a volume for pictures and page", page, at_most=_MOST_PAGE_SECONDS),
    ]
    rest = whole - sum(parts.values())
    shares = ", ".join(f"{part} {seconds:.2f} s" for part, seconds in {**parts, "all else": rest}.items())
    notes = [
        f"Uncertainty, a further run of {whole:.2f} s: {shares}. The network runs once for each turn of the slices."
    ]
    return harness.result("review", rows, targets, notes)


def _rank_run(items: Sequence[Mapping[str, str]], common: Mapping[str, Any], root: Path) -> partial[None]:
    """Return a run of `select.json` in which these are the volumes to choose among."""
    ids = [item["id"] for item in items]
    split = {"pretrain": ids, "test": ["none"], "draws": {"1": {"c1": {"labelled": ids[:1], "validation": []}}}}
    path = root / "splits.json"
    path.write_text(json.dumps(split), encoding="utf-8")
    own = {"split_path": str(path), "cache_dir": str(root / "cache"), "output_dir": str(root / "ranking")}
    number = min(_NUM_CHOSEN, len(items) - 1)
    return partial(run_config, BUNDLE, "select", quiet=True, **{**common, **own, "number": number})
