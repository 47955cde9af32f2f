"""What the decoder's maps hold before and after local pre-training, measured on patients it has not seen.

The local loss says nothing about that: with views that differ in intensity only it is nearly zero within a dozen steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from bundles.run import REPOSITORY, commit, load_config
from common.checkpoints import content_hash, load_pretrained
from common.data.slices import Slices
from common.data.volumes import VolumeDataset
from common.engines import recompute_batch_norm
from common.networks import UNet2d, region_starts
from common.records import write_record

BUNDLE = REPOSITORY / "bundle_acdc"
NUM_BLOCKS, NUM_PARTITIONS, NUM_CLASSES = 3, 4, 4
_RANDOM, _ENCODER = "random", "encoder, random decoder"


def probe(dataset_dir: str, weights: Mapping[str, str], output: str = "", cache_dir: str = "") -> None:
    """Compare the maps of decoder block 3: random, of a pre-trained encoder alone, and after each local pre-training.

    Three numbers for each, on the 20 test patients:

    - region match: how often a region's most similar region, in another patient's slice of the same partition, is the
      one at the same place (chance 1/13);
    - anatomy over place: how often a position is more similar to the same anatomy than to the same place, once the
      image has been shifted by 32 pixels;
    - probe Dice: that of a linear classifier of single map positions, fitted by ridge regression to patient 002; mean
      of the three structures on the map's grid.

    Args:
        dataset_dir: the ACDC folder.
        weights: files `pretrained_encoder_decoder.pt` of local pre-trainings by the name of each; the encoder of the
            first is measured with a random decoder as well.
        output: JSON file for the numbers; empty for none.
        cache_dir: preprocessed volumes are kept there; empty for the bundle's folder.

    Raises:
        ValueError: if the weights are not given by names, or a name is that of another start.
        CheckpointError: if weights cannot be read or do not fit.
    """
    if not isinstance(weights, Mapping) or not weights:
        raise ValueError(f"weights must be files by name, such as \"{{'GD+LR': 'FILE'}}\", got {weights!r}.")
    if taken := {_RANDOM, _ENCODER} & set(weights):
        raise ValueError(f"weights must have other names than {', '.join(sorted(taken))}, which are measured anyway.")
    labelled, test, unlabelled = load_slices(dataset_dir, ("labelled", "test", "pretrain"), cache_dir)
    results: list[dict[str, Any]] = []
    encoder, blocks = "encoder.", tuple(f"decoder.blocks.{k}." for k in range(NUM_BLOCKS))
    paths = {name: Path(path) for name, path in weights.items()}
    starts: dict[str, tuple[Path | None, tuple[str, ...]]] = {_RANDOM: (None, ())}
    starts[_ENCODER] = next(iter(paths.values())), (encoder,)
    starts |= {name: (path, (encoder, *blocks)) for name, path in paths.items()}
    for name, (path, parts) in tqdm(starts.items(), desc="starts"):
        network = load_network(path, unlabelled, parts)
        maps, targets = _maps(network, test)
        fit_maps, fit_targets = _maps(network, labelled)
        results.append(
            {
                "start": name,
                "region_match": _region_match(maps, test.starts),
                "anatomy_over_place": _anatomy_over_place(network, test, maps),
                "probe_dice": _probe_dice(fit_maps, fit_targets, maps, targets),
            }
        )
    if output:
        hashes = {name: content_hash(path) for name, path in paths.items()}
        write_record(output, {"commit": commit(), "weights_sha256": hashes, "starts": results})
    for result in results:
        print(result["start"], {key: round(value, 3) for key, value in result.items() if key != "start"})


def load_slices(dataset_dir: str, subsets: Sequence[str], cache_dir: str = "") -> list[Slices]:
    """Load the slices of subsets of the ACDC split for one labelled volume, draw c1, as fine-tuning sees them.

    Args:
        dataset_dir: the ACDC folder.
        subsets: "pretrain", "labelled", "validation" or "test".
        cache_dir: preprocessed volumes are kept there; empty for the bundle's folder.

    Returns:
        The slices of each subset, with labels, on the CPU.
    """
    overrides = {"cache_dir": cache_dir} if cache_dir else {}
    config = load_config(BUNDLE, "train", dataset_dir=dataset_dir, **overrides)
    transform = config.get_parsed_content("train#preprocessing")
    split = config.get_parsed_content("split")
    return [Slices.from_volumes(VolumeDataset(split.subset(name), transform)) for name in subsets]


def load_network(weights: Path | None, unlabelled: Slices, parts: Sequence[str]) -> UNet2d:
    """Make a network for evaluation, its batch-norm statistics recomputed on slices.

    Args:
        weights: a file of pre-trained ones, None for random ones.
        unlabelled: the slices.
        parts: prefixes of what is taken from the file; the rest is random, drawn alike at every call.

    Raises:
        CheckpointError: if the weights cannot be read or do not fit.
    """
    torch.manual_seed(0)
    network = load_pretrained(UNet2d(NUM_CLASSES), weights, parts)
    recompute_batch_norm(network, unlabelled)
    return network.eval()


@torch.no_grad()
def _maps(network: UNet2d, slices: Slices) -> tuple[Tensor, Tensor]:
    """Return the maps (M, C, h, w) of block 3 and the labels (M, h, w) on the same grid."""
    maps = torch.cat([network.decoder(network.encoder(batch), NUM_BLOCKS) for batch in slices.images.split(20)])
    assert slices.labels is not None
    labels = F.interpolate(slices.labels[:, None].float(), size=maps.shape[2:], mode="nearest-exact")
    return maps, labels[:, 0].long()


def _region_match(maps: Tensor, starts: Tensor) -> float:
    """Match the 13 regions of each volume's slices with those of the next volume, partition by partition."""
    places = region_starts(maps.shape[2], 3)[:13]
    centres = maps[:, :, places[:, 0] + 1, places[:, 1] + 1].transpose(1, 2)  # (M, 13, C)
    vectors = F.normalize(centres - centres.mean(dim=(0, 1)), dim=-1)
    depths = starts.diff()
    picked = starts[:-1, None] + ((2 * torch.arange(NUM_PARTITIONS) + 1) * depths[:, None]) // (2 * NUM_PARTITIONS)
    first = vectors[picked]  # (V, S, 13, C), the middle slice of each partition
    nearest = (first @ first.roll(-1, dims=0).mT).argmax(dim=-1)
    return float((nearest == torch.arange(13)).double().mean())


