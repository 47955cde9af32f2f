"""What a training step makes of the slices it drew: contrastive views, or augmented slices with soft labels.

All of it acts on a whole batch on the device it lies on.

Letters: B drawn slices, N = B times the number of views, C channels, K classes, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..strategies import DenseStrategy, Layout, find_strategy
from .colour_views import RandomColour
from .dense_views import DenseViews
from .intensity_views import RandomFineTuningIntensity, RandomIntensity, RandomStrongIntensity
from .mixup import Mixup
from .spatial_views import (
    RandomCropResize,
    RandomElastic,
    RandomFineElastic,
    RandomLabelledZoom,
    RandomSpatial,
    RandomStrongSpatial,
    RandomZoom,
)

Augmentation = Callable[[Tensor, torch.Generator], Tensor]
_Spatial = RandomSpatial | RandomStrongSpatial | RandomLabelledZoom
"""Maps images (B, C, H, W) float32 and a CPU generator to augmented images of the same shape."""


class Augmentations:
    """Several augmentations, one after another.

    Args:
        augmentations: applied in this order, e.g. ``[RandomCropResize(), RandomIntensity()]`` for the global stage.
    """

    def __init__(self, augmentations: Sequence[Augmentation]) -> None:
        self.augmentations = augmentations

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return images (B, C, H, W) after all augmentations."""
        for augmentation in self.augmentations:
            images = augmentation(images, generator)
        return images


class ContrastiveViews:
    """Makes the views of one contrastive batch.

    First come those that are the slice itself, if the strategy has such, untouched and without the clipping of the
    augmented ones; then the augmented ones.

    Args:
        strategy: a name in `STRATEGIES`.
        augmentation: makes one view of a whole batch; called once per augmented view.

    Raises:
        ValueError: the strategy is unknown.
    """

    def __init__(self, strategy: str, augmentation: Augmentation) -> None:
        self.strategy = find_strategy(strategy)
        self.augmentation = augmentation

    def __call__(self, images: Tensor, labels: Tensor | None, generator: torch.Generator) -> tuple[Tensor, None]:
        """Return all views of the drawn slices, view after view, as `Layout` has them.

        Args:
            images: (B, C, H, W) float32, the drawn slices.
            labels: ignored.
            generator: on the CPU.

        Returns:
            Images (N, C, H, W): all slices of view 0, then all of view 1, and so on; and no targets.
        """
        views = [images] * self.strategy.num_originals
        views += [self.augmentation(images, generator) for _ in range(self.strategy.num_augmented)]
        return torch.cat(views), None


def global_views(strategy: str, crop_size: int, crop_start: Sequence[int]) -> ContrastiveViews:
    """Make the views of the global stage: random crops, resized, with random intensities (paper, section 3.1).

    Args:
        strategy: a name in `STRATEGIES`.
        crop_size: see `RandomCropResize`.
        crop_start: see `RandomCropResize`.

    Raises:
        ValueError: an argument is out of its range.
    """
    return ContrastiveViews(strategy, Augmentations([RandomCropResize(crop_size, crop_start), RandomIntensity()]))


def local_views(layout: Layout, num_pixels: int = 1000) -> ContrastiveViews | DenseViews:
    """Make the views of the local stage by the kind of its strategy.

    For regions: random intensities, no change of place (paper, section 3.2). For a dense strategy: see `DenseViews`.

    Args:
        layout: of the batches.
        num_pixels: see `DenseViews`; strategies of regions do not use it.

    Raises:
        ValueError: see `DenseViews`.
    """
    if isinstance(layout.strategy, DenseStrategy):
        return DenseViews(layout, num_pixels)
    return ContrastiveViews(layout.strategy.name, RandomIntensity())


def global_photograph_views(strategy: str, crop_share: Sequence[float]) -> ContrastiveViews:
    """Make the views of the global stage of photographs: random crops, resized, with random colours.

    Args:
        strategy: a name in `STRATEGIES`.
        crop_share: see `RandomZoom`.

    Raises:
        ValueError: an argument is out of its range.
    """
    return ContrastiveViews(strategy, Augmentations([RandomZoom(crop_share), RandomColour()]))


def local_photograph_views(layout: Layout) -> ContrastiveViews:
    """Make the views of the local stage of photographs: random colours, no change of place.

    Args:
        layout: of the batches.

    Raises:
        ValueError: the strategy is a dense one, whose views are turned.
    """
    name = layout.strategy.name
    if isinstance(layout.strategy, DenseStrategy):
        raise ValueError(
            f"strategy must be LR for photographs, got {name!r}, whose views are turned, as photographs never are; "
            "choose LR"
        )
    return ContrastiveViews(name, RandomColour())


