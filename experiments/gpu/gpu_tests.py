"""The tests that need a GPU, on a machine that has one."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from .kit import KIT, REPOSITORY, STARTED, WORK, commit_of, read_manifest, require_device
from .outcome import Outcome, seconds_since

_PACKAGES = ("torch", "triton", "numpy", "scipy", "scikit-image", "monai", "nibabel", "pytorch-ignite", "pytest")


def facts_of(command: str, device: str, kit: Path) -> dict[str, Any]:
    """Return what every report begins with.

    Raises:
        KitError: if there is no GPU and the device is not "cpu", or the kit is not whole.
    """
    name = require_device(device)
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "absent"
    manifest = read_manifest(kit)
    return {
        "command": command,
        "commit": commit_of(manifest),
        "device": name,
        "cores": len(os.sched_getaffinity(0)),
        "versions": versions,
        "slices": manifest.get("slices"),
    }


def marked_files() -> list[Path]:
    """List the files with tests that need a GPU: the others need packages that the machine with the GPU lacks."""
    files = sorted((REPOSITORY / "tests").rglob("test_*.py"))
    return [path for path in files if "@pytest.mark.gpu\n" in path.read_text("utf-8")]


def test(out: str, device: str = "cuda", max_minutes: float = 5.0, kit: str = str(KIT), work: str = str(WORK)) -> None:
    """Run the tests marked `gpu`; the log is written as they run.

    Args:
        out: folder that comes back.
        device: "cuda", or "cpu" to rehearse: the tests are then found, but not run.
        max_minutes: limit.
        kit: folder of the kit, whose wheels are installed.
        work: folder that they are installed in.

    Raises:
        SystemExit: with status 1 if a test fails or cannot be found.
    """
    outcome = Outcome(Path(out), facts_of("test", device, Path(kit)))
    junit = Path(work).resolve() / "pytest.xml"
    # The usual options divide the tests among processes, by a package that this machine lacks; there is one GPU.
    options = ["-o", "addopts=", "-v", "-m", "gpu", "--continue-on-collection-errors", "-p", "no:cacheprovider"]
    options.append(f"--junitxml={junit}")
    command = [sys.executable, "-m", "pytest", *options, *(["--collect-only"] if device == "cpu" else [])]
    command += map(str, marked_files())
    log = Path(out) / "test.log"
    with log.open("w") as target:
        try:
            status = subprocess.run(
                command, cwd=REPOSITORY, stdout=target, stderr=subprocess.STDOUT, timeout=60 * max_minutes, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            status = -1
    counts = dict(ElementTree.parse(junit).getroot()[0].attrib) if junit.is_file() else {}
    outcome.report(status=status, counts=counts, seconds=seconds_since(STARTED))
    print(log.read_text()[-3000:])
    if status != 0:
        raise SystemExit(f"pytest ended with status {status}: see {log}.")
