"""A MONAI Deploy application: a DICOM study in, a DICOM segmentation out, by a released bundle.

    python app.py --input DICOM_FOLDER --output FOLDER --model dist/bundle_acdc

The model is the folder of a release or the TorchScript in it, `models/model.ts`; both give the same. This file needs
MONAI Deploy and the packages that the bundle's metadata name, and nothing of the repository. See docs/deploy.md.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from monai.deploy.conditions import CountCondition
from monai.deploy.core import AppContext, Application, Image, IOType
from monai.deploy.operators import (
    DICOMDataLoaderOperator,
    DICOMSegmentationWriterOperator,
    DICOMSeriesSelectorOperator,
    DICOMSeriesToVolumeOperator,
    IOMapping,
    ModelInfo,
    MonaiBundleInferenceOperator,
)
from monai.deploy.operators.dicom_seg_writer_operator import SegmentDescription
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

_STRUCTURES = {"RV": codes.SCT.RightVentricle, "Myo": codes.SCT.LeftVentricleMyocardium, "LV": codes.SCT.LeftVentricle}
_ANY_STRUCTURE = codes.SCT.AnatomicalStructure  # one that is not above, under its own name
_CATEGORY = Code("123037004", "SCT", "Anatomical Structure")  # DICOM, CID 7150


class ModelError(ValueError):
    """What `--model` names cannot be used; the message says what is wrong and what to do."""


def bundle_folder(model: Path) -> Path:
    """Return the folder of the release that a model is, or is in.

    Raises:
        ModelError: if it is none, or has no TorchScript of the network.
    """
    folder = model if model.is_dir() else model.parent.parent
    if not (folder / "configs" / "inference.json").is_file() or not (folder / "scripts").is_dir():
        raise ModelError(
            f"--model must be the folder of a released bundle or its models/model.ts, got {str(model)!r}: make one "
            "with `python -m release export bundle_acdc --out dist`. A TorchScript needs the code in the release."
        )
    if not (folder / "models" / "model.ts").is_file():
        raise ModelError(
            f"{folder} has no models/model.ts, so this release came without weights, or it was deleted: train it, then "
            "write one in its folder with `python -m monai.bundle ckpt_export --config_file configs/inference.json`."
        )
    return folder


def segments(metadata: dict[str, Any]) -> list[SegmentDescription]:
    """Describe the structures that a bundle segments, in the order of their numbers in the label map."""
    names = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    descriptions = []
    for index in range(1, len(names)):
        descriptions.append(
            SegmentDescription(
                segment_label=names[str(index)],
                segmented_property_category=_CATEGORY,
                segmented_property_type=_STRUCTURES.get(names[str(index)], _ANY_STRUCTURE),
                algorithm_name=metadata["name"],
                algorithm_version=metadata["version"],
            )
        )
    return descriptions


class SegmentationApp(Application):
    """Reads a study, takes its first series of images, segments it and writes a DICOM SEG that refers to it."""

    def compose(self) -> None:
        """Connect the operators."""
        context: AppContext = Application.init_app_context(self.argv)
        model = Path(context.model_path).resolve()
        folder = bundle_folder(model)
        if model.is_dir():
            # MONAI Deploy takes a folder for a model of a kind that it cannot run; the operator is to read it.
            context.models = None
        sys.path.insert(0, str(folder))  # of a TorchScript, MONAI Deploy does not look for the bundle's code
        metadata = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))

        once = CountCondition(self, 1)  # or Holoscan would read the same study again without end
        loader = DICOMDataLoaderOperator(self, once, input_folder=Path(context.input_path), name="loader")
        selector = DICOMSeriesSelectorOperator(self, name="selector")
        volume = DICOMSeriesToVolumeOperator(self, name="volume")
        segmentation = MonaiBundleInferenceOperator(
            self,
            app_context=context,
            input_mapping=[IOMapping("image", Image, IOType.IN_MEMORY)],
            output_mapping=[IOMapping("pred", Image, IOType.IN_MEMORY)],
            bundle_path=folder if model.is_dir() else model,
            name="segmentation",
        )
        writer = DICOMSegmentationWriterOperator(
            self,
            segment_descriptions=segments(metadata),
            output_folder=Path(context.output_path),
            model_info=ModelInfo(metadata["authors"], metadata["name"], metadata["version"]),
            name="writer",
        )
        self.add_flow(loader, selector, {("dicom_study_list", "dicom_study_list")})
        self.add_flow(selector, volume, {("study_selected_series_list", "study_selected_series_list")})
        self.add_flow(volume, segmentation, {("image", "image")})
        self.add_flow(segmentation, writer, {("pred", "seg_image")})
        self.add_flow(selector, writer, {("study_selected_series_list", "study_selected_series_list")})


if __name__ == "__main__":
    SegmentationApp().run()
