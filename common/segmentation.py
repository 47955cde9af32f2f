"""Segment files with a trained network: every good file is segmented, every bad one is named at the end."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import nibabel
import numpy as np
from ignite.engine import Engine, Events
from monai.data import Dataset, MetaTensor, list_data_collate
from monai.engines import SupervisedEvaluator
from tqdm import tqdm

from .coverage import body_outside
from .data.failures import describe_failure
from .data.nifti import read_header
from .data.volume_files import few, stem
from .expected_dice import expected_row
from .files import WriteError, atomic_file
from .pictures import draw_comparison
from .tables import write_table
from .volumetry import UNIT, structure_volumes

logger = logging.getLogger(__name__)

VOLUMES, EXPECTED_DICE = "volumes.csv", "expected_dice.csv"
"""Names of the tables of the structures' volumes in ml, and of their expected Dice."""

_MOST = 0.8  # of the body; in real volumes of the heart and of the prostate .15 to .67 lie outside the window


def segmentation_path(image_path: str, output_dir: str) -> Path:
    """Name the segmentation of a file: `<output_dir>/<name>_seg.nii.gz`."""
    return Path(output_dir) / f"{stem(image_path)}_seg.nii.gz"


def uncertainty_path(image_path: str, output_dir: str) -> Path:
    """Name the map of uncertainty of a file: `<output_dir>/<name>_uncertainty.nii.gz`."""
    return Path(output_dir) / f"{stem(image_path)}_uncertainty.nii.gz"


def save_segmentation(
    labels: np.ndarray, image_path: str, target: Path, dtype: type[np.uint8] | type[np.float32] = np.uint8
) -> None:
    """Write a label map, or another map of one value for each voxel, on the grid of an image, whole or not at all.

    Args:
        labels: (X, Y, Z) integers from 0 to 255 or, for another type, numbers.
        image_path: the image, (X, Y, Z) or, with channels, (X, Y, Z, C); its affine, voxel sizes and qform/sform codes
            are taken over.
        target: the file, ending in .nii.gz.
        dtype: of the voxels in the file.

    Raises:
        ValueError: if the shapes differ.
    """
    header = read_header(image_path)
    shape = header.get_data_shape()[:3]
    if labels.shape != shape:
        raise ValueError(
            f"labels must have the shape {shape} of {image_path}, got {labels.shape}; "
            "bring them back to the grid of the file."
        )
    header.set_data_dtype(dtype)
    image_class = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
    header["cal_min"] = header["cal_max"] = 0
    with atomic_file(target) as temporary:
        nibabel.save(image_class(labels.astype(dtype), header.get_best_affine(), header), temporary)


class Outputs(Protocol):
    """What is written of segmentations, and what is said of them."""

    def path(self, image_path: str, output_dir: str) -> Path:
        """Name the segmentation of a file."""

    def save(
        self,
        labels: np.ndarray,
        image_path: str,
        target: Path,
        drawn: Sequence[str] | None,
        uncertainty: np.ndarray | None = None,
    ) -> None:
        """Write a segmentation, its uncertainty if known, and its picture if names of classes are given: all or none.

        Raises:
            WriteError: if that cannot be written.
        """

    def volumes(self, image: MetaTensor, labels: np.ndarray, class_names: Sequence[str]) -> dict[str, float]:
        """Measure the structures in ml, by name; nothing where pixels have no size."""

    def doubt(self, image: MetaTensor, labels: np.ndarray, path: str, class_names: Sequence[str]) -> str:
        """Say why a segmentation may be wrong; nothing if there is no reason."""


class NiftiOutputs:
    """`Outputs` of NIfTI files: `<name>_seg.nii.gz` and `<name>_seg.png`, and the map `<name>_uncertainty.nii.gz`.

    Both maps are on the grid of the file.
    """

    def path(self, image_path: str, output_dir: str) -> Path:
        """See `Outputs`."""
        return segmentation_path(image_path, output_dir)

    def save(
        self,
        labels: np.ndarray,
        image_path: str,
        target: Path,
        drawn: Sequence[str] | None,
        uncertainty: np.ndarray | None = None,
    ) -> None:
        """See `Outputs`."""
        with ExitStack() as files:
            save_segmentation(labels, image_path, files.enter_context(atomic_file(target)))
            if uncertainty is not None:
                entropy = files.enter_context(atomic_file(uncertainty_path(image_path, str(target.parent))))
                save_segmentation(uncertainty, image_path, entropy, np.float32)
            if drawn is not None:
                picture = files.enter_context(atomic_file(target.with_name(target.name[:-7] + ".png")))
                title = f"{Path(image_path).name} (not verified by anyone)"
                draw_comparison(image_path, None, labels, drawn, title, picture, uncertainty=uncertainty)

    def volumes(self, image: MetaTensor, labels: np.ndarray, class_names: Sequence[str]) -> dict[str, float]:
        """See `Outputs`."""
        return structure_volumes(labels, class_names, image.meta["original_affine"])

    def doubt(self, image: MetaTensor, labels: np.ndarray, path: str, class_names: Sequence[str]) -> str:
        """See `Outputs`: which structures were not found, and whether the network has hardly seen anything."""
        found = set(np.unique(labels).tolist())
        absent = [name for value, name in enumerate(class_names) if value > 0 and value not in found]
        reasons = []
        if absent:
            reasons.append(f"no {', '.join(absent)} {'was' if len(absent) == 1 else 'were'} found")
        if (outside := body_outside(image, path)) > _MOST:
            reasons.append(
                f"{outside:.0%} of what is bright lies outside the window around the centre that the network sees: "
                "crop the file to what is to be segmented"
            )
        return f"{path}: {'; '.join(reasons)}." if reasons else ""


