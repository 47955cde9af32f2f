"""Ejection fractions: which share of what a ventricle holds at end-diastole it has pumped out at end-systole."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from monai.engines import SupervisedEvaluator
from monai.inferers import Inferer
from monai.transforms import Compose
from torch import nn
from tqdm import tqdm

from .data.failures import describe_failure
from .data.pairing import with_ids
from .data.volume_files import DatasetError, few
from .segmentation import segment
from .volumetry import structure_volumes

logger = logging.getLogger(__name__)

_PERCENT = 100.0

Item = dict[str, str]
Volumes = Mapping[str, Mapping[str, float]]
"""Volumes of structures in ml, of "prediction" and "label"."""


class EjectionFractions:
    """Segments the end-systolic frames of evaluated patients, and compares them with their end-diastolic ones.

    Args:
        enabled: whether that is wanted; otherwise nothing is done.
        end_systole: lists the end-systolic frames of a dataset folder by the patient's id, see `datalists`.
        dataset_dir: the dataset's folder.
        items: the evaluated volumes, which are the end-diastolic ones; those without an "id" have that of `with_ids`.
        ventricles: names of the structures that have an ejection fraction.
        class_names: names by class index, the background's first.
        image: the preprocessing of an image.
        labelled: that of an image with its label on the grid of the file.
        network: segments.
        inferer: runs the network on a volume.
        postprocessing: the way back of a prediction.
        device: where that happens.
    """

    def __init__(
        self,
        enabled: bool,
        end_systole: Callable[[str], Mapping[str, Item]],
        dataset_dir: str,
        items: Sequence[Mapping[str, Any]],
        ventricles: Sequence[str],
        class_names: Sequence[str],
        image: Callable[[Any], Any],
        labelled: Callable[[Any], Any],
        network: nn.Module,
        inferer: Inferer,
        postprocessing: Compose,
        device: torch.device | str,
    ) -> None:
        self.enabled = enabled
        self.end_systole = end_systole
        self.dataset_dir = dataset_dir
        self.items = with_ids(items)
        self.ventricles = list(ventricles)
        self.class_names = list(class_names)
        self.image = image
        self.labelled = labelled
        self.network = network
        self.inferer = inferer
        self.postprocessing = postprocessing
        self.device = device
        self._frames: dict[str, Item] = {}

    def prepare(self) -> None:
        """Look for the frames, if they are wanted.

        Raises:
            DatasetError: if no evaluated patient has one.
        """
        if not self.enabled:
            return
        ids = [item["id"] for item in self.items]
        known = self.end_systole(self.dataset_dir)
        self._frames = {id_: known[id_] for id_ in ids if id_ in known}
        if not self._frames:
            raise DatasetError(
                f"ejection_fractions needs the end-systolic frames of evaluated patients, but {self.dataset_dir} has "
                f"none of {few(ids)}. Unpack the whole dataset there, or leave the option out."
            )
        if missing := [id_ for id_ in ids if id_ not in known]:
            logger.info(f"No end-systolic frame, and so no ejection fraction: {few(missing)}.")

    def measure(self, end_diastole: Mapping[str, Volumes]) -> list[dict[str, Any]]:
        """Segment the end-systolic frames one after another.

        Args:
            end_diastole: the volumes in ml at end-diastole of each patient.

        Returns:
            For each patient that has the frame: "id", "frame", and for each ventricle its ejection fraction in per cent
            by prediction and by label, None where that is not known. The log names the frames that cannot be used.
        """
        if not self._frames:
            return []
        evaluator = SupervisedEvaluator(
            device=torch.device(self.device),
            val_data_loader=[],
            network=self.network,
            inferer=self.inferer,
            postprocessing=self.postprocessing,
        )
        rows: list[dict[str, Any]] = []
        failures: list[str] = []
        for id_, item in tqdm(self._frames.items(), desc="Segmenting end-systolic frames", unit="volume"):
            try:
                volume = (self.labelled if "label" in item else self.image)(dict(item))
                labels = segment(evaluator, volume)["pred"].cpu()
                affine = volume["image"].meta["original_affine"]
                found = {"prediction": structure_volumes(labels, self.class_names, affine)}
                if "label" in item:
                    found["label"] = structure_volumes(volume["label"], self.class_names)
            except Exception as error:  # one bad file must not cost the others, nor the evaluation before it
                failures.append(describe_failure(error, item["image"]))
                continue
            row: dict[str, Any] = {"id": id_, "frame": item["id"]}
            for name in self.ventricles:
                for kind in ("prediction", "label"):
                    start, end = (volumes.get(kind, {}).get(name) for volumes in (end_diastole[id_], found))
                    row[f"{name}_{kind}_percent"] = ejection_fraction(start, end)
            rows.append(row)
        if failures:
            logger.warning(
                "\n".join([f"{len(failures)} of {len(self._frames)} end-systolic frames cannot be used:", *failures])
            )
        return rows


def ejection_fraction(end_diastole: float | None, end_systole: float | None) -> float | None:
    """Compute the ejection fraction in per cent from two volumes; None if one is not known or the first is 0."""
    if not end_diastole or end_systole is None:
        return None
    return _PERCENT * (end_diastole - end_systole) / end_diastole
