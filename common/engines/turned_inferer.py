"""Prediction from a volume's slices, and from the same slices turned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor

HALF_TURN = (0, 2)
"""As the slices are, and turned by 180 degrees, which also fits slices that are not square."""


class TurnedInferer(Inferer):
    """Run another inferer on the slices as they are and turned.

    It takes as many times as long as there are turns. The network must have been trained on turned images, as by the
    strong augmentation.

    MONAI's `TestTimeAugmentation` does not serve: it draws its transforms at random, for one image at a time, and puts
    a data loader around it.

    Args:
        inferer: runs a network on a volume.
        turns: T different numbers of quarter turns, the first of which is 0. Odd ones need square slices.
    """

    def __init__(self, inferer: Inferer, turns: Sequence[int] = HALF_TURN) -> None:
        super().__init__()
        self.inferer = inferer
        self.turns = turns

    def __call__(self, inputs: Tensor, network: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Return logits and turned predictions of a volume (1, 1, H, W, D).

        Returns:
            (1, K + T K, H, W, D) of K classes: the logits of the slices as they are, then the probabilities of each
            turn.
        """
        outputs = [self.inferer(torch.rot90(inputs, turn, (2, 3)), network, *args, **kwargs) for turn in self.turns]
        pairs = zip(outputs, self.turns, strict=True)
        return torch.cat([outputs[0], *(torch.rot90(own.softmax(dim=1), -turn, (2, 3)) for own, turn in pairs)], dim=1)
