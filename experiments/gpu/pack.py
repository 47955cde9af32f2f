"""Make the kit on a machine that has the dataset and a network."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fire.decorators import SetParseFns

from bundles.run import commit
from common.data.cache import CachedTransformd

from ..cells import bundle_of
from .kit import ITK, KIT, MANIFEST, REPOSITORY, SLICES, STATE, WHEELS, KitError, code_hashes, describe
from .slices import pack_slices, preprocessing_of, select_needed
from .wheels import ITK_PACKAGES, PACKAGES, download, pack_itk

LIMIT = 64 * 2**20
"""Bytes that may travel: the working tree and what is carried."""
PARTS = {
    "test, benchmarks": (MANIFEST, WHEELS, ITK),
    "cells, recipe": (MANIFEST, WHEELS, SLICES, STATE),
}
"""What each command needs of the kit."""
SPARSE = (
    "git sparse-checkout set --no-cone '/*' '!/bundle_acdc/models/*.pt' '!/experiments/results/camvid/' "
    "'!/experiments/results/*/*/weights/*.pt'"
)
"""Command that takes weights and CamVid's results out of the working tree: too much to travel, and not needed there."""


@SetParseFns(python=str)  # Fire would make a number of it, and 3.1 of 3.10
def pack(
    dataset_dir: str,
    kit: str = str(KIT),
    bits: int = 10,
    python: str = "3.12",
    also: Sequence[str] = (),
    cache_dir: str = "",
    itk: bool = True,
) -> None:
    """Prepare all that the machine with the GPU needs besides the repository, and say what is to be carried.

    Args:
        dataset_dir: ACDC's folder.
        kit: folder of the kit, which is made anew; the state in it, which earlier commands left, stays.
        bits: of a voxel, 8 to 16; half a step of 2 ** bits is the rounding error.
        python: version of Python on the machine with the GPU.
        also: further packages whose versions of here are to be used there, such as "numpy".
        cache_dir: of preprocessed volumes; the bundle's by default.
        itk: False leaves ITK out: the tests and benchmarks that use N4 then fail.

    Raises:
        KitError: if more would travel than is allowed; the kit stays, so that one can look.
    """
    folder = Path(kit)
    bundle = bundle_of("acdc")
    for name in (MANIFEST, ITK, SLICES):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / WHEELS, ignore_errors=True)
    download([*PACKAGES, *([also] if isinstance(also, str) else also)], folder / WHEELS, python)
    if itk:
        with tempfile.TemporaryDirectory() as temporary:
            pack_itk(download(ITK_PACKAGES, Path(temporary), python), folder / ITK)
    cached = preprocessing_of(bundle, **({"cache_dir": cache_dir} if cache_dir else {}))
    error = pack_volumes(folder / SLICES, bundle, Path(dataset_dir), cached, bits)
    tracked = _git("ls-files")
    describe(folder, commit=commit(), code=code_hashes(tracked), slices=error)
    print(
        f"{error['volumes']} volumes, {error['slices']} slices, {bits} bits: rounding error at most "
        f"{error['greatest_error']:.2g}, root mean square {error['rms_error']:.2g} of the normalised range."
    )
    check_size(folder, LIMIT)


def pack_volumes(archive: Path, bundle: Path, dataset_dir: Path, cached: CachedTransformd, bits: int) -> dict:
    """Write the archive of the volumes that the headline table needs; see `pack_slices`."""
    items = select_needed(bundle, dataset_dir, bundle / "configs" / "splits.json")
    return pack_slices(archive, dataset_dir, items, cached, bits)


def check_size(kit: Path, limit: int) -> None:
    """Print what travels with each command.

    Raises:
        KitError: if that is more than the limit for one of them.
    """
    tree = sum((REPOSITORY / name).stat().st_size for name in _travelling())
    print(f"working tree {_mib(tree)}")
    too_large = []
    for commands, parts in PARTS.items():
        sizes = {name: _size(kit / name) for name in parts if (kit / name).exists()}
        total = tree + sum(sizes.values())
        listed = ", ".join(f"{kit.name}/{name} {_mib(size)}" for name, size in sizes.items())
        print(f"{commands}: carry {listed}; with the working tree {_mib(total)} of {_mib(limit)}")
        if total > limit:
            too_large.append(f"{commands} {_mib(total)}")
    if too_large:
        raise KitError(
            f"what travels must be at most {_mib(limit)}, got {'; '.join(too_large)}: take fewer bits, remove "
            f"{kit / STATE}, or take weights and CamVid's results out of the working tree with `{SPARSE}` (`git "
            "sparse-checkout disable` brings them back)."
        )


def _travelling() -> list[str]:
    """List the files of the working tree that are tracked or not ignored."""
    names = _git("ls-files", "--cached", "--others", "--exclude-standard")
    return [name for name in dict.fromkeys(names) if (REPOSITORY / name).is_file()]


def _git(*arguments: str) -> list[str]:
    command = ["git", "-C", str(REPOSITORY), *arguments, "-z"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return [name for name in run.stdout.split("\0") if name]


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file())


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
