"""N4 bias field correction of a data set: the full resolution, volume after volume, beside what the bundles do.

Contenders, on the same volumes, with the same convergence threshold:

    full resolution   ITK on every voxel, one volume after another in one process, with ITK's default threads
    ours              the field from a part of the pixels of every slice and in fewer levels, as the bundle of ACDC has
                      it, in the process pool of `fill_cache`

Both load the file, correct it, scale its 1st and 99th percentile to 0 and 1 and store the result with
`CachedTransformd`; the difference of the results is that of these scaled volumes. The inputs are the end-diastolic
volumes of the first ACDC patients, or phantoms of their size.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import torch
from monai.transforms import Compose, LoadImaged
from tqdm import tqdm

from benchmarks import harness
from bundles.facts import FACTS_FILE, read_facts
from bundles.run import REPOSITORY
from common.data.cache import CachedTransformd, fill_cache
from common.data.cores import num_cores
from common.data.datalists import acdc
from common.transforms import N4BiasFieldCorrectiond, OrientSlicesd, ScalePercentilesd
from phantom import write_acdc_phantom

ACDC_SIZE = (216, 256)  # voxels along x and y of most of its volumes
FULL = "full resolution, one after another"
BUNDLE = REPOSITORY / "bundle_acdc"


def measure(
    dataset_dir: str | None = None,
    num_volumes: int = 4,
    copies: int = 4,
    data_set: int = 100,
    num_workers: int | None = None,
    size: tuple[int, int] = ACDC_SIZE,
    iterations: Sequence[int] = (50, 50, 50, 50),
    ours: tuple[Sequence[int], Sequence[int]] | None = None,
) -> dict[str, Any]:
    """Time both and compare what they give.

    Args:
        dataset_dir: folder of ACDC, whose first patients are taken; None makes phantoms.
        num_volumes: volumes that both correct.
        copies: files that the pool gets of each of them, so that it works for longer than its processes take to start.
        data_set: number of volumes for which the pool's rate is stated with the start of its processes; ACDC has 100.
        num_workers: processes of the pool; None takes one for each core, 0 computes in this process.
        size: least and greatest number of voxels along x and y of phantoms.
        iterations: most iterations of N4 in each level, at full resolution.
        ours: shrink factors and iterations of the other contender; None takes the bundle's.

    Returns:
        The result. The column "difference %" is the mean absolute difference between the results of the two, in per
        cent of the normalised range.
    """
    cpu = torch.device("cpu")
    processes = num_cores() if num_workers is None else max(1, num_workers)
    facts = read_facts(BUNDLE / FACTS_FILE)
    assert facts.n4_shrink is not None  # the bundle of ACDC corrects its volumes
    shrink, fewer = ours or (facts.n4_shrink, facts.n4_iterations)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        files = volume_files(dataset_dir, num_volumes, size, root / "phantoms")
        pooled = [copy_volume(path, number, root / "copies") for number in range(copies) for path in files]
        tiny = volume_files(None, processes, (16, 20), root / "tiny")
        exact = _cached((1, 1, 1), iterations, root / "exact")
        shrunk = _cached(shrink, fewer, root / "ours")
        exact.transform({"image": str(tiny[0])})  # loads ITK, which takes seconds

        with tqdm(total=len(files) + len(pooled), desc="N4", unit="volume", file=sys.stderr) as bar:
            seconds_exact: list[float] = []

            def correct_exactly(paths: Sequence[Path]) -> None:
                for path in paths:
                    seconds_exact.append(_seconds([path], exact, 0))
                    bar.update()

            # The pool comes between two parts of the other one, so that drifts of the machine meet both.
            memory_exact = harness.peak_memory_mib(lambda: correct_exactly(files[:1]), cpu)
            start_up = _seconds(tiny, _cached((1, 1, 1), (1,), root / "start"), num_workers)
            seconds_pool = _seconds(pooled, shrunk, num_workers)
            bar.update(len(pooled))
            correct_exactly(files[1:])
        memory_ours = harness.peak_memory_mib(lambda: shrunk.transform({"image": str(files[0])}), cpu)
        differences = [_difference(exact, shrunk, path, copy) for path, copy in zip(files, pooled, strict=False)]

    each = (seconds_pool - start_up) / len(pooled)  # seconds for a volume once the processes are there
    rate_exact = 60 * len(files) / sum(seconds_exact)
    rate_pool = 60 * data_set / (start_up + data_set * each)
    difference = statistics.mean(differences)
    names = [path.name.split("_")[0] for path in files]
    pool = f"ours, {processes} process{'es' if processes > 1 else ''}"
    rows: list[dict[str, Any]] = [
        {"volumes": name, "contender": FULL, "volumes a minute": 60 / seconds, "difference %": value}
        for name, seconds, value in zip(names, seconds_exact, differences, strict=True)
    ]
    for volumes, contender, rate, memory in (
        (f"these {len(files)}", FULL, rate_exact, memory_exact),
        (f"{len(pooled)}, start included", pool, 60 * len(pooled) / seconds_pool, memory_ours),
        (f"{data_set}, start included", pool, rate_pool, memory_ours),
        ("any number, start excluded", pool, 60 / each, memory_ours),
    ):
        rows.append(
            {
                "volumes": volumes,
                "contender": contender,
                "volumes a minute": rate,
                "times full resolution": rate / rate_exact,
                "difference %": difference,
                "peak MiB of a process": memory,
            }
        )
    targets = [
        harness.target(
            f"volumes a minute, times those of the full resolution, {data_set} volumes",
            rate_pool / rate_exact,
            at_least=30.0,
        ),
        harness.target("mean absolute difference, % of the normalised range", difference, at_most=1.0),
    ]
    source = "phantoms" if dataset_dir is None else "ACDC volumes"
    notes = [
        f"{len(files)} {source} ({', '.join(names)}); the pool got {copies} files of each, alike but for a word in the "
        "header.",
        f"The processes took {start_up:.1f} s to start, measured on volumes so small that their correction takes next "
        f"to nothing; then there was a volume every {each:.2f} s. The rate for {data_set} volumes is computed from "
        "these two. The full resolution is not charged for loading ITK.",
        f"Ours fits the field on every {shrink[0]}th pixel along x and every {shrink[1]}th along y, in {len(fewer)} "
        f"levels of at most {max(fewer)} iterations; the full resolution in {len(iterations)}. Both sides use all "
        "cores. Loading, the field at full resolution, scaling and storing cost both sides the same.",
        "Peak memory is that of one volume in one process beyond what is in use before.",
    ]
    return harness.result("prepare", rows, targets, notes)


def volume_files(dataset_dir: str | None, number: int, size: tuple[int, int], folder: Path) -> list[Path]:
    """Return the files of the first patients of ACDC, or of phantoms written to a folder.

    Args:
        dataset_dir: folder of ACDC, or None for phantoms.
        number: of volumes.
        size: least and greatest number of voxels along x and y of phantoms.
        folder: where phantoms are written.

    Raises:
        ValueError: if the data set has fewer volumes.
    """
    if dataset_dir is None:
        write_acdc_phantom(folder, number, size)
        dataset_dir = str(folder)
    items = acdc(dataset_dir)
    if not 1 <= number <= len(items):
        raise ValueError(
            f"number must be 1 to {len(items)}, the volumes in {dataset_dir}, got {number!r}; ask for fewer."
        )
    return [Path(item["image"]) for item in items[:number]]


def _cached(shrink: Sequence[int], iterations: Sequence[int], folder: Path) -> CachedTransformd:
    transforms = [
        LoadImaged("image", reader="NibabelReader", ensure_channel_first=True),
        OrientSlicesd("image", axcodes="LPS"),
        N4BiasFieldCorrectiond("image", shrink, iterations),
        ScalePercentilesd("image"),
    ]
    return CachedTransformd("image", Compose(transforms), folder)


def copy_volume(path: Path, number: int, folder: Path) -> Path:
    """Write a volume to a folder with its number before the name and in the header's description.

    Without the latter a cache would take all copies for one volume.
    """
    image = nibabel.load(path)
    image.header["descrip"] = f"copy {number}"
    target = folder / f"{number}_{path.name}"
    target.parent.mkdir(exist_ok=True)
    nibabel.save(image, target)
    return target


def _seconds(files: Sequence[Path], cached: CachedTransformd, num_workers: int | None) -> float:
    started = time.perf_counter()
    fill_cache(files, cached, num_workers, progress=False)
    return time.perf_counter() - started


def _difference(exact: CachedTransformd, ours: CachedTransformd, path: Path, copy: Path) -> float:
    """Return the mean absolute difference of two stored results in per cent of the normalised range."""
    first, second = exact({"image": str(path)})["image"], ours({"image": str(copy)})["image"]
    return 100 * float((first.as_tensor() - second.as_tensor()).abs().mean())