_NIFTI = NiftiOutputs()


def segment_volumes(
    evaluator: SupervisedEvaluator,
    dataset: Dataset,
    output_dir: str,
    class_names: Sequence[str],
    pictures: bool = True,
    outputs: Outputs = _NIFTI,
) -> list[Path]:
    """Segment the volumes of a dataset one after another, and write the volumes of the structures as a table.

    The log says which segmentations lack structures, and of which volumes the network has hardly seen anything.

    Args:
        evaluator: its postprocessing must leave the label map (1, X, Y, Z) on the native grid under "pred". Its own
            loader is not used: one bad volume would end it.
        dataset: lazy; its data has the path of a file under "image", its items the preprocessed volume.
        output_dir: gets the segmentations and, with `pictures`, a picture of each, both of them or neither; at the end,
            where voxels have a size, `volumes.csv`, with a row for each segmentation of this run. If the postprocessing
            gives "uncertainty" and "expected_dice", there are also maps of the uncertainty and `expected_dice.csv`, the
            least sure one first.
        class_names: names of the classes, the background's first.
        pictures: draw pictures.
        outputs: writes what of this is a file, those of NIfTI files by default.

    Returns:
        The files written.

    Raises:
        WriteError: as soon as `output_dir` cannot be written to; the log says how many segmentations were.
        SystemExit: with status 1 after the last volume if any could not be segmented; the log names them.
    """
    written: list[Path] = []
    failures: list[str] = []
    doubts: list[str] = []
    volumes: list[dict[str, Any]] = []
    expected: list[dict[str, Any]] = []
    items: list[dict[str, Any]] = list(dataset.data)
    old = [target for target in (outputs.path(item["image"], output_dir) for item in items) if target.exists()]
    if old:
        logger.warning(f"{len(old)} segmentations that are in {output_dir} will be replaced: {few(old)}.")
    for index, item in enumerate(tqdm(items, desc="Segmenting", unit="volume")):
        path = item["image"]
        try:
            volume = dataset[index]
            output = segment(evaluator, volume)
            labels = output["pred"][0].cpu().numpy()
            entropy = output["uncertainty"][0].cpu().numpy() if "uncertainty" in output else None
            target = outputs.path(path, output_dir)
            outputs.save(labels, path, target, class_names if pictures else None, entropy)
        except WriteError:  # the next file would fare no better
            logger.error(f"{len(written)} of {len(items)} segmentations were written to {output_dir}.")
            raise
        except Exception as error:  # one bad file must not cost the others
            failures.append(describe_failure(error, path))
            continue
        written.append(target)
        if found := outputs.volumes(volume["image"], labels, class_names):
            volumes.append({"segmentation": target.name, **{f"{name}_{UNIT}": value for name, value in found.items()}})
        if "expected_dice" in output:
            expected.append({"segmentation": target.name, **expected_row(output["expected_dice"], class_names)})
        try:
            doubt = outputs.doubt(volume["image"], labels, path, class_names)
        except Exception as error:  # a remark must not cost a segmentation
            doubt = f"{path}: what the network has seen of it could not be determined ({error})."
        if doubt:
            logger.warning(doubt)
            doubts.append(doubt)
    if volumes:
        write_table(Path(output_dir, VOLUMES), volumes, list(volumes[0]))
    if expected:
        expected.sort(key=lambda row: row["mean"])
        write_table(Path(output_dir, EXPECTED_DICE), expected, list(expected[0]))
        logger.info(f"Least sure is {expected[0]['segmentation']}; {output_dir}/{EXPECTED_DICE} has all by that.")
    logger.info(f"Wrote {len(written)} of {len(items)} segmentations to {output_dir}.")
    if doubts:
        logger.warning("\n".join([f"{len(doubts)} of {len(written)} segmentations are doubtful:", *doubts]))
    if failures:
        logger.error("\n".join([f"{len(failures)} of {len(items)} files could not be segmented:", *failures]))
        raise SystemExit(1)
    return written


def segment(evaluator: SupervisedEvaluator, item: dict[str, Any]) -> dict[str, Any]:
    """Return what the postprocessing makes of a preprocessed volume, the label map (1, X, Y, Z) under "pred".

    Args:
        evaluator: see `segment_volumes`.
        item: the volume under "image".
    """
    state = evaluator.state
    state.epoch, state.iteration, state.epoch_length, state.max_epochs = 0, 0, 1, 1
    errors: list[BaseException] = []
    # Handled like this because an error that gets out of an engine of Ignite 0.5 makes its next run do nothing.
    with evaluator.add_event_handler(Events.EXCEPTION_RAISED, errors.append):
        # Ignite's own `run` takes the data; that of MONAI has the evaluator's loader only.
        Engine.run(evaluator, [list_data_collate([item])], max_epochs=1)
    if errors:
        raise errors[0]
    output: dict[str, Any] = evaluator.state.output[0]
    return output
