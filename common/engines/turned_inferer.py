"""Prediction from a volume's slices, and from the same slices turned."""

from __future__ import annotations

from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor


class TurnedInferer(Inferer):
    """Run another inferer on the slices as they are and turned by 90, 180 and 270 degrees.

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
        """Return logits and turned predictions of a volume (1, 1, H, W, D).

        Slices that are not square are turned by 180 degrees only, since networks want the size that they know.

        Returns:
            (1, K + T K, H, W, D) of K classes and T turns: the logits of the slices as they are, then the probabilities
            of each turn, the first of which is none.
        """
        turns = range(4) if inputs.shape[2] == inputs.shape[3] else range(0, 4, 2)
        outputs = [self.inferer(torch.rot90(inputs, turn, (2, 3)), network, *args, **kwargs) for turn in turns]
        turned = [torch.rot90(own.softmax(dim=1), -turn, (2, 3)) for own, turn in zip(outputs, turns, strict=True)]
        return torch.cat([outputs[0], *turned], dim=1)
