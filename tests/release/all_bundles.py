"""Run by `test_two_bundles`: in one process, takes every name in the configs of the bundles in a folder, and a network.

It imports nothing of the repository, which it must not be able to see. Writes what it found as JSON.
"""

from __future__ import annotations

import json
import pydoc
import re
import sys
from pathlib import Path

from monai.bundle import verify_net_in_out

found = {}
for root in sorted(Path(sys.argv[1]).glob("bundle_*/")):
    sys.path.insert(0, str(root))
    configs = root / "configs"
    texts = [path.read_text(encoding="utf-8") for path in configs.glob("*.json")]
    names = {name for text in texts for name in re.findall(r"(?<![\w.])scripts\.[\w.]+", text)}
    missing = [name for name in sorted(names) if pydoc.locate(name) is None]
    for config in ("train", "inference"):
        files = {"meta_file": str(configs / "metadata.json"), "config_file": str(configs / f"{config}.json")}
        verify_net_in_out("network_def", device="cpu", **files)
    code = sys.modules[f"scripts.{root.name}.networks"].__file__
    found[root.name] = {"names": len(names), "missing": missing, "own": Path(code).is_relative_to(root)}
Path(sys.argv[2]).write_text(json.dumps(found), encoding="utf-8")
