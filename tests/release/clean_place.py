"""Run by `test_clean_place` inside an unpacked bundle: what a user does there with MONAI. Writes findings as JSON.

It imports nothing of the repository, which it must not be able to see.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import torch
from monai.bundle import load, run, verify_net_in_out

META, CONFIG, MODEL = "configs/metadata.json", "configs/inference.json", Path("models/model.pt")


def main(settings):
    hidden = ("common", "experiments", "release", "pytest", "onnx", "jsonschema")
    found = {"visible": [name for name in hidden if importlib.util.find_spec(name)]}
    verify_net_in_out("network_def", meta_file=META, config_file=CONFIG, device="cpu", n=2)
    for path in MODEL.parent.glob("*.pt"):
        path.unlink()  # so that those found below were written here
    for config, overrides in settings["runs"].items():
        run(run_id="run", config_file=f"configs/{config}.json", **overrides)
    found["written"] = sorted(path.name for path in MODEL.parent.glob("*.pt"))
    network = load(Path.cwd().name, bundle_dir="..", device="cpu")
    weights = torch.load(MODEL, weights_only=True)
    found["loaded"] = all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    found["module"] = type(network).__module__
    return found


if __name__ == "__main__":
    outcome = main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    Path(sys.argv[2]).write_text(json.dumps(outcome), encoding="utf-8")
