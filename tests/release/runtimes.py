"""Run by `test_clean_place` inside an unpacked bundle: compares other runtimes to its network on a volume's slices.

It imports nothing of the repository, which it must not be able to see. Writes findings as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from monai.bundle import ConfigParser, ckpt_export, load, onnx_export

CONFIG = "configs/inference.json"


def main(volume):
    files = {"ckpt_file": "models/model.pt", "meta_file": "configs/metadata.json", "config_file": CONFIG}
    ckpt_export("network_def", filepath="models/model.ts", **files)
    parser = ConfigParser()
    parser.read_config(CONFIG)
    image = parser.get_parsed_content("preprocessing")({"image": volume})["image"]
    stack = image.as_tensor().permute(3, 0, 1, 2).contiguous()  # (C, H, W, slices) to (slices, C, H, W)
    if stack.dtype == torch.uint8:  # a photograph
        stack = stack / 255
    shape = [2, stack.shape[1], 64, 96]
    axes = {"image": {0: "n", 2: "h", 3: "w"}, "pred": {0: "n", 2: "h", 3: "w"}}
    options = {"input_names": ["image"], "output_names": ["pred"], "dynamic_axes": axes}
    onnx_export("network_def", filepath="models/model.onnx", input_shape=shape, converter_kwargs=options, **files)
    with torch.no_grad():
        logits = load(Path.cwd().name, bundle_dir="..", device="cpu").eval()(stack)
        scripted = torch.jit.load("models/model.ts")(stack)
    session = onnxruntime.InferenceSession("models/model.onnx", providers=["CPUExecutionProvider"])
    (pred,) = session.run(["pred"], {"image": stack.numpy()})
    found = {"stack": list(stack.shape), "labels": np.unique(logits.argmax(1)).tolist()}
    for name, other in (("torchscript", scripted), ("onnx", torch.from_numpy(pred))):
        found[name] = {
            "labels that differ": int((other.argmax(1) != logits.argmax(1)).sum()),
            "largest difference": float((other - logits).abs().max() / logits.abs().max()),
        }
    return found


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(main(sys.argv[1])), encoding="utf-8")
