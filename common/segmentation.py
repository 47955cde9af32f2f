"""Segment files with a trained network: every good file is segmented, every bad one is named at the end."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.data import Dataset, list_data_collate
from monai.engines import SupervisedEvaluator
from tqdm import tqdm

from .data.ahead import preprocess_ahead
from .data.failures import describe_failure
from .data.volume_files import few
from .expected_dice import expected_row
from .files import WriteError
from .outputs import NiftiOutputs, Outputs, Segmented
from .report import FILE, SegmentationPage
from .tables import write_table
from .volumetry import UNIT

logger = logging.getLogger(__name__)

VOLUMES, EXPECTED_DICE = "volumes.csv", "expected_dice.csv"
"""Names of the tables of the structures' volumes in ml, and of their expected Dice."""

_NIFTI = NiftiOutputs()


def segment_volumes(
    evaluator: SupervisedEvaluator,
    dataset: Dataset,
    output_dir: str,
    class_names: Sequence[str],
    pictures: bool = True,
    settings: Mapping[str, Any] | None = None,
    outputs: Outputs = _NIFTI,
) -> list[Path]:
    """Segment the volumes of a dataset one after another, and write the volumes of the structures as a table.

    Of many volumes the next ones are preprocessed meanwhile, see `preprocess_ahead`.

    The log says which segmentations lack structures, and of which volumes the network has hardly seen anything.

    Args:
        evaluator: its postprocessing must leave the label map (1, X, Y, Z) on the native grid under "pred". Its own
            loader is not used: one bad volume would end it.
        dataset: lazy; its data has the path of a file under "image", its items the preprocessed volume.
        output_dir: gets the segmentations and, with `pictures`, a picture of each, both of them or neither; at the end,
            where voxels have a size, `volumes.csv`, with a row for each segmentation of this run. If the postprocessing
            gives "uncertainty" and "expected_dice", there are also maps of the uncertainty and `expected_dice.csv`, the
            least sure one first. With `pictures` all of it is in one page, too, `report.html`.
        class_names: names of the classes, the background's first.
        pictures: draw pictures.
        settings: what the page should say of the run.
        outputs: writes what of this is a file, those of NIfTI files by default.

    Returns:
        The files written.

    Raises:
        WriteError: as soon as `output_dir` cannot be written to; the log says how many segmentations were.
        SystemExit: with status 1 after the last volume if any could not be segmented; the log names them.
    """
    written: list[Path] = []
    failures: dict[str, str] = {}
    doubts: list[str] = []
    volumes: list[dict[str, Any]] = []
    expected: list[dict[str, Any]] = []
    items: list[dict[str, Any]] = list(dataset.data)
    page = SegmentationPage(class_names, outputs.display, len(items))
    old = [target for target in (outputs.path(item["image"], output_dir) for item in items) if target.exists()]
    if old:
        logger.warning(f"{len(old)} segmentations that are in {output_dir} will be replaced: {few(old)}.")
    attempts = tqdm(preprocess_ahead(dataset), desc="Segmenting", unit="volume", total=len(items))
    for item, volume in zip(items, attempts, strict=True):
        path = item["image"]
        if isinstance(volume, str):
            failures[path] = volume
            continue
        try:
            output = segment(evaluator, volume)
            labels = output["pred"][0].cpu().to(torch.uint8).numpy()  # which is counted in a tenth of the time
            entropy = output["uncertainty"][0].cpu().numpy() if "uncertainty" in output else None
            target = outputs.path(path, output_dir)
            outputs.save(Segmented(path, labels, class_names if pictures else None, entropy), target)
        except WriteError:  # the next file would fare no better
            logger.error(f"{len(written)} of {len(items)} segmentations were written to {output_dir}.")
            raise
        except Exception as error:  # one bad file must not cost the others
            failures[path] = describe_failure(error, path)
            continue
        written.append(target)
        found = outputs.volumes(volume["image"], labels, class_names)
        if found:
            volumes.append({"segmentation": target.name, **{f"{name}_{UNIT}": value for name, value in found.items()}})
        sure = expected_row(output["expected_dice"], class_names) if "expected_dice" in output else {}
        if sure:
            expected.append({"segmentation": target.name, **sure})
        try:
            doubt = outputs.doubt(volume["image"], labels, path, class_names)
        except Exception as error:  # a remark must not cost a segmentation
            doubt = f"{path}: what the network has seen of it could not be determined ({error})."
        if doubt:
            logger.warning(doubt)
            doubts.append(doubt)
        if pictures:
            try:
                page.add(path, labels, entropy, found, sure, doubt)
            except Exception as error:  # nor must the page
                logger.warning(f"{path}: not in {FILE}, since its slices could not be drawn ({error}).")
    if volumes:
        write_table(Path(output_dir, VOLUMES), volumes, list(volumes[0]))
    if expected:
        expected.sort(key=lambda row: row["mean"])
        write_table(Path(output_dir, EXPECTED_DICE), expected, list(expected[0]))
        logger.info(f"Least sure is {expected[0]['segmentation']}; {output_dir}/{EXPECTED_DICE} has all by that.")
    if pictures:
        page.write(Path(output_dir), settings or {}, failures)
    elif written:
        Path(output_dir, FILE).unlink(missing_ok=True)  # of other segmentations
    logger.info(f"Wrote {len(written)} of {len(items)} segmentations to {output_dir}.")
    if doubts:
        logger.warning("\n".join([f"{len(doubts)} of {len(written)} segmentations are doubtful:", *doubts]))
    if failures:
        logger.error("\n".join([f"{len(failures)} of {len(items)} files could not be segmented:", *failures.values()]))
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
