"""Unlabelled slices with label maps that a network predicts, replaced from time to time while they are drawn from.

Letters: V volumes, D slices of a volume, M slices in all, B slices of a batch, H rows, W columns.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .content import Content
from .slices import MappedSlices, Slices


class PseudoLabelled(Slices):
    """The slices of unlabelled volumes, with label maps once there are any.

    A volume among them whose image is that of a labelled one has its true label map, whatever is predicted; if some of
    its slices are not labelled, the others have.

    Args:
        slices: the slices; their own label maps are ignored. If they are not in memory, the label maps are in a
            temporary file.
        labelled: slices with true label maps.

    Attributes:
        labelled: see above.
        is_labelled: whether there are label maps.
    """

    def __init__(self, slices: Slices, labelled: Slices) -> None:
        super().__init__(slices.images, None, slices.starts, slices.ids, slices.content, slices.numbers)
        self.device = slices.device
        self.read_ahead = slices.read_ahead
        self.is_labelled = False
        self._slices = slices
        self.labelled = labelled
        self._true = _true_maps(slices, labelled)
        self._maps: Tensor | None = None  # (M, H, W) uint8
        self._compressed = torch.empty(0, dtype=torch.uint8)

    @property
    def num_predicted(self) -> int:
        """The number of volumes of which not all slices have true label maps."""
        return self.num_volumes - len(self._whole)

    @property
    def predicted_content(self) -> list[Content]:
        """What is in the files of the volumes of which not all slices have true label maps."""
        return [entry for number, entry in enumerate(self.content) if number not in self._whole]

    @property
    def _whole(self) -> set[int]:
        return {number for number, (places, _) in self._true.items() if len(places) == len(self.numbers[number])}

    @property
    def structures(self) -> list[int]:
        """The classes, but the background, that the true label maps have."""
        found = [] if self.labelled.labels is None else self.labelled.labels.unique().tolist()
        return [k for k in found if k > 0]

    def volume(self, number: int) -> Tensor:
        """Return the images (D, 1, H, W) of a volume, on the device."""
        first, last = self.starts[number : number + 2].tolist()
        return self._slices.take(torch.arange(first, last))[0]

    def maps(self, number: int) -> Tensor:
        """Return the label maps (D, H, W) uint8 of a volume."""
        first, last = self.starts[number : number + 2].tolist()
        return self._storage()[first:last]

    def put(self, maps: Sequence[Tensor]) -> None:
        """Replace the label maps.

        Args:
            maps: (D, H, W) uint8 of each volume.
        """
        compressor = zlib.compressobj(1)
        parts = []
        for number, predicted in enumerate(maps):
            own = self.maps(number)
            own.copy_(predicted)
            if number in self._true:
                places, true = self._true[number]
                own[places.to(own.device)] = true.to(own.device)
            parts.append(compressor.compress(own.cpu().contiguous().numpy().data))
        parts.append(compressor.flush())
        self._compressed = torch.frombuffer(bytearray(b"".join(parts)), dtype=torch.uint8)
        self.is_labelled = True

    def read(self, indices: Tensor) -> tuple[Tensor, Tensor | None]:
        """Get images to where they can be moved to the device from; instead of label maps, the indices.

        Label maps may have been replaced by the time that a batch which was read ahead is used: `to_device` takes
        those of then.
        """
        return self._slices.read(indices)[0], indices

    def to_device(self, images: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Move to the device what `read` returned, with the label maps (B, H, W)."""
        maps = self._storage()
        assert labels is not None
        return self._slices.to_device(images, maps[labels.to(maps.device, non_blocking=True)])

    def state_dict(self) -> dict[str, Tensor]:
        """Return the label maps, compressed."""
        return {"maps": self._compressed}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take the label maps of the same slices back."""
        self._compressed = state_dict["maps"]
        self.is_labelled = len(self._compressed) > 0
        if self.is_labelled:
            own = self._storage()
            values = bytearray(zlib.decompress(self._compressed.numpy().data))
            own.copy_(torch.frombuffer(values, dtype=torch.uint8).view(own.shape))

    def _storage(self) -> Tensor:
        if self._maps is None:
            shape = (len(self), *self.images.shape[-2:])
            if isinstance(self._slices, MappedSlices):
                with tempfile.NamedTemporaryFile() as file:  # its pages stay mapped when its name is gone
                    size = shape[0] * shape[1] * shape[2]
                    self._maps = torch.from_file(file.name, shared=True, size=size, dtype=torch.uint8).view(shape)
            else:
                self._maps = torch.zeros(shape, dtype=torch.uint8, device=self.device)
        return self._maps


def _true_maps(slices: Slices, labelled: Slices) -> dict[int, tuple[Tensor, Tensor]]:
    """Return for the volumes, by number, that are among the labelled ones which slices are labelled, and their maps."""
    if labelled.labels is None or any(len(these.content) != these.num_volumes for these in (slices, labelled)):
        return {}  # not all are from files
    known = {entry.image: number for number, entry in enumerate(labelled.content)}
    starts = labelled.starts.tolist()
    return {
        number: (labelled.numbers[same], labelled.labels[starts[same] : starts[same + 1]])
        for number, entry in enumerate(slices.content)
        if (same := known.get(entry.image)) is not None
    }
