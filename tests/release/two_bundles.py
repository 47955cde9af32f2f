"""Run by `test_two_bundles`: loads bundles one after the other in one process. Writes where their code was taken from.

It imports nothing of the repository, which it must not be able to see.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import torch
from monai.bundle import ConfigParser, load


def plainly(root, overrides):
    """As a user of MONAI does: the folder stays on the path, modules stay where they are."""
    sys.path.insert(0, str(root))
    return load(root.name, bundle_dir=str(root.parent), device="cpu"), None


def as_monai_label(root, overrides):
    """As MONAI Label does: the folder is on the path only while objects are made, and `scripts` is forgotten before."""
    sys.path.insert(0, str(root))
    for name in [name for name in sys.modules if name.split(".")[0] == "scripts"]:
        del sys.modules[name]
    parser = ConfigParser()
    parser.read_config(str(root / "configs" / "inference.json"))
    parser.update(overrides)
    made = parser.get_parsed_content("network_def"), parser.get_parsed_content("preprocessing")
    sys.path.remove(str(root))
    return made


def main(settings):
    way = {"plainly": plainly, "as MONAI Label": as_monai_label}[settings["way"]]
    roots = [Path(root) for root in settings["roots"]]
    made = [way(root, settings["preprocessing"]) for root in (*roots, *roots)]
    found = []
    for network, preprocessing in made:  # when all are there: none is disturbed by those after it
        code = sys.modules.get(type(network).__module__)
        with torch.no_grad():
            found.append(
                {
                    "file": sys.modules[type(network).__module__].__file__ if code else None,
                    "module": type(network).__module__,
                    "mark": type(network).forward.__globals__.get("MARK"),
                    "output": list(network.eval()(torch.zeros(1, 1, 32, 32)).shape),
                    "preprocessed": list(preprocessing({"image": settings["image"]})["image"].shape)
                    if preprocessing
                    else None,
                }
            )
    if settings["other"]:  # a bundle of the model zoo, whose `scripts` is nothing but its own code
        sys.path.insert(0, settings["other"])
        found.append(importlib.import_module("scripts.losses").MARK)
    return found


if __name__ == "__main__":
    outcome = main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    Path(sys.argv[2]).write_text(json.dumps(outcome), encoding="utf-8")
