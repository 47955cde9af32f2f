"""An evaluation of the ACDC bundle that leaves no files behind."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bundles.run import REPOSITORY, run_config

BUNDLE = REPOSITORY / "bundle_acdc"


def evaluate(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `evaluate.json` writes to `evaluation.json` with these values.

    Args:
        settings: values of `evaluate.json` by id.
    """
    with tempfile.TemporaryDirectory() as folder:
        run_config(BUNDLE, "evaluate", quiet=True, **{**settings, "pictures": False, "output_dir": folder})
        found: dict[str, Any] = json.loads(Path(folder, "evaluation.json").read_text(encoding="utf-8"))
        return found
