"""One channel of an image that has several."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from .volume import VolumeError, listed, volume_name


class SelectChanneld(MapTransform):
    """Take one channel of an image that has several, such as one sequence of a multi-parametric examination.

    An image of one channel, that is a 3-D file, is taken as it is for channel 0.

    Args:
        keys: keys of the images, (C, X, Y, Z).
        channel: index of the channel, from 0.

    Raises:
        ValueError: if `channel` is negative.
        VolumeError: if an image has no such channel.
    """

    def __init__(self, keys: KeysCollection, channel: int) -> None:
        super().__init__(keys)
        if channel < 0:
            raise ValueError(f"channel must be an index from 0, got {channel!r}.")
        self.channel = int(channel)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with images of one channel, (1, X, Y, Z)."""
        d = dict(data)
        for key in self.key_iterator(d):
            image = d[key]
            if self.channel >= image.shape[0]:
                raise VolumeError(
                    f"{volume_name(image)} must have the channel {self.channel}, counted from 0, but its channels are "
                    f"{', '.join(map(str, range(image.shape[0])))} ({listed(image.shape[1:])} voxels each). Set "
                    "channel to the one that is wanted, or replace the file by one that has it."
                )
            if image.shape[0] > 1:
                # A copy, so that the other channels do not stay in memory.
                d[key] = image[self.channel : self.channel + 1].clone()
        return d
