from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from common.transforms.intensity_views import RandomFineTuningIntensity, RandomIntensity
from common.transforms.mixup import Mixup
from common.transforms.spatial_views import RandomCropResize, RandomElastic, RandomSpatial
from common.transforms.views import Augmentations, ContrastiveViews, FineTuningViews

# strategy, original views, augmented views
STRATEGIES = [("GR", 0, 2), ("GD-", 1, 2), ("GD", 1, 1), ("LR", 0, 2), ("LD", 0, 2)]


def _adding(numbers: list[float]):
    """An augmentation that adds the next number to a whole batch at each call."""
    remaining = iter(numbers)
    return lambda images, generator: images + next(remaining)


# ----------------------------------------------------------------------------------------- contrastive views


@pytest.mark.parametrize(("strategy", "num_originals", "num_augmented"), STRATEGIES, ids=[row[0] for row in STRATEGIES])
def test_views_by_strategy(strategy, num_originals, num_augmented, generator) -> None:
    images = torch.rand(4, 1, 6, 6, generator=generator)
    numbers = [10.0 * (number + 1) for number in range(num_augmented)]
    views, targets = ContrastiveViews(strategy, _adding(numbers))(images, None, generator)
    expected = [images] * num_originals + [images + number for number in numbers]
    assert torch.equal(views, torch.cat(expected))
    assert targets is None


def test_the_original_is_not_clipped(generator) -> None:
    images = 5 * torch.randn(4, 1, 6, 6, generator=generator)
    views, _ = ContrastiveViews("GD", RandomIntensity())(images, None, generator)
    assert torch.equal(views[:4], images)
    assert views[4:].max() <= 1.5


