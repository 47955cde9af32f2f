"""The device that was asked for, or a message that says which there are."""

from __future__ import annotations

import torch


def default_device() -> torch.device:
    """Return the GPU of this machine, the CPU where there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_device(device: torch.device | str) -> torch.device:
    """Return the device if this machine has it.

    Args:
        device: a device or its name, such as "cpu", "cuda" (any GPU) or "cuda:1" (the second one).

    Raises:
        ValueError: if there is no such device.
    """
    accelerator = torch.accelerator.current_accelerator()
    count = torch.accelerator.device_count()  # 0 where torch could use one but there is none
    available = ["cpu"] + [f"{accelerator.type}:{index}" for index in range(count) if accelerator is not None]
    try:
        found = torch.device(device)
    except RuntimeError:  # no device of any machine
        pass
    else:
        if found.type == "cpu" or f"{found.type}:{found.index or 0}" in available:
            return found
    raise ValueError(
        f"device must be one of {', '.join(available)} on this machine, got {str(device)!r}: choose one of them. "
        "A GPU that is missing here needs its driver, a torch that was built for it, and to be visible "
        "(CUDA_VISIBLE_DEVICES)."
    )
