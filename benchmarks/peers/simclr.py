"""lightly's SimCLR on our slices and with our network: its transform of pictures of 8 bits, and its loss.

Both views of a picture are augmented, with the defaults of `SimCLRTransform`: crop, flip, brightness and contrast,
blur. What it does to colours does nothing to grey pictures, and there is no normalisation. As in lightly's examples
the network gets one view after the other. Chen et al., ICML 2020, arXiv 2002.05709.

Importing this needs lightly; `benchmarks/peers/install.sh` makes an environment with it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from lightly.loss import NTXentLoss
from lightly.transforms import SimCLRTransform
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks import step
from benchmarks.pipeline import Draws
from common.data.samplers import UniformSampler
from common.data.slices import Slices

from .feed import Feed

TEMPERATURE = 0.1
"""That of our loss."""


class Pictures(Dataset[Any]):
    """Grey pictures of slices with values from 0 to 1, and two views of each at every access."""

    def __init__(self, slices: Slices) -> None:
        images = slices.images[:, 0].mul(255).round().to(torch.uint8).cpu().numpy()
        self.pictures = [Image.fromarray(image) for image in images]
        self.transform = SimCLRTransform(input_size=images.shape[-1], normalize=None)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> list[Tensor]:
        """Return two views (1, H, W)."""
        return self.transform(self.pictures[index])


def feed(slices: Slices, batch_size: int, workers: int) -> Feed[list[Tensor]]:
    """Start batches of two views (B, 1, H, W) each, 2 B being `batch_size`, from so many processes, 0 for none."""
    draws = Draws(UniformSampler(slices, batch_size // 2), num_batches=sys.maxsize)

    def start() -> Iterator[list[Tensor]]:
        return iter(DataLoader(Pictures(slices), batch_sampler=draws, num_workers=workers))

    return Feed(start)


def training(slices: Slices, batch_size: int) -> Callable[[list[Tensor]], None]:
    """Return a function that trains the network of the global stage on the views of a batch, as lightly's loops do."""
    device = slices.images.device
    trainer = step.make_trainer("global", slices, batch_size, memory_format=torch.contiguous_format, strategy="GR")
    network, optimizer, criterion = trainer.network, trainer.optimizer, NTXentLoss(TEMPERATURE)

    def step_on(views: list[Tensor]) -> None:
        first, second = (view.to(device) for view in views)
        optimizer.zero_grad()
        loss = criterion(network(first), network(second))
        loss.backward()
        optimizer.step()

    return step_on
