"""All slices of a set of volumes as one tensor on the training device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor


class Slices:
    """The slices of V volumes, one volume after another.

    Args:
        images: float32 (M, 1, H, W), M slices in all.
        labels: uint8 (M, H, W) or None.
        starts: int64 (V + 1,) on the CPU; volume v holds the slices starts[v] to starts[v + 1] - 1, in the order of
            the volume's third axis.
        ids: V names of the volumes, for messages; their numbers by default.
    """

    def __init__(self, images: Tensor, labels: Tensor | None, starts: Tensor, ids: Sequence[str] | None = None) -> None:
        self.images = images
        self.labels = labels
        self.starts = starts
        self.ids = [f"volume {number}" for number in range(len(starts) - 1)] if ids is None else list(ids)

    @classmethod
    def from_volumes(cls, volumes: Iterable[dict[str, Any]], device: torch.device | str = "cpu") -> Slices:
        """Take volumes apart along their third axis.

        Args:
            volumes: dictionaries with "image" (1, H, W, D) and, in all of them or in none, "label" (1, H, W, D);
                also, where it is known, "id".
            device: where the slices are kept.

        Raises:
            ValueError: if there is no volume.
        """
        images: list[Tensor] = []
        labels: list[Tensor] = []
        ids: list[str] = []
        for volume in volumes:
            ids.append(str(volume.get("id", f"volume {len(ids)}")))
            images.append(torch.as_tensor(volume["image"]).permute(3, 0, 1, 2).float())
            if "label" in volume:
                labels.append(torch.as_tensor(volume["label"])[0].permute(2, 0, 1).to(torch.uint8))
        if not images:
            raise ValueError("volumes must hold at least one volume, got none: check the list of ids.")
        depths = torch.tensor([0, *(len(image) for image in images)])
        return cls(
            torch.cat(images).as_subclass(Tensor).to(device).contiguous(),
            torch.cat(labels).as_subclass(Tensor).to(device).contiguous() if labels else None,
            depths.cumsum(0),
            ids,
        )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def num_volumes(self) -> int:
        """V, the number of volumes."""
        return len(self.starts) - 1
