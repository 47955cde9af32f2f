"""Why the paper's local stage teaches little: what its loss comes to where only the place in the frame is known.

The two views of LR and LD differ in their intensities alone, and the negatives of a region are other places of the same
images. So a network that knows nothing but where a region lies can solve the task. Shown by training decoder blocks and
head as `pretrain_local` does, with the encoder as it is after the global stage, with an untrained one, with a map of
coordinates in place of the network, and with the second views moved so that the same place shows something else. LE,
whose views are moved against each other and whose pairs move with them, is beside them. All at half the resolution of
the bundle, which takes a quarter of the time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bundles.run import commit
from common.checkpoints import content_hash, load_pretrained
from common.data.loader import BatchLoader
from common.data.samplers import contrastive_sampler
from common.data.slices import Slices
from common.losses import local_loss
from common.networks import DenseHead, LocalHead, LocalPretrainingNet, UNet2d
from common.records import write_record
from common.strategies import DenseStrategy, Layout, make_layout
from common.transforms.views import local_views

from ..plots import new_figure, save_figure
from .probe import NUM_BLOCKS, NUM_CLASSES, load_slices

MOST_SHIFT = 16  # pixels
_BATCH_SIZE = 24
_CHANNELS, _STRIDE = 64, 4  # of the map of decoder block 3
# Each case: whether its encoder is the pre-trained one, whether the second views are moved; None for coordinates.
CASES: dict[str, tuple[bool, bool] | None] = {
    "pre-trained encoder": (True, False),
    "untrained encoder": (False, False),
    "views shifted": (True, True),
    "coordinates only": None,
}
_STRATEGIES = {"LR": tuple(CASES), "LD": tuple(CASES), "LE": tuple(case for case in CASES if case != "views shifted")}


def place(dataset_dir: str, weights_dir: str, output: str, cache_dir: str = "", steps: int = 30) -> None:
    """Train the local stage with what does not know the image, and draw the losses.

    Written are `place.png` and `place.json`. A loss is given as a share of what it is when all vectors are equal, so
    that strategies can be compared: 1 is knowing nothing, 0 is the task solved.

    Args:
        dataset_dir: the ACDC folder.
        weights_dir: the run folder of a global pre-training, which holds `pretrained_encoder.pt`.
        output: the folder of the two files.
        cache_dir: preprocessed volumes are kept there; empty for the bundle's folder.
        steps: length of each training, in batches of 24 images.

    Raises:
        CheckpointError: if the weights cannot be read or do not fit.
    """
    (whole,) = load_slices(dataset_dir, ("pretrain",), cache_dir)
    slices = Slices(F.avg_pool2d(whole.images, 2), None, whole.starts)
    weights = Path(weights_dir) / "pretrained_encoder.pt"
    curves: dict[str, dict[str, list[float]]] = {}
    for strategy, cases in _STRATEGIES.items():
        curves[strategy] = {}
        for case in cases:
            curves[strategy][case] = losses(strategy, case, slices, weights, steps)
            print(f"{strategy}, {case}: {curves[strategy][case][-1]:.3f}", flush=True)
    draw_losses(curves, Path(output) / "place.png")
    content = {
        "commit": commit(),
        "weights_sha256": {weights.name: content_hash(weights)},
        "steps": steps,
        "batch_size": _BATCH_SIZE,
        "loss_as_share_of_chance": curves,
    }
    write_record(Path(output) / "place.json", content)


def losses(strategy: str, case: str, slices: Slices, weights: Path, steps: int, num_pixels: int = 600) -> list[float]:
    """Train one case; return its loss before each step, as a share of what it is when all vectors are equal.

    Args:
        strategy: "LR", "LD" or "LE".
        case: a key of `CASES`.
        slices: to train on.
        weights: file of the pre-trained encoder.
        steps: how many.
        num_pixels: of LE, see `DenseViews`.
    """
    torch.manual_seed(0)
    layout = make_layout(strategy, _BATCH_SIZE)
    how = CASES[case]
    views: Callable[..., tuple[Tensor, Any]] = local_views(layout, num_pixels)
    if how is None:
        network: nn.Module = Coordinates(isinstance(layout.strategy, DenseStrategy))
    else:
        pretrained, shifted = how
        unet = load_pretrained(UNet2d(NUM_CLASSES), weights if pretrained else None, ("encoder.",))
        network = LocalPretrainingNet(unet, NUM_BLOCKS, strategy=strategy)
        views = ShiftedViews(views, layout) if shifted else views
    loss = local_loss(layout, num_pixels=num_pixels)
    loader = BatchLoader(slices, contrastive_sampler(layout, slices), views, steps_per_epoch=steps)
    optimizer = torch.optim.Adam([value for value in network.parameters() if value.requires_grad], lr=1e-3)
    chance = chance_of(loss, network, loader)
    found = []
    for step in range(steps):
        images, targets = loader.batch(step)
        value = loss(network(images), targets)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        found.append(value.item() / chance)
    return found


@torch.no_grad()
def chance_of(loss: nn.Module, network: nn.Module, loader: BatchLoader) -> float:
    """Return the loss of vectors that are all equal."""
    images, targets = loader.batch(0)
    return float(loss(torch.ones_like(network(images)), targets))


class Coordinates(nn.Module):
    """The head alone, on a map of waves along both axes that tells where a pixel lies and nothing of the image.

    Args:
        dense: whether the head is that of a dense strategy.
    """

    def __init__(self, dense: bool) -> None:
        super().__init__()
        self.local_head = DenseHead(_CHANNELS) if dense else LocalHead(_CHANNELS)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, 1, H, W), of which only the size counts, to what the head makes of the coordinates."""
        height, width = (side // _STRIDE for side in images.shape[2:])
        waves = math.pi * torch.arange(1, _CHANNELS // 4 + 1).view(-1, 1, 1) / 2
        rows = waves * torch.linspace(-1, 1, height).view(1, -1, 1).expand(1, height, width)
        columns = waves * torch.linspace(-1, 1, width).view(1, 1, -1).expand(1, height, width)
        features = torch.cat([rows.sin(), rows.cos(), columns.sin(), columns.cos()])
        return self.local_head(features.expand(len(images), -1, -1, -1))


class ShiftedViews:
    """Views of which the second ones are moved, each by itself, so that the same place shows something else.

    Args:
        views: makes the batch.
        layout: of two views.
    """

    def __init__(self, views: Callable[..., tuple[Tensor, Any]], layout: Layout) -> None:
        self.views = views
        self.num_slices = layout.num_slices

    def __call__(self, images: Tensor, labels: Tensor | None, generator: torch.Generator) -> tuple[Tensor, Any]:
        """Return the batch with every second view moved by `MOST_SHIFT` / 2 to `MOST_SHIFT` pixels along both axes."""
        batch, targets = self.views(images, labels, generator)
        least = MOST_SHIFT // 2
        shifts = torch.randint(least, MOST_SHIFT + 1, (self.num_slices, 2), generator=generator)
        shifts *= 2 * torch.randint(2, shifts.shape, generator=generator) - 1
        height, width = batch.shape[2:]
        # What leaves the frame comes back on the other side: no new border gives the shift away.
        rows = (torch.arange(height) - shifts[:, :1]) % height
        columns = (torch.arange(width) - shifts[:, 1:]) % width
        index = torch.arange(self.num_slices)[:, None, None]
        second = batch[self.num_slices :, 0][index, rows[:, :, None], columns[:, None, :]]
        return torch.cat([batch[: self.num_slices], second[:, None]]), targets


def draw_losses(curves: dict[str, dict[str, list[float]]], path: Path) -> None:
    """Draw the losses against the steps, a panel for each strategy."""
    figure = new_figure(2.8 * len(curves), 2.8)
    panels = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    for axes, (strategy, cases) in zip(panels, curves.items(), strict=True):
        for number, case in enumerate(CASES):
            if case in cases:
                axes.plot(range(len(cases[case])), cases[case], color=f"C{number}", label=case)
        axes.set_title(strategy, fontsize=9)
        axes.set_xlabel("steps", fontsize=8)
        axes.set_ylim(0, 1.3)
        axes.axhline(1.0, color="grey", linewidth=0.6, linestyle="dotted")
    panels[0].set_ylabel("loss / loss of equal vectors", fontsize=8)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(handles), fontsize=8)
    save_figure(figure, path)
