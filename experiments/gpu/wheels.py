"""Packages that the machine with the GPU lacks: their wheels, and the few files of ITK that N4 loads."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from .kit import KitError

# What the image of the day (Python 3.12, torch, numpy, matplotlib, tensorboard, scikit-image, filelock, tqdm, pytest,
# ...) lacks of the needs of this repository, with the needs of these. The versions are those of this environment.
PACKAGES = ("monai", "nibabel", "pytorch-ignite", "fire", "termcolor", "pytorch-metric-learning")
ITK_PACKAGES = ("itk-core", "itk-filtering", "itk-numerics")
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
# Runs N4 from a folder and prints which files of the folder were loaded.
_TRACE = """
import json, pathlib, re, sys
root = sys.argv[1]
sys.path.insert(0, root)
import torch
from monai.data import MetaTensor
from common.transforms import N4BiasFieldCorrection
N4BiasFieldCorrection((2, 2, 1), (2, 2))(MetaTensor(torch.rand(1, 16, 20, 4) + 1, affine=torch.eye(4)))
maps = pathlib.Path("/proc/self/maps").read_text()
modules = [str(getattr(module, "__file__", None)) for module in list(sys.modules.values())]
loaded = {str(pathlib.Path(name).resolve()) for name in modules + re.findall(r"(/.*[.]so.*)$", maps, re.MULTILINE)}
print(json.dumps(sorted(name for name in loaded if name.startswith(str(pathlib.Path(root).resolve())))))
"""


def download(packages: Iterable[str], folder: Path, python: str) -> list[Path]:
    """Fetch wheels in the versions of this environment, without what they need.

    Args:
        packages: names.
        folder: gets the wheels.
        python: version of Python that they are for, such as "3.12".

    Raises:
        KitError: if pip fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pinned = [f"{name}=={importlib.metadata.version(name)}" for name in packages]
    platforms = [argument for platform in _PLATFORMS for argument in ("--platform", platform)]
    options = ["--no-deps", "--only-binary=:all:", "--python-version", python, "--implementation", "cp", *platforms]
    command = [sys.executable, "-m", "pip", "download", "--quiet", *options, "-d", str(folder), *pinned]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise KitError(f"the wheels cannot be downloaded: {run.stderr.strip()}")
    return sorted(folder.glob("*.whl"))


def pack_itk(wheels: Sequence[Path], archive: Path) -> None:
    """Write the files of ITK's wheels that N4 loads: a tenth of them, which would not fit.

    Args:
        wheels: of `ITK_PACKAGES`; their compiled parts are for Python 3.11 and later.
        archive: the zip file to be, to be unpacked where packages are looked for.

    Raises:
        KitError: if N4 does not run on these files alone.
    """
    with tempfile.TemporaryDirectory() as folder:
        whole, part = Path(folder, "whole"), Path(folder, "part")
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as source:
                source.extractall(whole)
        kept = {Path(name) for name in _loaded_by_n4(whole)}
        kept |= {path for path in whole.rglob("*") if "Configuration" in path.parts or "METADATA" == path.name}
        for path in sorted(path for path in kept if path.is_file()):
            target = part / path.relative_to(whole.resolve())
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
        _loaded_by_n4(part)
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_LZMA) as packed:
            for path in sorted(path for path in part.rglob("*") if path.is_file() and path.suffix != ".pyc"):
                packed.write(path, path.relative_to(part))


def _loaded_by_n4(folder: Path) -> list[str]:
    """Run N4 with the ITK of a folder, in a process of its own; return which files of the folder it loaded."""
    command = [sys.executable, "-c", _TRACE, str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise KitError(f"N4 does not run with the files in {folder}: {run.stderr.strip().splitlines()[-1]}")
    names: list[str] = json.loads(run.stdout.splitlines()[-1])
    if not any(".so" in name for name in names):
        raise KitError(f"N4 took ITK from elsewhere than {folder}.")
    return names
