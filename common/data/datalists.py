"""Lists of the volumes in a dataset folder, read from the layout the dataset is distributed in.

The volumes are those of the experiments of Chaitanya, Erdil, Karani and Konukoglu, "Contrastive learning of global and
local features for medical image segmentation with limited annotations", NeurIPS 2020, arXiv 2006.10511, section 4. A
datalist has one dictionary for each volume: its id, the path of its image and, where there is one, of its label. Which
volume serves for what is not decided here but by the split file, see `splits`.

This is the only module of the package that knows how the files of a dataset are called.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

_SUFFIXES = (".nii.gz", ".nii")
_ACDC_PATIENT = re.compile(r"patient\d{3}")
_ACDC_SUBFOLDERS = ("", "training", "database/training")
_ACDC_FRAMES = ("01", "04")  # end-diastole is frame 4 in patient090 and frame 1 in all other training patients
_ACDC_END_DIASTOLE = re.compile(r"^\s*ED\s*:\s*(\d+)\s*$", re.MULTILINE)


class DatasetError(FileNotFoundError):
    """A dataset folder is missing or does not hold the files that its layout prescribes."""


def acdc(dataset_dir: str | os.PathLike[str]) -> list[dict[str, str]]:
    """List the end-diastolic volumes of ACDC (Automated Cardiac Diagnosis Challenge, 2017).

    A patient's volume is the file tagged `frame01`, else `frame04`, else the frame that `Info.cfg` names as
    end-diastolic (`ED`). Other frames, the 4-D files and files of other programs are passed over, and so is a
    `testing` folder: the paper takes its test patients from the 100 training patients.

    Args:
        dataset_dir: the folder that holds `patient001` and so on, or a folder that has them in `training` or in
            `database/training`. The first of these three places with patients in it is used.

    Returns:
        One item for each patient, ordered by id: `{"id": "patient001", "image": path, "label": path}`. A patient
        without a label has no `"label"` key.

    Raises:
        DatasetError: if no patient folder is found, or a patient folder has no end-diastolic volume.
    """
    tried = [Path(dataset_dir, subfolder) for subfolder in _ACDC_SUBFOLDERS]
    for folder in tried:
        if patients := _acdc_patients(folder):
            return [_acdc_item(patient) for patient in patients]
    places = ", ".join(f"{folder}{'' if folder.is_dir() else ' (no such folder)'}" for folder in tried)
    raise DatasetError(
        f"dataset_dir must hold the patient folders of ACDC (patient001, patient002, ...), got "
        f"{os.fspath(dataset_dir)!r}; looked in {places}. Set dataset_dir to the unpacked ACDC folder, or download the "
        "data from https://www.creatis.insa-lyon.fr/Challenge/acdc/."
    )


def nifti_files(path: str | os.PathLike[str]) -> list[dict[str, str]]:
    """List one NIfTI file, or those directly in a folder.

    Args:
        path: a file, whatever its name, or a folder. In a folder, names that begin with a dot and names that do not end
            in .nii.gz or .nii are passed over.

    Returns:
        One item for each file, ordered by name: `{"id": name without suffix, "image": path}`.

    Raises:
        DatasetError: if the path does not exist, the folder has no NIfTI file, or two files differ in the suffix only,
            so that their segmentations would have one name.
    """
    path = Path(path)
    if path.is_file():
        files = [path]
    elif path.is_dir():
        files = sorted(
            file for file in path.iterdir() if file.name.endswith(_SUFFIXES) and not file.name.startswith(".")
        )
    else:
        raise DatasetError(f"input must be a NIfTI file or a folder of them, got {str(path)!r}, which does not exist.")
    if not files:
        raise DatasetError(
            f"input must hold files that end in .nii.gz or .nii, got the folder {str(path)!r} without any."
        )
    items = [{"id": file.name.removesuffix(".gz").removesuffix(".nii"), "image": str(file)} for file in files]
    names = [item["id"] for item in items]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DatasetError(f"input must have each name once, got {', '.join(repeated)} with two suffixes in {path}.")
    return items


def _acdc_patients(folder: Path) -> list[Path]:
    """Return the patient folders directly below a folder, ordered by name; none if it does not exist."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _ACDC_PATIENT.fullmatch(path.name) and path.is_dir())


def _acdc_item(patient: Path) -> dict[str, str]:
    """Return the datalist item of one patient folder."""
    frames = list(dict.fromkeys([*_ACDC_FRAMES, *_acdc_end_diastole(patient)]))
    for frame in frames:
        stem = f"{patient.name}_frame{frame}"
        if image := _nifti(patient, stem):
            label = _nifti(patient, f"{stem}_gt")
            item = {"id": patient.name, "image": str(image)}
            return item | {"label": str(label)} if label else item
    raise DatasetError(
        f"{patient} must hold its end-diastolic volume, {patient.name}_frameNN.nii.gz or .nii with NN one of "
        f"{', '.join(frames)} (also the frame that Info.cfg gives as ED counts), got none of them. Unpack this patient "
        "again, or remove its folder."
    )


def _acdc_end_diastole(patient: Path) -> list[str]:
    """Return the number of the end-diastolic frame that `Info.cfg` names, as two digits; nothing if it names none."""
    info = patient / "Info.cfg"
    text = info.read_text(encoding="utf-8", errors="replace") if info.is_file() else ""
    return [f"{int(number):02d}" for number in _ACDC_END_DIASTOLE.findall(text)]


def _nifti(folder: Path, stem: str) -> Path | None:
    """Return the NIfTI file of this name, compressed or not, or None if there is none."""
    paths = (folder / f"{stem}{suffix}" for suffix in _SUFFIXES)
    return next((path for path in paths if path.is_file()), None)
