"""Run a bundle's config in this process, exactly as `python -m monai.bundle run` would."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser, ConfigWorkflow

import common
from common import runs

from .places import REPOSITORY


def commit() -> str:
    """Name the repository's commit, "-dirty" if files were changed since; the version where there is no repository."""
    if not (REPOSITORY / ".git").exists():
        return f"v{common.__version__}"  # git would name a repository around the installation
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def load_config(bundle_root: Path, name: str, **overrides: Any) -> ConfigParser:
    """Read a config of a bundle with values overridden, to take parts of it; for the name see `run_config`."""
    parser = ConfigParser()
    parser.read_config(_files(bundle_root, name))
    parser.update({"bundle_root": str(bundle_root), **overrides})
    return parser


def run_config(bundle_root: Path, name: str, run_id: str = "run", quiet: bool = False, **overrides: Any) -> None:
    """Run a config of a bundle with values overridden.

    Args:
        bundle_root: the bundle's folder.
        name: of the config, such as "train" for `configs/train.json`; with what is laid over it as in "train+paper".
        run_id: which list of the config is run.
        quiet: leave logging as it is instead of taking the bundle's, which reports every epoch.
        **overrides: values by config id.
    """
    configs = bundle_root / "configs"
    workflow = ConfigWorkflow(
        config_file=_files(bundle_root, name),
        meta_file=str(configs / "metadata.json"),
        logging_file=False if quiet else str(configs / "logging.conf"),
        run_id=run_id,
        workflow_type="inference" if name in ("evaluate", "inference") else "train",
        bundle_root=str(bundle_root),
        **{key: str(value) if isinstance(value, Path) else value for key, value in overrides.items()},
    )
    try:
        workflow.initialize()
        workflow.run()
        workflow.finalize()
    finally:
        runs.release()  # as the end of its process would


def _files(bundle_root: Path, name: str) -> list[str]:
    return [str(bundle_root / "configs" / f"{part}.json") for part in name.split("+")]
