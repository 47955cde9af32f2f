"""Mixed precision for every engine: bfloat16 where the device computes in it, float32 elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.inferers import Inferer, SimpleInferer, SliceInferer
from torch import Tensor

from ..transforms.eight_bit import unit_range
from .turned_inferer import TurnedInferer

PRECISIONS = ("auto", "bfloat16", "float32")
_SLICES_AT_ONCE = 20


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """Turn a precision's name into a type.

    Args:
        precision: "float32", "bfloat16", or "auto": bfloat16 if the device has instructions for it.
        device: where the network runs.

    Raises:
        ValueError: if the name is unknown.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {PRECISIONS}, got {precision!r}.")
    if precision == "auto":
        if device.type == "cuda":
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        precision = "bfloat16" if native else "float32"
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


class AutocastInferer(Inferer):
    """Run another inferer under autocast and return float32.

    MONAI's engines autocast on CUDA only; this serves the CPU too, in training and in evaluation.

    Args:
        inferer: what is run; MONAI's `SimpleInferer` by default.
        precision: see `resolve_precision`.

    Raises:
        ValueError: if the precision is unknown.
    """

    def __init__(self, inferer: Inferer | None = None, precision: str = "auto") -> None:
        super().__init__()
        resolve_precision(precision, torch.device("cpu"))
        self.inferer = SimpleInferer() if inferer is None else inferer
        self.precision = precision

    def __call__(self, inputs: Any, network: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the inferer's output for `inputs` as float32; both are a tensor or a tuple of tensors.

        A tensor of 8 bits is taken as one of values from 0 to 1, see `unit_range`.
        """
        inputs = unit_range(inputs) if isinstance(inputs, Tensor) else inputs
        device = (inputs if isinstance(inputs, Tensor) else inputs[0]).device
        dtype = resolve_precision(self.precision, device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            outputs = self.inferer(inputs, network, *args, **kwargs)
        return outputs.float() if isinstance(outputs, Tensor) else tuple(output.float() for output in outputs)


def slice_inferer(
    image_size: Sequence[int], precision: str = "auto", turned: bool = False
) -> AutocastInferer | TurnedInferer:
    """Make the inferer that runs a network on a volume (1, 1, H, W, D) slice by slice.

    Args:
        image_size: (H, W) in pixels.
        precision: see `resolve_precision`.
        turned: also on turned slices, see `TurnedInferer`.

    Raises:
        ValueError: if the precision is unknown.
    """
    slices = SliceInferer(roi_size=image_size, sw_batch_size=_SLICES_AT_ONCE, spatial_dim=2)
    inferer = AutocastInferer(slices, precision)
    return TurnedInferer(inferer) if turned else inferer
