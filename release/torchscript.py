"""The network as TorchScript, for tools that take one file: `models/model.ts`, with the bundle's configs in it.

It is what `python -m monai.bundle ckpt_export` writes, but for what depends on where and when it is written.
"""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path

import torch

from bundles.run import load_config
from common.checkpoints import content_hash, load_model

from .archive import write_zip
from .source import MODEL, Bundle

TORCHSCRIPT = "model.ts"

_CONFIGS = ("metadata.json", "inference.json")
# Where the lines of code were when it was compiled, and a number that depends on that.
_OF_THE_PLACE = (".debug_pkl", ".data/serialization_id")


def write_torchscript(bundle: Bundle, folder: Path) -> str:
    """Write the network of a bundle with the weights of `model.pt`.

    The top folder in the archive is called like the file, and `extra` in it has the configs, as MONAI Deploy needs it.

    Args:
        bundle: that is released.
        folder: of the copy that is given away, whose configs are as they will be.

    Returns:
        The SHA-256 of the file.
    """
    network = load_config(bundle.folder, "train").get_parsed_content("network_def")
    network = load_model(network, bundle.folder / "models" / MODEL).eval()
    configs = {name: (folder / "configs" / name).read_text(encoding="utf-8") for name in _CONFIGS}
    target = folder / "models" / TORCHSCRIPT
    with tempfile.TemporaryDirectory() as temporary:
        written, unpacked = Path(temporary, TORCHSCRIPT), Path(temporary, "unpacked")
        torch.jit.save(torch.jit.script(network), str(written), _extra_files=configs)
        with zipfile.ZipFile(written) as archive:
            kept = [name for name in archive.namelist() if not name.endswith(_OF_THE_PLACE)]
            archive.extractall(unpacked, kept)
        write_zip(unpacked / target.stem, target)
    sha256 = content_hash(target)
    assert sha256 is not None
    return sha256
