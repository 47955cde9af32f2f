"""The preprocessing of photographs in all stages, and the way back of a prediction; see `preprocessing` for volumes.

Chaitanya et al., NeurIPS 2020, arXiv 2006.10511, supplement, experiment on natural images: nothing but another size is
made of them.

Letters: H, W rows and columns of the file; h, w those that the network sees; K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from monai.transforms import Activationsd, Compose, Invertd, LoadImaged

from .data.cache import CachedTransformd
from .data.photographs import LabelMapReader, PhotographReader
from .transforms import MostProbabled
from .transforms.photographs import MatchLabelMapd, ResizePhotographd


class PhotographPipeline:
    """The preprocessing of photographs and label maps, and the way back of predictions.

    Photographs keep their 8 bits: whoever computes with them makes numbers from 0 to 1 of them, see `unit_range`.

    Args:
        image_size: (h, w) in pixels, multiples of 32.
        class_names: names by class index, the background's first.
        label_values: see `MatchLabelMapd`; None where label files have class indices.
    """

    def __init__(
        self,
        image_size: Sequence[int],
        class_names: Sequence[str],
        label_values: Sequence[int] | Mapping[Any, int] | None = None,
    ) -> None:
        self.image_size = image_size
        self.class_names = class_names
        self.label_values = label_values

    def image(self) -> Compose:
        """Make the preprocessing of a photograph.

        Returns:
            Invertible; maps {"image": path} to {"image": (3, h, w, 1) uint8}.
        """
        return Compose([_load("image", PhotographReader()), ResizePhotographd("image", self.image_size)])

    def image_and_label(self, image: CachedTransformd | Compose) -> Compose:
        """Make the preprocessing of a photograph and its label map, to train on.

        Args:
            image: what `image` made, cached or not.

        Returns:
            Maps {"image": path, "label": path} to (3, h, w, 1) and class indices (1, h, w, 1), both uint8.
        """
        stored = self.image_and_stored_label(image).transforms
        return Compose([*stored, ResizePhotographd("label", self.image_size, is_label=True)])

    def image_and_stored_label(self, image: CachedTransformd | Compose) -> Compose:
        """Make the preprocessing of a photograph whose label map stays as it is, to compare predictions with.

        Args:
            image: what `image` made, cached or not.

        Returns:
            Maps {"image": path, "label": path} to (3, h, w, 1) and class indices (1, H, W, 1), both uint8.
        """
        values = range(len(self.class_names)) if self.label_values is None else self.label_values
        return Compose([image, _load("label", LabelMapReader()), MatchLabelMapd("label", "image", values)])

    def inverse(self, image: Compose, largest_component: bool = False) -> Compose:
        """Make the way back of a prediction to the size of the file.

        Args:
            image: what `image` made.
            largest_component: must be False, since things on photographs are many.

        Returns:
            Maps the logits {"pred": (K, h, w, 1)} of a preprocessed {"image"} to class indices (1, H, W, 1) float32.

        Raises:
            ValueError: if `largest_component` is True.
        """
        if largest_component:
            raise ValueError(
                "largest_component must be false for photographs, which show several things of a class, got true."
            )
        key = "pred"
        return Compose(
            [
                Activationsd(key, softmax=True),
                Invertd(key, transform=image, orig_keys="image", nearest_interp=False),
                MostProbabled(key),
            ]
        )


def _load(key: str, reader: PhotographReader) -> LoadImaged:
    return LoadImaged(key, reader=reader, ensure_channel_first=True, dtype=np.uint8)
