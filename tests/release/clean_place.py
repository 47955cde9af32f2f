"""Run by `test_clean_place` inside an unpacked bundle: everything that a user does there. Writes findings as JSON.

It imports nothing of the repository, which it must not be able to see.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from monai.bundle import ConfigParser, ckpt_export, load, onnx_export, run, verify_metadata, verify_net_in_out


def main(settings):
    found = {"visible": [name for name in ("common", "experiments") if importlib.util.find_spec(name)]}
    for config, overrides in settings["runs"].items():
        run(run_id="run", config_file=f"configs/{config}.json", **overrides)
    meta, config = "configs/metadata.json", "configs/inference.json"
    if settings["schema"]:
        verify_metadata(meta_file=meta, filepath=settings["schema"])
    verify_net_in_out("network_def", meta_file=meta, config_file=config, device="cpu", n=2)
    network = load("bundle_acdc", bundle_dir="..", device="cpu").eval()
    weights = torch.load("models/model.pt", weights_only=True)
    found["loaded"] = all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    found["module"] = type(network).__module__

    files = {"ckpt_file": "models/model.pt", "meta_file": meta, "config_file": config}
    ckpt_export("network_def", filepath="models/model.ts", **files)
    names = {"image": {0: "n", 2: "h", 3: "w"}, "pred": {0: "n", 2: "h", 3: "w"}}
    kwargs = {"input_names": ["image"], "output_names": ["pred"], "dynamic_axes": names}
    onnx_export(
        "network_def", filepath="models/model.onnx", input_shape=[2, 1, 64, 96], converter_kwargs=kwargs, **files
    )
    parser = ConfigParser()
    parser.read_config(config)
    volume = parser.get_parsed_content("preprocessing")({"image": settings["volume"]})["image"]
    stack = volume.as_tensor().permute(3, 0, 1, 2).contiguous()  # (1, H, W, slices) to (slices, 1, H, W)
    with torch.no_grad():
        logits = network(stack)
        scripted = torch.jit.load("models/model.ts")(stack)
    session = onnxruntime.InferenceSession("models/model.onnx", providers=["CPUExecutionProvider"])
    (pred,) = session.run(["pred"], {"image": stack.numpy()})
    found["stack"] = list(stack.shape)
    found["labels"] = np.unique(logits.argmax(1)).tolist()
    best = logits.topk(2, dim=1).values
    margin = best[:, 0] - best[:, 1]
    for name, other in (("torchscript", scripted), ("onnx", torch.from_numpy(pred))):
        differ = other.argmax(1) != logits.argmax(1)
        found[name] = {
            "labels that differ": int(differ.sum()),
            "margin there": float(margin[differ].max()) if differ.any() else 0.0,
            "largest difference": float((other - logits).abs().max()),
        }
    return found


if __name__ == "__main__":
    outcome = main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    Path(sys.argv[2]).write_text(json.dumps(outcome), encoding="utf-8")
