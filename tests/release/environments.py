"""Environments that have the packages which a bundle's metadata name, what these require, and nothing else."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.places import REPOSITORY


def named_packages(bundle: Path) -> dict[str, str]:
    """Return the packages that a bundle's metadata name, with their versions."""
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
    core = {
        "monai": metadata["monai_version"],
        "torch": metadata["pytorch_version"],
        "numpy": metadata["numpy_version"],
    }
    return {**core, **metadata["required_packages_version"]}


def link_packages(packages: dict[str, str], target: Path) -> Path:
    """Make a folder like `site-packages` with links to what is installed here: packages and what they require.

    This takes a second, where an installation takes minutes.
    """
    distributions = _with_requirements(packages)
    owners = importlib.metadata.packages_distributions()
    for distribution in distributions.values():
        for file in distribution.files:
            top = file.parts[0]
            # A folder that others have files in as well, such as that of a namespace, is made anew.
            whole = all(canonicalize_name(owner) in distributions for owner in owners.get(top, ()))
            link = target / (top if whole else file)
            if top not in ("..", "__pycache__") and not link.is_symlink():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(distribution.locate_file(top if whole else file))
    return target


def _with_requirements(packages: Iterable[str]) -> dict[str, importlib.metadata.Distribution]:
    """Return packages and what they require, directly and indirectly, as installed here."""
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = [Requirement(name) for name in packages]
    while waiting:
        requirement = waiting.pop()
        if (name := canonicalize_name(requirement.name)) not in found:
            found[name] = importlib.metadata.distribution(name)
            extras = ["", *requirement.extras]
            for entry in map(Requirement, found[name].requires or ()):
                if entry.marker is None or any(entry.marker.evaluate({"extra": extra}) for extra in extras):
                    waiting.append(entry)
    return found


def install_packages(packages: dict[str, str], target: Path) -> Path:
    """Make such a folder with pip, as a user does who reads the metadata; what they require is pinned as here."""
    names = [f"{name}=={version}" for name, version in packages.items()]
    command = [sys.executable, "-m", "pip", "install", "-q", "-c", str(REPOSITORY / "constraints.txt")]
    done = subprocess.run([*command, "--no-compile", "--target", str(target), *names], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return target
