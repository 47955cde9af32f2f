"""One volume, file to file: ours without N4 beside nnU-Net's predictor with the same network."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
from torch import nn

from benchmarks import harness
from benchmarks.prepare import ACDC_SIZE, volume_files
from bundles.run import REPOSITORY, load_config
from common import outputs, segmentation
from common.engines.precision import resolve_precision

from .training import NEVER_BEHIND, NNUNET, comparison

BUNDLE = REPOSITORY / "bundle_acdc"
NUM_SLICES = 10
_MULTIPLE = 32  # sides of an image that the network takes are multiples of it


def measure(
    nnunet: Any,
    folder: Path,
    dataset_dir: str | None = None,
    repetitions: int = 5,
    num_candidates: int = 8,
    size: tuple[int, int] = ACDC_SIZE,
    settings: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Time the segmentation of a volume, and of the middle of it that one tile covers.

    Args:
        nnunet: the module of that name.
        folder: a new one, for the files.
        dataset_dir: folder of ACDC; None makes phantoms.
        repetitions: runs of each contender.
        num_candidates: first volumes of the data set, of which the one nearest to 10 slices is taken.
        size: least and greatest number of voxels along x and y of phantoms.
        settings: values of `inference.json` by id, to shrink it.

    Returns:
        Rows. "pixels, peer / ours" is how many pixels the network of the peer got for one of ours.

    Raises:
        RuntimeError: if a segmentation has another shape than the volume.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = volume_files(dataset_dir, num_candidates, size, folder / "phantoms")
    whole = min(files, key=lambda path: abs(nibabel.load(path).shape[2] - NUM_SLICES))
    settings = {"device": harness.default_device(), "pictures": False, **(settings or {})}
    parser = load_config(BUNDLE, "inference", **settings)
    side = tuple(parser.get_parsed_content("image_size"))
    spacing_mm = float(parser.get_parsed_content("spacing_mm"))
    middle = write_middle(whole, [length * spacing_mm for length in side], folder / "middle.nii.gz")
    rows: list[dict[str, Any]] = []
    for name, path in (("a volume", whole), ("its middle, one tile", middle)):
        tiles = dict.fromkeys([side, covering_tile(path, spacing_mm)])
        rows += _measure_volume(nnunet, name, path, list(tiles), spacing_mm, folder / name, settings, repetitions)
    return rows


def _measure_volume(
    nnunet: Any,
    name: str,
    image: Path,
    tiles: Sequence[tuple[int, ...]],
    spacing_mm: float,
    folder: Path,
    settings: Mapping[str, Any],
    repetitions: int,
) -> list[dict[str, Any]]:
    device = harness.default_device()
    contenders: dict[str, Callable[[], object]] = {}
    pixels: dict[str, float] = {}
    written: dict[str, Path] = {}

    def add(label: str, segment: Callable[[], object], network: nn.Module, output: Path) -> None:
        with counted_pixels(network) as seen:
            segment()
        contenders[label], pixels[label], written[label] = segment, sum(seen), output

    class_names: list[str] = []
    precisions = {str(resolve_precision(value, device)).removeprefix("torch."): value for value in ("auto", "float32")}
    for label, precision in precisions.items():
        values = {**settings, "input": str(image), "output_dir": str(folder / label), "precision": precision}
        segment, network, class_names = _ours(values)
        add(label, segment, network, outputs.segmentation_path(str(image), str(folder / label)))
    plain = nnunet.plain_network(copy.deepcopy(network))
    for tile in tiles:
        for mirrored in (False, True):
            label = f"{NNUNET}, tiles {tile[0]} x {tile[1]}{', mirrored' if mirrored else ''}"
            output = folder / f"{label}.nii.gz"
            segment = nnunet.segmenter(plain, image, output, tile, spacing_mm, class_names, mirrored, device)
            add(label, segment, plain, output)

    shape = nibabel.load(image).shape
    for label, path in written.items():
        if (found := nibabel.load(path).shape) != shape:
            raise RuntimeError(f"segmentations must have the shape of the volume, {shape}, got {found} of {label}.")
    seconds = harness.time_in_turn(contenders, repetitions, device=device)
    return [
        {
            "work": f"inference, {name}",
            "part": "file to file",
            "images": shape[2],
            "peer": label,
            "ours in": precision,
            **comparison(seconds, precision, label, 1, shape[2]),
            "pixels, peer / ours": pixels[label] / pixels[precision],
        }
        for precision in precisions
        for label in contenders
        if label not in precisions
    ]


def _ours(settings: Mapping[str, Any]) -> tuple[Callable[[], object], nn.Module, list[str]]:
    """Return what segments as the config's `run` does, without N4 and pictures, its network, and the class names."""
    parser = load_config(BUNDLE, "inference", **settings)
    parser["n4_shrink"] = None
    evaluator, dataset, output_dir, class_names = (
        parser.get_parsed_content(key) for key in ("evaluator", "dataset", "output_dir", "class_names")
    )
    segment = partial(segmentation.segment_volumes, evaluator, dataset, output_dir, class_names, False)
    return segment, evaluator.network, class_names


@contextmanager
def counted_pixels(network: nn.Module) -> Iterator[list[int]]:
    """Collect the number of pixels of each input that a network gets within the block."""
    seen: list[int] = []
    handle = network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].numel()))
    try:
        yield seen
    finally:
        handle.remove()


def write_middle(image: Path, most_mm: Sequence[float], target: Path) -> Path:
    """Write the middle of a volume, of at most so many millimetres along its first two axes."""
    volume = nibabel.load(image)
    parts = []
    for length, voxel_mm, most in zip(volume.shape[:2], volume.header.get_zooms()[:2], most_mm, strict=True):
        kept = min(length, math.floor(most / float(voxel_mm)))
        start = (length - kept) // 2
        parts.append(slice(start, start + kept))
    nibabel.save(volume.slicer[tuple(parts)], target)
    return target


def covering_tile(image: Path, spacing_mm: float) -> tuple[int, int]:
    """Return (H, W) of the tile that covers a slice at a pixel size, in the order of the axes that nnU-Net reads."""
    volume = nibabel.load(image)
    sides = [
        math.ceil(length * float(voxel_mm) / spacing_mm / _MULTIPLE) * _MULTIPLE
        for length, voxel_mm in zip(volume.shape[:2], volume.header.get_zooms()[:2], strict=True)
    ]
    return sides[1], sides[0]


def targets(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Compare ours with the fastest way of the predictor, of each volume and precision."""
    groups: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        groups.setdefault((row["work"], row["ours in"]), []).append(row["ours / peer"])
    return [
        harness.target(f"{work}: slices a second, ours in {precision} / {NNUNET}", min(factors), at_least=NEVER_BEHIND)
        for (work, precision), factors in groups.items()
    ]
