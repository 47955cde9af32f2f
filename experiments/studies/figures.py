"""Figures of the paper from volumes and weights: partitions of volumes, and what the encoder makes of their slices.

Chaitanya, Erdil, Karani, Konukoglu, NeurIPS 2020, arXiv 2006.10511: figure 1, and embeddings before and after the
global pre-training.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bundles.run import commit
from common.checkpoints import content_hash
from common.data.samplers import PartitionSampler
from common.data.slices import Slices
from common.networks import UNet2d
from common.records import write_record

from ..plots import new_figure, save_figure
from .probe import NUM_PARTITIONS, load_network, load_slices

_NUM_VOLUMES = 3
_COLOURS = ("#1b9e77", "#d95f02", "#7570b3", "#e7298a")


def figures(
    dataset_dir: str, weights_dir: str, output: str, cache_dir: str = "", beside: Mapping[str, str] | None = None
) -> None:
    """Draw partitions of test volumes, and embeddings of their slices before and after pre-training.

    Embeddings are the encoder's last map, averaged over the image. Written are `partitions.png`, `embeddings.png`
    (first two principal components) and `embeddings.json`: how often the most similar slice (cosine) among those of
    the other patients is from the same partition, and how often it would be by chance. The slices at the end of a
    volume that pre-training leaves out are left out here.

    Args:
        dataset_dir: the ACDC folder.
        weights_dir: the run folder of a global pre-training, which holds `pretrained_encoder.pt`.
        output: the folder, such as `experiments/results/acdc/full/figures`, from which the report takes them.
        cache_dir: preprocessed volumes are kept there; empty for the bundle's folder.
        beside: files of other global pre-trainings by name, such as "{'GR': 'FILE'}", which are not drawn.

    Raises:
        ValueError: if `beside` does not name files.
        CheckpointError: if the weights cannot be read or do not fit.
    """
    if not isinstance(beside or {}, Mapping):
        raise ValueError(f"beside must be files by name, such as \"{{'GR': 'FILE'}}\", got {beside!r}.")
    test, unlabelled = load_slices(dataset_dir, ("test", "pretrain"), cache_dir)
    weights = Path(weights_dir) / "pretrained_encoder.pt"
    partitions = slice_partitions(test)
    used = partitions >= 0
    volumes = torch.arange(test.num_volumes).repeat_interleave(test.starts.diff())[used]
    embeddings: dict[str, Tensor] = {}
    numbers: dict[str, Any] = {}
    for state, file in (("before", None), ("after", weights)):
        network = load_network(file, unlabelled, ("encoder.",))
        embeddings[state] = embed(network, test.images[used])
        accuracy, chance = neighbour_accuracy(embeddings[state], volumes, partitions[used])
        numbers[state] = accuracy
        print(f"{state} pre-training: neighbours of the same partition {accuracy:.3f}, by chance {chance:.3f}")
    others: dict[str, float] = {}
    for name, other in (beside or {}).items():
        own = embed(load_network(Path(other), unlabelled, ("encoder.",)), test.images[used])
        others[name], _ = neighbour_accuracy(own, volumes, partitions[used])
        print(f"after {name}: {others[name]:.3f}")
    folder = Path(output)
    draw_partitions(test, folder / "partitions.png")
    draw_embeddings(embeddings, partitions[used], folder / "embeddings.png")
    content = {
        "commit": commit(),
        "weights_sha256": {
            weights.name: content_hash(weights),
            **{name: content_hash(Path(other)) for name, other in (beside or {}).items()},
        },
        "volumes": test.num_volumes,
        "slices": int(used.sum()),
        "partitions": NUM_PARTITIONS,
        "neighbour_accuracy": {**numbers, "chance": chance},
        "beside": others,
    }
    write_record(folder / "embeddings.json", content)


def slice_partitions(slices: Slices) -> Tensor:
    """Return the partition of each of the M slices, int64 (M,), -1 for those that pre-training leaves out."""
    widths = PartitionSampler(slices, slices.num_volumes, NUM_PARTITIONS).widths
    depths = slices.starts.diff()
    within = torch.arange(len(slices)) - slices.starts[:-1].repeat_interleave(depths)
    partitions = within // widths.repeat_interleave(depths)
    return partitions.where(partitions < NUM_PARTITIONS, -1)


@torch.no_grad()
def embed(network: UNet2d, images: Tensor) -> Tensor:
    """Average the encoder's last map of images (M, 1, H, W) over the image; float32 (M, 128)."""
    return torch.cat([network.encoder(batch)[-1].mean(dim=(2, 3)) for batch in images.split(20)])


def neighbour_accuracy(embeddings: Tensor, volumes: Tensor, partitions: Tensor) -> tuple[float, float]:
    """Find for every slice the most similar one of another volume.

    Args:
        embeddings: (M, C).
        volumes: int64 (M,), the volume of each slice.
        partitions: int64 (M,), its partition.

    Returns:
        The share of slices whose neighbour is from the same partition, and what it would be if neighbours were drawn
        from all slices of other volumes.
    """
    vectors = F.normalize(embeddings, dim=1)
    others = volumes[:, None] != volumes
    same = partitions[:, None] == partitions
    nearest = (vectors @ vectors.T).masked_fill(~others, -torch.inf).argmax(dim=1)
    chance = (same & others).sum(dim=1) / others.sum(dim=1)
    return float((partitions[nearest] == partitions).double().mean()), float(chance.double().mean())


def draw_partitions(slices: Slices, path: Path) -> None:
    """Draw the middle slice of each partition (columns) of three volumes (rows) that are spread over the list."""
    chosen = torch.linspace(0, slices.num_volumes - 1, _NUM_VOLUMES).round().long().tolist()
    figure = new_figure(1.6 * NUM_PARTITIONS, 1.6 * _NUM_VOLUMES + 0.2)
    axes = figure.subplots(_NUM_VOLUMES, NUM_PARTITIONS)
    for row, volume in enumerate(chosen):
        first, end = slices.starts[volume : volume + 2].tolist()
        width = (end - first) // NUM_PARTITIONS
        for column in range(NUM_PARTITIONS):
            # Axes L and P: transposed, the front of the patient is at the top and the patient's left on the right.
            picture = slices.images[first + column * width + width // 2, 0].T
            axes[row, column].imshow(picture, cmap="gray", vmin=0, vmax=1)
            axes[row, column].set_xticks([])
            axes[row, column].set_yticks([])
            if row == 0:
                axes[row, column].set_title(f"partition {column + 1}", fontsize=8)
        axes[row, 0].set_ylabel(slices.ids[volume], fontsize=8)
    save_figure(figure, path)


def draw_embeddings(embeddings: Mapping[str, Tensor], partitions: Tensor, path: Path) -> None:
    """Draw the first two principal components of embeddings (M, C) side by side, a colour for each partition (M,)."""
    figure = new_figure(7.5, 3.6)
    for axes, (state, values) in zip(figure.subplots(1, len(embeddings)), embeddings.items(), strict=True):
        centred = (values - values.mean(dim=0)).double()
        places = centred @ torch.linalg.svd(centred, full_matrices=False).Vh[:2].T
        for partition, colour in enumerate(_COLOURS):
            x, y = places[partitions == partition].T
            axes.scatter(x, y, s=10, color=colour, label=f"partition {partition + 1}")
        axes.set_title(f"{state} pre-training", fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlabel("first component", fontsize=8)
    figure.axes[0].set_ylabel("second component", fontsize=8)
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=NUM_PARTITIONS, fontsize=8)
    save_figure(figure, path)
