"""Build `runtime.cpp` and load it, which must come before torch is imported: torch looks once for CUDA."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

COMPILER = shutil.which("c++")


def load() -> None:
    """Build and load the library.

    Raises:
        RuntimeError: if torch was imported before, or there is no compiler.
    """
    if "torch" in sys.modules:
        raise RuntimeError("the simulated GPU must be loaded before torch is imported")
    if COMPILER is None:
        raise RuntimeError("the simulated GPU needs a C++ compiler, c++ on the path")
    spec = importlib.util.find_spec("torch")
    assert spec is not None and spec.origin is not None
    torch = Path(spec.origin).parent
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "runtime.so")
        links = [f"-L{torch / 'lib'}", "-lc10", "-ltorch_cpu"]
        options = ["-std=c++20", "-O0", "-shared", "-fPIC", f"-I{torch / 'include'}", "-o", str(library), *links]
        subprocess.run([COMPILER, str(Path(__file__).with_suffix(".cpp")), *options], check=True)
        for name in ("libc10.so", "libtorch_cpu.so"):
            ctypes.CDLL(str(torch / "lib" / name), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(library))