def test_views_are_augmented_independently() -> None:
    images = torch.rand(4, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    augmentation = Augmentations([RandomCropResize(crop_size=12, start=(0, 12)), RandomIntensity()])
    make_views = ContrastiveViews("GR", augmentation)
    views, again, other = (make_views(images, None, torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(views, again)
    assert not torch.equal(views, other)
    assert not torch.equal(views[:4], views[4:])


def test_local_views_keep_every_position(generator) -> None:
    images = 0.4 + 0.1 * torch.rand(4, 1, 8, 8, generator=generator)
    views, _ = ContrastiveViews("LR", RandomIntensity(clip=None))(images, None, generator)
    order = images.flatten(1).argsort(dim=1)
    for view in views.chunk(2):
        assert (view.flatten(1).gather(1, order).diff(dim=1) > -1e-6).all()


def test_augmentations_are_applied_in_order(generator) -> None:
    augmentations = Augmentations([lambda images, _: images + 1, lambda images, _: images * 3])
    assert torch.equal(augmentations(torch.ones(2, 1, 2, 2), generator), torch.full((2, 1, 2, 2), 6.0))


def test_unknown_strategy() -> None:
    with pytest.raises(ValueError, match="strategy must be one of GR, GD-, GD, .*, got 'gd'; choose one"):
        ContrastiveViews("gd", RandomIntensity())


# ----------------------------------------------------------------------------------------- fine-tuning views


@pytest.fixture
def batch(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Ten images of large blobs in four grey levels, and the levels as labels."""
    coarse = torch.rand(10, 1, 5, 5, generator=generator)
    images = F.interpolate(coarse, size=(48, 48), mode="bicubic").clamp(0.0, 0.999)
    return images, (images[:, 0] * 4).to(torch.uint8)


def test_no_augmentation_gives_one_hot_labels(batch, generator) -> None:
    images, labels = batch
    views, soft = FineTuningViews(5, spatial=None, elastic=None)(images, labels, generator)
    assert torch.equal(views, images)
    assert torch.equal(soft, F.one_hot(labels.long(), 5).permute(0, 3, 1, 2).float())


def test_the_defaults_are_those_of_the_paper() -> None:
    views = FineTuningViews(4)
    assert isinstance(views.spatial, RandomSpatial)
    assert isinstance(views.elastic, RandomElastic)
    assert views.intensity is None and views.mixup is None


def test_augmented_batch_keeps_shapes_and_types_and_soft_labels_sum_to_one(batch, generator) -> None:
    images, labels = batch
    views, soft = FineTuningViews(4, intensity=RandomFineTuningIntensity())(images, labels, generator)
    assert views.shape == (10, 1, 48, 48) and views.dtype == torch.float32
    assert soft.shape == (10, 4, 48, 48) and soft.dtype == torch.float32
    torch.testing.assert_close(soft.sum(dim=1), torch.ones(10, 48, 48), atol=1e-6, rtol=0)
    assert not torch.equal(views, images)


def test_image_and_label_move_together(batch, generator) -> None:
    # Dark towards the border: an edge pixel where image and label differ would be drawn out by the deformation.
    window = torch.linspace(0, torch.pi, 48).sin()
    images = batch[0] * (1.5 * window * window[:, None])
    labels = (images[:, 0] > 0.5).byte()
    make_views = FineTuningViews(2)
    moved = 0.0
    for _ in range(5):
        views, soft = make_views(images, labels, generator)
        agreement = (views[:, 0] > 0.5) == (soft[:, 1] > 0.5)
        assert agreement.flatten(1).double().mean(dim=1).min() > 0.96
        moved += ((soft[:, 1] > 0.5) != labels).double().mean().item() / 5
    assert moved > 0.1


def test_spatial_then_elastic_then_intensity_then_mixup(generator) -> None:
    images = torch.full((4, 1, 8, 8), 2.0)
    labels = torch.zeros(4, 8, 8, dtype=torch.uint8)
    views, soft = FineTuningViews(
        3,
        spatial=lambda images, labels, _: (images + 1, labels + 1),
        elastic=lambda images, labels, _: (images * 5, labels / 2),
        intensity=lambda images, _: images - 7,
        mixup=lambda images, labels, _: (images / 4, labels / 2),
    )(images, labels, generator)
    assert torch.equal(views, torch.full((4, 1, 8, 8), 2.0))
    assert torch.equal(soft[:, 1], torch.full((4, 8, 8), 0.25)) and soft[:, [0, 2]].sum() == 0


def test_mixup_leaves_what_comes_before_it_alone(batch) -> None:
    """Without it a seed gives the batches that it always gave."""
    images, soft = FineTuningViews(4)(*batch, torch.Generator().manual_seed(0))
    kept = []

    def keep(*arguments):
        kept.extend(arguments[:2])
        return Mixup(1.0)(*arguments)

    mixed, mixed_soft = FineTuningViews(4, mixup=keep)(*batch, torch.Generator().manual_seed(0))
    assert torch.equal(kept[0], images) and torch.equal(kept[1], soft)
    assert not torch.equal(mixed, images)
    torch.testing.assert_close(mixed_soft.sum(dim=1), torch.ones(10, 48, 48), atol=1e-6, rtol=0)


def test_the_seed_decides(batch) -> None:
    first, again, other = (FineTuningViews(4)(*batch, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_the_arguments_are_left_alone(batch, generator) -> None:
    images, labels = batch[0].clone(), batch[1].clone()
    FineTuningViews(4, intensity=RandomFineTuningIntensity())(*batch, generator)
    assert torch.equal(images, batch[0]) and torch.equal(labels, batch[1])


def test_no_value_is_read_back_from_the_device(generator) -> None:
    # A meta tensor has no values: reading one, or mixing devices, is an error.
    images = torch.empty(4, 1, 24, 24, device="meta")
    labels = torch.empty(4, 24, 24, dtype=torch.uint8, device="meta")
    augmentation = Augmentations([RandomCropResize(crop_size=12, start=(0, 9)), RandomIntensity()])
    assert ContrastiveViews("GD-", augmentation)(images, None, generator)[0].shape == (12, 1, 24, 24)
    views, soft = FineTuningViews(4, intensity=RandomFineTuningIntensity(), mixup=Mixup())(images, labels, generator)
    assert views.shape == images.shape and soft.shape == (4, 4, 24, 24)


def test_a_label_that_is_not_a_class_is_refused(batch, generator) -> None:
    with pytest.raises(RuntimeError, match="index 3 is out of bounds"):
        FineTuningViews(3)(*batch, generator)


@pytest.mark.parametrize("shape", [(10, 1, 48, 48), (9, 48, 48), (10, 48, 47)], ids=["channel", "number", "size"])
def test_labels_that_do_not_fit_the_images(shape, batch, generator) -> None:
    with pytest.raises(ValueError, match=r"labels must be of shape \(10, 48, 48\) to fit the images, got"):
        FineTuningViews(4)(batch[0], torch.zeros(shape, dtype=torch.uint8), generator)


def test_too_few_classes() -> None:
    with pytest.raises(ValueError, match="num_classes must be at least 2, background included, got 1"):
        FineTuningViews(1)
