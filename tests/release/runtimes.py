"""Run by `test_clean_place` inside an unpacked bundle: compares other runtimes to its network on a volume's slices.

It imports nothing of the repository, which it must not be able to see. What it exports is what the documents' commands
export. Writes findings as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from monai.bundle import ConfigParser, ckpt_export, load, onnx_export
from monai.utils import optional_import

openvino, has_openvino = optional_import("openvino")

CONFIG = "configs/inference.json"


def main(volume):
    released = Path("models/model.ts")
    scripted = {"released": torch.jit.load(str(released))} if released.is_file() else {}
    ckpt_export(config_file=CONFIG)
    onnx_export(args_file="configs/onnx_export.json")
    scripted["torchscript"] = torch.jit.load("models/model.ts")
    parser = ConfigParser()
    parser.read_config(CONFIG)
    image = parser.get_parsed_content("preprocessing")({"image": volume})["image"]
    stack = image.as_tensor().permute(3, 0, 1, 2).contiguous()  # (C, H, W, slices) to (slices, C, H, W)
    if stack.dtype == torch.uint8:  # a photograph
        stack = stack / 255
    network = load(Path.cwd().name, bundle_dir="..", device="cpu").eval()
    session = onnxruntime.InferenceSession("models/model.onnx", providers=["CPUExecutionProvider"])
    found = {"sizes": [[d.dim_value for d in onnx_shape(name)] for name in ("input", "output")]}
    runtimes = {
        **{name: lambda images, own=module: own(images) for name, module in scripted.items()},
        "onnx": lambda images: torch.from_numpy(session.run(["pred"], {"image": images.numpy()})[0]),
    }
    if has_openvino:
        compiled = openvino.Core().compile_model("models/model.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        runtimes["openvino"] = lambda images: torch.from_numpy(compiled({"image": images.numpy()})["pred"].copy())
    inputs = {"volume": stack, "one slice": stack[:1], "another size": stack[:3, :, :64, :96].contiguous()}
    with torch.no_grad():
        expected = {name: network(images) for name, images in inputs.items()}
        for runtime, function in runtimes.items():
            found[runtime] = {name: compare(function(images), expected[name]) for name, images in inputs.items()}
    return {**found, "stack": list(stack.shape), "labels": np.unique(expected["volume"].argmax(1)).tolist()}


def onnx_shape(kind):
    (value,) = getattr(onnx.load("models/model.onnx").graph, kind)
    return value.type.tensor_type.shape.dim


def compare(other, logits):
    return {
        "labels that differ": int((other.argmax(1) != logits.argmax(1)).sum()),
        "largest difference": float((other - logits).abs().max() / logits.abs().max()),
    }


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(main(sys.argv[1])), encoding="utf-8")
