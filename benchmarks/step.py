"""A whole training step beside the network's forward, backward and optimiser alone, for each of the three stages."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from monai.losses import DiceLoss
from torch import Tensor, nn

from common.data.loader import BatchLoader
from common.data.samplers import UniformSampler, contrastive_sampler
from common.data.slices import Slices
from common.engines import AutocastInferer, StageTrainer, StopOnNaN
from common.losses import GlobalContrastiveLoss, LocalContrastiveLoss
from common.networks import GlobalPretrainingNet, LocalPretrainingNet, UNet2d
from common.transforms.intensity_views import RandomIntensity
from common.transforms.spatial_views import RandomCropResize, RandomElastic, RandomSpatial
from common.transforms.views import Augmentations, ContrastiveViews, FineTuningViews

SIDE, NUM_VOLUMES, DEPTH, NUM_CLASSES = 192, 52, 9, 4
STAGES = ("global", "local", "fine_tuning")


@dataclass
class Stage:
    """What a stage's trainer is made of."""

    network: nn.Module
    loader: BatchLoader
    loss: Callable[[Tensor, Any], Tensor]


def make_stage(name: str, batch_size: int, steps: int, device: torch.device) -> Stage:
    """Build a stage with its default options on random slices, as many as ACDC's pre-training set has."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(NUM_VOLUMES * DEPTH, 1, SIDE, SIDE, generator=generator)
    labels = torch.randint(NUM_CLASSES, (len(images), SIDE, SIDE), generator=generator, dtype=torch.uint8)
    starts = torch.arange(NUM_VOLUMES + 1) * DEPTH
    slices = Slices(images.to(device), labels.to(device) if name == "fine_tuning" else None, starts)
    unet = UNet2d(NUM_CLASSES)
    if name == "fine_tuning":
        views = FineTuningViews(NUM_CLASSES, RandomSpatial(), RandomElastic())
        loader = BatchLoader(slices, UniformSampler(slices, batch_size), views, steps)
        loss = DiceLoss(softmax=True, smooth_nr=0.0, smooth_dr=1e-10)
        return Stage(unet, loader, loss)
    if name == "global":
        strategy, augmentation = "GD", Augmentations([RandomCropResize(), RandomIntensity()])
        network: nn.Module = GlobalPretrainingNet(unet, (SIDE, SIDE))
        contrastive: nn.Module = GlobalContrastiveLoss(strategy)
    else:
        strategy, augmentation = "LR", RandomIntensity()
        network, contrastive = LocalPretrainingNet(unet), LocalContrastiveLoss(strategy)
    sampler = contrastive_sampler(strategy, slices, batch_size)
    loader = BatchLoader(slices, sampler, ContrastiveViews(strategy, augmentation), steps)
    return Stage(network, loader, contrastive)


def measure(name: str, batch_size: int = 40, steps: int = 3, repetitions: int = 5) -> dict[str, Any]:
    """Time blocks of steps, whole and network-only in turn, after one block of each for warming up.

    Returns:
        The ratio of the two (median, lowest and highest over blocks) and the peak memory in GiB, of the process or, on
        a GPU, of its tensors. Seconds only from a GPU: those of a shared CPU tell nothing about another one.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    stage = make_stage(name, batch_size, steps, device)
    network = stage.network.to(device, memory_format=torch.channels_last)
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=1e-3)
    inferer = AutocastInferer()
    trainer = StageTrainer(
        device=device,
        max_epochs=1,
        train_data_loader=stage.loader,
        network=network,
        optimizer=optimizer,
        loss_function=stage.loss,
        inferer=inferer,
        train_handlers=[StopOnNaN()],
    )
    images, _ = stage.loader.batch(0)
    gradient = torch.randn_like(inferer(images, network))

    def whole_steps() -> None:
        trainer.state.iteration = trainer.state.epoch = 0
        trainer.run()

    def network_alone() -> None:
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            inferer(images, network).backward(gradient)
            optimizer.step()

    seconds: dict[str, list[float]] = {"whole": [], "network": []}
    for repetition in range(repetitions + 1):
        for contender, block in (("whole", whole_steps), ("network", network_alone)):
            if device.type == "cuda":
                torch.cuda.synchronize()
            started = time.perf_counter()
            block()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if repetition > 0:
                seconds[contender].append((time.perf_counter() - started) / steps)
    ratios = [whole / network for whole, network in zip(seconds["whole"], seconds["network"], strict=True)]
    result = {
        "stage": name,
        "batch_size": batch_size,
        "device": f"CPU, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    if device.type == "cuda":
        result["device"] = torch.cuda.get_device_name()
        result["peak_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        result["seconds"] = {contender: statistics.median(values) for contender, values in seconds.items()}
    return result
