"""How sure a network is of a segmentation: an entropy for each voxel, and how well the turns of its slices agree."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.transforms.utils import generate_spatial_bounding_box
from monai.utils import convert_to_dst_type
from torch import Tensor

from .label_maps import LargestComponents, most_probable

_LEAST = 1e-6  # a sum of probabilities that is not zero


class Uncertaintyd(MapTransform):
    """Add the entropy of probabilities.

    Args:
        keys: keys of the probabilities, (K, X, Y, Z) of K classes.
        name: key of the result.
    """

    def __init__(self, keys: KeysCollection, name: str = "uncertainty") -> None:
        super().__init__(keys)
        self.name = name

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with the entropy (1, X, Y, Z), from 0, sure, to 1, all classes alike.

        It is 0 where there are no probabilities: outside the window that the network sees.
        """
        d = dict(data)
        for key in self.key_iterator(d):
            values = torch.as_tensor(d[key]).as_subclass(Tensor).clamp(0, 1)
            total = values.sum(dim=0, keepdim=True)
            shares = torch.where(total > _LEAST, values / total.clamp_min(_LEAST), 0.0)  # resampling blurs the sum
            d[self.name] = torch.special.entr(shares).sum(dim=0, keepdim=True) / math.log(len(shares))
        return d


class ExpectedDiced(MapTransform):
    """Take the predictions of single turns off a network's output, and add how well they agree.

    If the truth differs from each of them as they differ from each other, the mean Dice of their pairs is what can be
    expected of any of them. That ranks segmentations better than the probabilities of the network do, which say what it
    believes and not how it errs.

    Args:
        keys: keys of outputs of a `TurnedInferer`, (K + T K, H, W, D) of K classes and T turns.
        num_classes: K.
        largest_component: keep of each structure of a turn the largest connected component only, as in the
            segmentation.
        name: key of the result.
        mean: key of the mean probabilities of the turns.
    """

    def __init__(
        self,
        keys: KeysCollection,
        num_classes: int,
        largest_component: bool = False,
        name: str = "expected_dice",
        mean: str = "mean_of_turns",
    ) -> None:
        super().__init__(keys)
        self.num_classes = num_classes
        self.name = name
        self.mean = mean
        self._clean = LargestComponents(num_classes) if largest_component else None

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with outputs (K, H, W, D), the expected Dice, float64 (K - 1,), and the mean (K, H, W, D).

        A structure that no turn has found has 0, as it would have if it is there in truth.
        """
        d = dict(data)
        for key in self.key_iterator(d):
            output = d[key]
            d[key] = output[: self.num_classes]
            turns = torch.as_tensor(output).as_subclass(Tensor)[self.num_classes :].unflatten(0, (-1, self.num_classes))
            d[self.name] = self._agreement(most_probable(turns, dim=1))
            d[self.mean] = convert_to_dst_type(turns.mean(dim=0), output)[0]  # with meta data for its way back
        return d

    def _agreement(self, maps: Tensor) -> Tensor:
        """Return the mean Dice of all pairs of label maps (T, 1, H, W, D) for each structure."""
        low, high = generate_spatial_bounding_box(maps.amax(dim=0))
        maps = maps[..., low[0] : high[0], low[1] : high[1], low[2] : high[2]]
        if self._clean is not None and maps.numel():
            maps = torch.stack([torch.as_tensor(self._clean(labels)).as_subclass(Tensor) for labels in maps])
        values = []
        first, second = torch.triu_indices(len(maps), len(maps), offset=1)
        for index in range(1, self.num_classes):
            masks = (maps == index).flatten(1).float()  # whole numbers below 2 ** 24 are exact
            shared = (masks @ masks.T).double()
            sizes = shared.diagonal()
            total = sizes[first] + sizes[second]
            dice = (2 * shared[first, second] / total)[total > 0]  # turns that both lack it say nothing
            values.append(dice.mean() if len(dice) else shared.new_zeros(()))
        return torch.stack(values)
