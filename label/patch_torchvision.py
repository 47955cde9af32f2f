"""Make the torchvision of PyPI, which is built for CUDA, importable beside a PyTorch for CPUs only.

Its compiled operators cannot be loaded there, and importing it fails since it describes two of them to PyTorch all the
same. MONAI Label wants nothing but `torchvision.utils`; so these two are declared, without being there. Beside a
PyTorch for CUDA the operators load and the declaration is skipped.

Run it with the Python of the environment: the file that is changed is in there.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

BEHIND = "import torchvision.extension  # noqa: F401\n"
DECLARATION = """
if not torchvision.extension._has_ops():
    _declared = torch.library.Library("torchvision", "DEF")
    for _name in ("nms", "qnms"):
        _declared.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


def main() -> None:
    """Insert the declaration, unless it is there."""
    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None:
        sys.exit("torchvision is not installed beside this Python: run install.sh.")
    path = Path(found.origin).with_name("_meta_registrations.py")
    source = path.read_text(encoding="utf-8")
    if DECLARATION in source:
        return
    if source.count(BEHIND) != 1:
        sys.exit(f"{path}: is not that of torchvision 0.28.0; install the version that install.sh names.")
    path.write_text(source.replace(BEHIND, BEHIND + DECLARATION), encoding="utf-8")


if __name__ == "__main__":
    main()