def _anatomy_over_place(network: UNet2d, slices: Slices, maps: Tensor, shift: int = 32) -> float:
    """Compare the maps with those of images whose content is moved down by `shift` pixels; interior positions only."""
    moved_images = F.pad(slices.images, (0, 0, shift, 0))[:, :, : slices.images.shape[2]]
    moved, _ = _maps(network, Slices(moved_images, slices.labels, slices.starts))
    step = shift * maps.shape[2] // slices.images.shape[2]
    mean = maps.mean(dim=(0, 2, 3), keepdim=True)
    border = 2 * step
    original = (maps - mean)[:, :, border:-border, border:-border]
    same_place = (moved - mean)[:, :, border:-border, border:-border]
    same_anatomy = (moved - mean)[:, :, border + step : -border + step, border:-border]
    anatomy, place = F.cosine_similarity(original, same_anatomy), F.cosine_similarity(original, same_place)
    body = F.avg_pool2d(slices.images, shift // step)[:, 0] > 0.05  # the air around looks alike everywhere
    inside = body[:, border:-border, border:-border]
    return float((anatomy > place)[inside].double().mean())


def _probe_dice(fit_maps: Tensor, fit_targets: Tensor, maps: Tensor, targets: Tensor, ridge: float = 1e-2) -> float:
    def design(values: Tensor) -> Tensor:
        rows = values.permute(0, 2, 3, 1).flatten(0, 2).double()
        return torch.cat([rows, torch.ones(len(rows), 1, dtype=torch.float64)], dim=1)

    features, classes = design(fit_maps), F.one_hot(fit_targets.flatten(), NUM_CLASSES).double()
    weights = classes.sum(0).reciprocal()[fit_targets.flatten(), None]  # every class counts alike
    gram = features.T @ (weights * features)
    gram += ridge * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)
    solution = torch.linalg.solve(gram, features.T @ (weights * classes))
    predicted = (design(maps) @ solution).argmax(dim=1)
    truth = targets.flatten()
    dice = [
        2 * ((predicted == k) & (truth == k)).sum() / ((predicted == k).sum() + (truth == k).sum())
        for k in range(1, NUM_CLASSES)
    ]
    return float(torch.stack(dice).mean())
