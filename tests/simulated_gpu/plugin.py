"""Plugin of pytest: this process has one GPU, the simulated one."""

from __future__ import annotations

import threading
from typing import Any

from . import runtime

runtime.load()

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from .tensors import Generator, SimulatedDevice, Waiting  # noqa: E402


def install() -> None:
    """Let torch have the device, for the rest of the process."""
    # Else `.to("cuda")` of a module fails: the data of a parameter of the CPU cannot be replaced by that of a device.
    torch.__future__.set_swap_module_params_on_conversion(True)
    cuda: Any = torch.cuda
    answers = {"is_available": True, "is_initialized": True, "is_bf16_supported": True, "get_device_name": "simulated"}
    answers |= {"device_count": 1, "current_device": 0}
    nothing = ("synchronize", "empty_cache", "set_device", "manual_seed", "manual_seed_all", "_lazy_init")
    for name, answer in (answers | dict.fromkeys(nothing)).items():
        setattr(cuda, name, lambda *_, answer=answer, **__: answer)
    cuda.set_sync_debug_mode = lambda mode: setattr(Waiting, "is_error", mode in ("error", 2))
    cuda.get_sync_debug_mode = lambda: 2 * Waiting.is_error
    tensor_class: Any = Tensor
    tensor_class.pin_memory = _pin
    tensor_class.is_pinned = lambda tensor, *_: getattr(tensor, "was_pinned", False)
    torch_module: Any = torch
    torch_module.Generator = Generator
    SimulatedDevice().__enter__()
    run = threading.Thread.run

    def run_with_device(thread: threading.Thread) -> None:
        with SimulatedDevice():  # a mode is its thread's own
            run(thread)

    threading.Thread.run = run_with_device  # type: ignore[method-assign]


def _pin(tensor: Any, *_: Any) -> Any:
    """Return a copy that says it is pinned, which memory cannot be without CUDA."""
    pinned = tensor.clone()
    pinned.was_pinned = True
    return pinned


install()
