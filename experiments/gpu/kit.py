"""The kit: what travels to the machine with the GPU beside the repository, its hashes, and its installation there.

    gpu_kit/manifest.json   size and SHA-256 of all below; the commit, and the hash of each file that it runs from
    gpu_kit/wheels/         packages that the machine lacks
    gpu_kit/itk.zip         the part of ITK that N4 needs
    gpu_kit/slices.zip      preprocessed volumes and labels
    gpu_kit/state/          what an earlier command got done, see `outcome`

Python's own packages only: this is imported before any other is there.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
STARTED = time.monotonic()
"""When this process began, near enough: what it installs and imports counts as well."""
KIT = REPOSITORY / "gpu_kit"
WORK = REPOSITORY / "gpu_work"
"""Gets the installed packages, the data and the runs; is left to the next command where the machine is the same."""
MANIFEST = "manifest.json"
WHEELS, ITK, SLICES, STATE = "wheels", "itk.zip", "slices.zip", "state"
_CODE = (".py", ".json", ".conf")


class KitError(RuntimeError):
    """The kit is not whole or too large, or the machine is not what a command needs."""


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(kit: Path, **facts: Any) -> None:
    """Write the manifest of what is in a kit.

    Args:
        kit: the folder.
        **facts: what else is to be known of it.
    """
    files = {
        path.relative_to(kit).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(kit.rglob("*"))
        if path.is_file() and path.name != MANIFEST and STATE not in path.relative_to(kit).parts
    }
    (kit / MANIFEST).write_text(json.dumps({**facts, "files": files}, indent=1) + "\n", encoding="utf-8")


def read_manifest(kit: Path) -> dict[str, Any]:
    """Read the manifest and check the files of the kit that are there; those that did not travel may be absent.

    Raises:
        KitError: if there is no manifest, or a file is another one than was packed.
    """
    try:
        manifest: dict[str, Any] = json.loads((kit / MANIFEST).read_text(encoding="utf-8"))
        files = manifest["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KitError(
            f"{kit / MANIFEST} cannot be read ({error!r}): make the kit with `python -m experiments.gpu pack`, and "
            "carry it."
        ) from None
    for name, expected in files.items():
        path = kit / name
        if path.is_file() and sha256(path) != expected["sha256"]:
            raise KitError(f"{path} is not the file that was packed (SHA-256): carry the kit again, or pack it anew.")
    return manifest


def code_hashes(names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of each of these files of the repository that is code, a config or a split."""
    hashes = {}
    for name in names:
        path = REPOSITORY / name
        if name.endswith(_CODE) and "results" not in Path(name).parts and path.is_file():
            hashes[name] = sha256(path)
    return hashes


def commit_of(manifest: dict[str, Any]) -> str:
    """Name the commit that this machine runs: a copy of the working tree has no history that could be asked.

    "-dirty" is appended if a file of code differs from that commit, or did so when the kit was packed.
    """
    commit, expected = str(manifest["commit"]), manifest["code"]
    changed = code_hashes(expected) != expected and not commit.endswith("-dirty")
    return commit + ("-dirty" if changed else "")


def install(kit: Path, work: Path) -> None:
    """Make the kit's packages importable in this process and those it starts; nothing is fetched from anywhere.

    Raises:
        KitError: if the kit is not whole, or pip refuses a wheel.
    """
    manifest = read_manifest(kit)
    site = (work / "site").resolve()
    wheels = [str(kit / name) for name in manifest["files"] if name.startswith(f"{WHEELS}/")]
    missing = [wheel for wheel in wheels if not Path(wheel).is_file()]
    if missing:
        raise KitError(f"{missing[0]} is in the manifest, but not here: carry {kit.name}/{WHEELS} as well.")
    done = site / ".wheels"
    stamp = "\n".join(f"{name} {entry['sha256']}" for name, entry in manifest["files"].items())
    if wheels and not (done.is_file() and done.read_text(encoding="utf-8") == stamp):
        options = ["--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--upgrade", "--target", str(site)]
        command = [sys.executable, "-m", "pip", "install", "--quiet", *options, *wheels]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode != 0:
            raise KitError(f"the wheels of {kit} cannot be installed: {run.stderr.strip()}")
        done.write_text(stamp, encoding="utf-8")
    if (kit / ITK).is_file() and not (site / "itk").is_dir():
        with zipfile.ZipFile(kit / ITK) as archive:
            archive.extractall(site)
    paths = [str(site), str(REPOSITORY)]
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, *filter(None, [os.environ.get("PYTHONPATH")])])
    sys.path[:0] = paths


def require_device(device: str) -> str:
    """Return the name of the device that will be used.

    Args:
        device: "cuda", or "cpu" to rehearse.

    Raises:
        KitError: if there is no GPU and none is done without.
    """
    import torch

    if device == "cpu":
        if torch.cuda.is_available():
            raise KitError("device must be 'cuda' on a machine that has a GPU, got 'cpu': leave it out.")
        return "CPU, a rehearsal"
    if device != "cuda":
        raise KitError(f"device must be 'cuda', or 'cpu' to rehearse, got {device!r}: choose one of them.")
    if not torch.cuda.is_available():
        raise KitError("no GPU that torch can use is on this machine: run it where one is, or rehearse: --device cpu.")
    return str(torch.cuda.get_device_name())
