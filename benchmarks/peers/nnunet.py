"""nnU-Net's 2-D trainer and predictor, with our slices and our network.

What nnU-Net would plan for a data set is given: the patch is the slice, the network that of the bundles. All else is
nnU-Net's, with its defaults: how volumes are stored, drawn and cropped, the augmentation, the step with its loss and
its optimiser, and for a new file the preprocessing, the tiles and the way back. Deep supervision is off, as the network
has one output. Isensee et al., Nature Methods 2021.

Importing this needs nnU-Net; `benchmarks/peers/install.sh` makes an environment with it.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from common.data.slices import Slices
from common.networks import UNet2d

from .feed import Feed

_CONFIGURATION, _DATASET = "2d", "Dataset001_Slices"
_FILE_ENDING = ".nii.gz"


class Trainer(nnUNetTrainer):
    """nnU-Net's trainer of the bundles' network, in torch's default memory format as nnU-Net trains its own."""

    @staticmethod
    def build_network_architecture(
        plans_manager: Any,
        configuration_manager: Any,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """Return the network with the weights of `step.make_trainer`."""
        torch.manual_seed(0)
        return plain_network(UNet2d(num_output_channels, num_input_channels))


def plain_network(network: nn.Module) -> nn.Module:
    """Put a network into torch's default memory format."""
    return network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # as in `UNet2d`


def plans(tile: Sequence[int], batch_size: int, spacing_mm: float) -> dict[str, Any]:
    """Return the plans of a data set of single-channel MR, as nnU-Net's planner writes them.

    Args:
        tile: (H, W) of the patch in pixels.
        batch_size: slices of a batch.
        spacing_mm: of the pixels.
    """
    # Neither function uses the planner that it belongs to.
    resample, of_images, resample_labels, of_labels = ExperimentPlanner.determine_resampling(None)
    resample_logits, of_logits = ExperimentPlanner.determine_segmentation_softmax_export_fn(None)
    configuration = {
        "data_identifier": _CONFIGURATION,
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": batch_size,
        "patch_size": list(tile),
        "median_image_size_in_voxels": list(tile),
        "spacing": [spacing_mm, spacing_mm],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": resample.__name__,
        "resampling_fn_data_kwargs": of_images,
        "resampling_fn_seg": resample_labels.__name__,
        "resampling_fn_seg_kwargs": of_labels,
        "resampling_fn_probabilities": resample_logits.__name__,
        "resampling_fn_probabilities_kwargs": of_logits,
        "batch_dice": True,
        "architecture": {},  # the network is given
    }
    return {
        "dataset_name": _DATASET,
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": {}},
        "configurations": {_CONFIGURATION: configuration},
        "continue_training": False,
    }


def dataset_json(class_names: Sequence[str]) -> dict[str, Any]:
    """Return what nnU-Net has to know of a data set of single-channel MR, the background's name first."""
    labels = {name: value for value, name in enumerate(class_names)}
    return {"channel_names": {"0": "MR"}, "labels": labels, "file_ending": _FILE_ENDING}


def store(slices: Slices, folder: Path) -> None:
    """Write labelled slices as the volumes that nnU-Net's preprocessing leaves, below a new folder."""
    assert slices.labels is not None
    target = folder / _DATASET / _CONFIGURATION
    target.mkdir(parents=True)
    depths = slices.starts.diff().tolist()
    tile = tuple(slices.images.shape[-2:])
    pairs = zip(slices.images.cpu().split(depths), slices.labels.cpu().split(depths), strict=True)
    for index, (images, labels) in enumerate(pairs):
        data, segmentation = images.transpose(0, 1).numpy(), labels[None].numpy().astype(np.int16)
        classes = range(1, 1 + int(segmentation.max()))
        properties = {"class_locations": DefaultPreprocessor._sample_foreground_locations(segmentation, classes)}
        blocks, chunks = comp_blosc2_params(data.shape, tile, data.itemsize)
        blocks_of_labels, chunks_of_labels = comp_blosc2_params(segmentation.shape, tile, segmentation.itemsize)
        nnUNetDatasetBlosc2.save_case(
            data,
            segmentation,
            properties,
            str(target / f"volume{index:03d}"),
            chunks=chunks,
            blocks=blocks,
            chunks_seg=chunks_of_labels,
            blocks_seg=blocks_of_labels,
        )


def make_trainer(slices: Slices, batch_size: int, class_names: Sequence[str], folder: Path) -> Trainer:
    """Build a trainer of slices that `store` has written.

    Args:
        slices: square ones, of the device to train on.
        batch_size: slices of a batch.
        class_names: the background's first.
        folder: see `store`; logs go there, too.
    """
    spacing_mm = 1.0  # of no consequence: the volumes are preprocessed
    planned = plans(slices.images.shape[-2:], batch_size, spacing_mm)
    with _folders(folder), _quiet():
        trainer = Trainer(planned, _CONFIGURATION, "all", dataset_json(class_names), slices.images.device)
        trainer.enable_deep_supervision = False
        trainer.initialize()
    return trainer


def default_workers() -> int:
    """Return the number of workers that nnU-Net starts by default."""
    from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA

    return int(get_allowed_n_proc_DA())


def feed(trainer: Trainer, workers: int) -> Feed[dict[str, Any]]:
    """Start nnU-Net's training batches.

    Args:
        trainer: made by `make_trainer`.
        workers: processes that make them; 0 makes them in this one.
    """

    def start() -> Iterator[dict[str, Any]]:
        with patch.dict(os.environ, nnUNet_n_proc_DA=str(workers)), _quiet():
            training, validation = trainer.get_dataloaders()
            if workers:
                validation._finish()
        return training

    return Feed(start, (lambda batches: batches._finish()) if workers else None)  # type: ignore[attr-defined]


def segmenter(
    network: nn.Module,
    image: Path,
    output: Path,
    tile: Sequence[int],
    spacing_mm: float,
    class_names: Sequence[str],
    mirrored: bool,
    device: torch.device,
) -> Callable[[], None]:
    """Return a function that segments a file with nnU-Net's predictor, in this process.

    Args:
        network: with its weights.
        image: NIfTI file.
        output: NIfTI file that is written, `.nii.gz`.
        tile: (H, W) of what the network gets at once, in pixels.
        spacing_mm: pixel size that the network gets.
        class_names: the background's first.
        mirrored: also segment what is mirrored along both axes, and average, as nnU-Net does by default.
        device: where the network runs.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    manager = PlansManager(plans(tile, 1, spacing_mm))
    with _quiet():
        predictor = nnUNetPredictor(use_mirroring=mirrored, device=device, allow_tqdm=False)
        predictor.manual_initialization(
            network,
            manager,
            manager.get_configuration(_CONFIGURATION),
            [network.state_dict()],
            dataset_json(class_names),
            nnUNetTrainer.__name__,
            (0, 1),
        )

    def segment() -> None:
        with _quiet():
            predictor.predict_from_files_sequential([[str(image)]], [str(output).removesuffix(_FILE_ENDING)])

    return segment


@contextlib.contextmanager
def _folders(folder: Path) -> Iterator[None]:
    with patch.dict(os.environ, nnUNet_preprocessed=str(folder), nnUNet_results=str(folder / "results")):
        yield


def _quiet() -> contextlib.redirect_stdout[io.StringIO]:
    return contextlib.redirect_stdout(io.StringIO())
