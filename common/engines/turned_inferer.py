"""Prediction from a volume's slices as they are and turned."""

from __future__ import annotations

from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor

TEST_TIME_AUGMENTATIONS = ("none", "turned")

_LEAST = 1e-12  # a probability that has a logarithm


class TurnedInferer(Inferer):
    """Run another inferer on the slices as they are and turned by 90, 180 and 270 degrees, and average.

    It takes four times as long. The network must have been trained on turned images, as by the strong augmentation.

    MONAI's `TestTimeAugmentation` does not serve: it draws its transforms at random, for one image at a time, and puts
    a data loader around it.

    Args:
        inferer: runs a network on a volume.
    """

    def __init__(self, inferer: Inferer) -> None:
        super().__init__()
        self.inferer = inferer

    def __call__(self, inputs: Tensor, network: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Return the logarithms of the mean probabilities, (1, K, H, W, D) of K classes, for a volume (1, 1, H, W, D).

        Slices that are not square are turned by 180 degrees only, since networks want the size that they know.
        """
        turns = range(4) if inputs.shape[2] == inputs.shape[3] else range(0, 4, 2)
        total: Any = 0.0
        for turn in turns:
            logits = self.inferer(torch.rot90(inputs, turn, (2, 3)), network, *args, **kwargs)
            total = total + torch.rot90(logits.softmax(dim=1), -turn, (2, 3))
        return (total / len(turns)).clamp_min(_LEAST).log()
