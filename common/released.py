"""Which weights are those that a bundle was released with.

A bundle names the SHA-256 of its weights: `configs/metadata.json` under "weights", and `large_files.json` of those that
are downloaded. Training replaces these files, in the same folder and under the same names, which is what they are for.
So another hash is no error, and a damaged file is found by its checksums (`checkpoints.checked_archive`): what is left
is to say in the log which of both was read, so that nobody takes the one for the other.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


def compare_with_release(path: str | os.PathLike[str]) -> bool | None:
    """Say in the log whether a file of weights is the one that the bundle around it was released with.

    Args:
        path: the file, in the folder `models` of a bundle; elsewhere nothing is said.

    Returns:
        Whether it is; None if no bundle names a hash for it.
    """
    path = Path(path).absolute()
    expected = _released_hashes(path.parent.parent).get(path.name) if path.parent.name == "models" else None
    if expected is None:
        return None
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found == expected:
        logger.info(f"{path}: is the file that this bundle was released with (SHA-256 {found[:8]}...).")
        return True
    logger.info(
        f"{path}: is not the file that this bundle was released with (SHA-256 {found[:8]}..., released "
        f"{expected[:8]}...): results are those of the weights that were trained in its place."
    )
    return False


def _released_hashes(bundle: Path) -> dict[str, str]:
    """Return the SHA-256 that a bundle names for the files of its folder `models`."""
    listed = _read(bundle / "large_files.json").get("large_files")
    hashes = {
        Path(file["path"]).name: file["hash_val"]
        for file in (listed if isinstance(listed, list) else [])
        if isinstance(file, dict) and file.get("hash_type") == "sha256" and {"path", "hash_val"} <= set(file)
    }
    weights = _read(bundle / "configs" / "metadata.json").get("weights")
    for name, entry in (weights if isinstance(weights, dict) else {}).items():
        if isinstance(entry, dict) and "sha256" in entry:
            hashes[name] = entry["sha256"]
    return hashes


def _read(path: Path) -> dict[str, Any]:
    """Return a JSON object, empty if there is none: what is wrong with a bundle's own files is not said here."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
