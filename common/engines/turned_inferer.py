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
        keep_turns: also return what each turn gives by itself, see `ExpectedDiced`.
    """

    def __init__(self, inferer: Inferer, keep_turns: bool = False) -> None:
        super().__init__()
        self.inferer = inferer
        self.keep_turns = keep_turns

    def __call__(self, inputs: Tensor, network: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Return the logarithms of the mean probabilities, (1, K, H, W, D) of K classes, for a volume (1, 1, H, W, D).

        With `keep_turns` the probabilities of each of T turns are channels behind them, (1, K + T K, H, W, D).
        Slices that are not square are turned by 180 degrees only, since networks want the size that they know.
        """
        turns = range(4) if inputs.shape[2] == inputs.shape[3] else range(0, 4, 2)
        total: Any = 0.0
        single: list[Tensor] = []
        for turn in turns:
            logits = self.inferer(torch.rot90(inputs, turn, (2, 3)), network, *args, **kwargs)
            probabilities = torch.rot90(logits.softmax(dim=1), -turn, (2, 3))
            total = total + probabilities
            if self.keep_turns:
                single.append(probabilities)
        return torch.cat([(total / len(turns)).clamp_min(_LEAST).log(), *single], dim=1)
