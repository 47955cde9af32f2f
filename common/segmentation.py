"""Segment NIfTI files with a trained network: every good file is segmented, every bad one is named at the end."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from ignite.engine import Events
from monai.data import Dataset, list_data_collate
from monai.engines import SupervisedEvaluator
from tqdm import tqdm

from .data.cache import describe_failure
from .data.volume_files import stem
from .files import atomic_file
from .pictures import draw_comparison

logger = logging.getLogger(__name__)


def segmentation_path(image_path: str, output_dir: str) -> Path:
    """Name the segmentation of a file: `<output_dir>/<name>_seg.nii.gz`."""
    return Path(output_dir) / f"{stem(image_path)}_seg.nii.gz"


def save_segmentation(labels: np.ndarray, image_path: str, target: Path) -> None:
    """Write a label map as uint8 NIfTI on the grid of an image, whole or not at all.

    Args:
        labels: (X, Y, Z) integers from 0 to 255.
        image_path: the image, (X, Y, Z) or, with channels, (X, Y, Z, C); its affine, voxel sizes and qform/sform codes
            are taken over.
        target: the file, ending in .nii.gz.

    Raises:
        ValueError: if the shapes differ.
    """
    image = nibabel.load(image_path)
    if labels.shape != image.shape[:3]:
        raise ValueError(
            f"labels must have the shape {image.shape[:3]} of {image_path}, got {labels.shape}; "
            "bring them back to the grid of the file."
        )
    header = image.header.copy()
    header.set_data_dtype(np.uint8)
    header["cal_min"] = header["cal_max"] = 0
    with atomic_file(target) as temporary:
        nibabel.save(type(image)(labels.astype(np.uint8), image.affine, header), temporary)


def segment_volumes(
    evaluator: SupervisedEvaluator, dataset: Dataset, output_dir: str, class_names: Sequence[str], pictures: bool = True
) -> list[Path]:
    """Segment the volumes of a dataset one after another.

    Args:
        evaluator: its postprocessing must leave the label map (1, X, Y, Z) on the native grid under "pred".
        dataset: lazy; its data has the path of a NIfTI file under "image", its items the preprocessed volume.
        output_dir: gets `<name>_seg.nii.gz` and, with `pictures`, `<name>_seg.png`.
        class_names: names of the classes, the background's first.
        pictures: draw the outlines over slices of every volume.

    Returns:
        The files written.

    Raises:
        SystemExit: with status 1 after the last volume if any could not be segmented; the log names them.
    """
    written: list[Path] = []
    failures: list[str] = []
    items: list[dict[str, Any]] = list(dataset.data)
    for index, item in enumerate(tqdm(items, desc="Segmenting", unit="volume")):
        path = item["image"]
        try:
            labels = _segment(evaluator, dataset[index])
            target = segmentation_path(path, output_dir)
            save_segmentation(labels, path, target)
            if pictures:
                title = f"{Path(path).name} (not verified by anyone)"
                draw_comparison(path, None, labels, class_names, title, target.with_name(target.name[:-7] + ".png"))
            written.append(target)
        except Exception as error:  # one bad file must not cost the others
            failures.append(describe_failure(error, path))
    logger.info(f"Wrote {len(written)} of {len(items)} segmentations to {output_dir}.")
    if failures:
        logger.error("\n".join([f"{len(failures)} of {len(items)} files could not be segmented:", *failures]))
        raise SystemExit(1)
    return written


def _segment(evaluator: SupervisedEvaluator, item: dict[str, Any]) -> np.ndarray:
    """Return the label map (X, Y, Z) of a preprocessed volume."""
    evaluator.data_loader = [list_data_collate([item])]
    evaluator.state.epoch_length = 1
    errors: list[BaseException] = []
    # Handled like this because an error that gets out of an engine of Ignite 0.5 makes its next run do nothing.
    with evaluator.add_event_handler(Events.EXCEPTION_RAISED, errors.append):
        evaluator.run()
    if errors:
        raise errors[0]
    return evaluator.state.output[0]["pred"][0].cpu().numpy()