class FineTuningViews:
    """Augments a labelled batch for fine-tuning and turns its label maps into class probabilities.

    First the spatial augmentation, then on top of it the elastic one, then the intensity augmentation, last Mixup. The
    defaults are the paper's; with None for all four, the images come back as they are, with one-hot labels.

    Args:
        num_classes: number of classes including the background.
        spatial: affine augmentation of images and label maps, or None.
        elastic: deformation of images and one-hot labels, or None.
        intensity: augmentation of the images alone, e.g. ``RandomFineTuningIntensity()``, or None.
        mixup: mixes the images of the augmented batch and their soft labels, or None.

    Raises:
        ValueError: ``num_classes`` is less than 2.
    """

    def __init__(
        self,
        num_classes: int,
        spatial: _Spatial | None = RandomSpatial(),  # noqa: B008, it has no state
        elastic: RandomElastic | RandomFineElastic | None = RandomElastic(),  # noqa: B008, it has no state
        intensity: Augmentation | None = None,
        mixup: Mixup | None = None,
    ) -> None:
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, background included, got {num_classes!r}")
        self.num_classes = num_classes
        self.spatial = spatial
        self.elastic = elastic
        self.intensity = intensity
        self.mixup = mixup

    def __call__(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return an augmented batch.

        Args:
            images: (B, C, H, W) float32.
            labels: (B, H, W) uint8, values 0 to K - 1.
            generator: on the CPU.

        Returns:
            Images (B, C, H, W) float32 and labels (B, K, H, W) float32 that sum to 1 over K.

        Raises:
            ValueError: images and labels differ in number or size, or the elastic deformation gets fewer than 3 images.
        """
        num_images, _, height, width = images.shape
        if labels.shape != (num_images, height, width):
            raise ValueError(
                f"labels must be of shape {(num_images, height, width)} to fit the images, got {tuple(labels.shape)}"
            )
        if self.spatial is not None:
            images, labels = self.spatial(images, labels, generator)
        # scatter_ refuses a label that is not a class; comparing with the classes would drop it in silence.
        probabilities = images.new_zeros(num_images, self.num_classes, height, width)
        probabilities.scatter_(1, labels.long().unsqueeze(1), 1.0)
        if self.elastic is not None:
            images, probabilities = self.elastic(images, probabilities, generator)
        if self.intensity is not None:
            images = self.intensity(images, generator)
        if self.mixup is not None:
            images, probabilities = self.mixup(images, probabilities, generator)
        return images, probabilities


AUGMENTATIONS = ("none", "paper", "paper+intensity", "strong", "strong+elastic", "crop+colour")


def fine_tuning_views(num_classes: int, augmentation: str = "paper", mixup_alpha: float = 0.0) -> FineTuningViews:
    """Make the views of fine-tuning by name.

    Args:
        num_classes: number of classes including the background.
        augmentation: "none"; "paper" (affine and elastic); "paper+intensity" (also brightness and contrast, which the
            authors' program has and never reaches); "strong" (wider affine, elastic, and intensities as in
            `RandomStrongIntensity`); "strong+elastic" (the same with `RandomFineElastic`); "crop+colour" (of
            photographs: `RandomLabelledZoom` and `RandomColour`, nothing is turned).
        mixup_alpha: of `Mixup`; 0 for none.

    Raises:
        ValueError: the augmentation is unknown, or ``mixup_alpha`` is negative.
    """
    if augmentation not in AUGMENTATIONS:
        raise ValueError(f"augmentation must be one of {', '.join(AUGMENTATIONS)}, got {augmentation!r}")
    mixup = Mixup(mixup_alpha) if mixup_alpha else None
    if augmentation == "crop+colour":
        return FineTuningViews(num_classes, RandomLabelledZoom(), elastic=None, intensity=RandomColour(), mixup=mixup)
    intensities: dict[str, Augmentation] = {
        "paper+intensity": RandomFineTuningIntensity(),
        "strong": RandomStrongIntensity(),
        "strong+elastic": RandomStrongIntensity(),
    }
    augmented, strong = augmentation != "none", augmentation.startswith("strong")
    elastic = RandomFineElastic() if augmentation == "strong+elastic" else RandomElastic()
    return FineTuningViews(
        num_classes,
        spatial=(RandomStrongSpatial() if strong else RandomSpatial()) if augmented else None,
        elastic=elastic if augmented else None,
        intensity=intensities.get(augmentation),
        mixup=mixup,
    )
