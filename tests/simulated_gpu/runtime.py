"""Build `runtime.cpp` and load it, which must come before torch is imported: torch looks once for CUDA."""

from __future__ import annotations

import ctypes
import importlib.util
import runpy
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_COMPILER = shutil.which("c++")
_SPEC = importlib.util.find_spec("torch")


def what_is_missing() -> str:
    """Say what this machine lacks for the simulation; empty if nothing."""
    if sys.platform != "linux":
        return "Linux"
    if _COMPILER is None:
        return "a C++ compiler: c++ on the path"
    version = runpy.run_path(str(_torch() / "version.py"))
    return "a PyTorch built without CUDA" if version.get("cuda") or version.get("hip") else ""


def load() -> None:
    """Build and load the library.

    Raises:
        RuntimeError: if something is missing, or torch was imported before.
        subprocess.CalledProcessError: if the library cannot be compiled.
    """
    if missing := what_is_missing():
        raise RuntimeError(f"the simulated GPU needs {missing}.")
    if "torch" in sys.modules:
        raise RuntimeError(
            "the simulated GPU must be loaded before torch is imported: start pytest with "
            "-p tests.simulated_gpu.plugin."
        )
    assert _COMPILER is not None
    torch = _torch()
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "runtime.so")
        links = [f"-L{torch / 'lib'}", "-lc10", "-ltorch_cpu"]
        options = ["-std=c++20", "-O0", "-shared", "-fPIC", f"-I{torch / 'include'}", "-o", str(library), *links]
        subprocess.run([_COMPILER, str(Path(__file__).with_suffix(".cpp")), *options], check=True)
        for name in ("libc10.so", "libtorch_cpu.so"):
            ctypes.CDLL(str(torch / "lib" / name), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(library))


def _torch() -> Path:
    assert _SPEC is not None and _SPEC.origin is not None
    return Path(_SPEC.origin).parent
