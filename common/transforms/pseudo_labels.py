"""Labels for unlabelled volumes from a trained network, for self-training.

Lee, "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural Networks", ICML workshop
2013; Bai et al., "Semi-supervised Learning for Network-Based Cardiac MR Image Segmentation", MICCAI 2017, the
self-training that Chaitanya et al. (NeurIPS 2020, arXiv 2006.10511, section 4) compare their method with.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.inferers import Inferer
from monai.transforms import KeepLargestConnectedComponent, MapTransform
from torch import Tensor, nn


class PredictLabeld(MapTransform):
    """Add the label map that a network predicts for a preprocessed volume.

    Each structure keeps its largest connected component only, since what else is predicted is nearly always wrong.

    Args:
        keys: of the preprocessed volume, (1, H, W, D) float32.
        network: maps slices (B, 1, H, W) to logits (B, K, H, W), K classes; set to evaluation mode.
        inferer: runs the network on a volume (1, 1, H, W, D), slice by slice.
        label_key: gets the prediction, (1, H, W, D) uint8, values 0 to K - 1.
    """

    def __init__(self, keys: KeysCollection, network: nn.Module, inferer: Inferer, label_key: str = "label") -> None:
        super().__init__(keys)
        self.network = network
        self.inferer = inferer
        self.label_key = label_key

    @torch.no_grad()
    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the items with the prediction among them."""
        result = dict(data)
        self.network.eval()
        device = next(self.network.parameters()).device
        for key in self.key_iterator(result):
            volume = torch.as_tensor(result[key]).as_subclass(Tensor).float()
            logits = self.inferer(volume[None].to(device), self.network)[0]
            labels = logits.argmax(dim=0, keepdim=True)
            keep = KeepLargestConnectedComponent(range(1, len(logits)), is_onehot=False, independent=True)
            result[self.label_key] = torch.as_tensor(keep(labels)).as_subclass(Tensor).to("cpu", torch.uint8)
        return result
