"""ACDC as it is distributed: a folder for each patient."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ..pairing import dataset_root, usable
from ..volume_files import DatasetError, stem, volume_called, volumes_in

_PATIENT = re.compile(r"patient\d{3}")
_SUBFOLDERS = ("", "training", "database/training")
_FRAMES = ("01", "04")  # end-diastole is frame 4 in patient090 and frame 1 in all other training patients
_PHASES = {phase: re.compile(rf"^\s*{phase}\s*:\s*(\d+)\s*$", re.MULTILINE) for phase in ("ED", "ES")}

_Item = dict[str, str]


def acdc(dataset_dir: str | os.PathLike[str]) -> list[_Item]:
    """List the end-diastolic volumes of ACDC (Automated Cardiac Diagnosis Challenge, 2017).

    A patient's volume is the file tagged `frame01`, else `frame04`, else the frame that `Info.cfg` names as
    end-diastolic (`ED`). Other frames (see `acdc_further_frames`), the 4-D files and files of other programs are
    ignored, and so is a `testing` folder: the paper takes its test patients from the 100 training patients.

    Args:
        dataset_dir: the folder that holds `patient001` and so on, or a folder that has them in `training` or in
            `database/training`. The first of these three places with patients in it is used; if there is none, the same
            places one level deeper.

    Returns:
        One item for each patient, ordered by id: `{"id": "patient001", "image": path, "label": path}`. A patient
        without a label has no `"label"` key.

    Raises:
        DatasetError: if no patient folder is found, or patient folders have no end-diastolic volume.
    """
    items: list[_Item] = []
    problems: list[str] = []
    for patient in _all_patients(dataset_dir):
        try:
            items.append(_item(patient))
        except DatasetError as error:
            problems.append(str(error))
    return usable(problems, items)


def acdc_further_frames(dataset_dir: str | os.PathLike[str]) -> dict[str, list[_Item]]:
    """List the frames of ACDC's patients that `acdc` does not list, such as the end-systolic ones.

    These are the files `patientXXX_frameYY` in the folder of that patient. Labels (`_gt`), the 4-D files and files that
    name another patient are ignored.

    Args:
        dataset_dir: see `acdc`.

    Returns:
        For each patient that has such frames an item for each of them, ordered by frame, without a label:
        `{"patient001": [{"id": "patient001_frame12", "image": path}]}`.

    Raises:
        DatasetError: if no patient folder is found.
    """
    return {patient.name: frames for patient in _all_patients(dataset_dir) if (frames := _further_frames(patient))}


def acdc_end_systole(dataset_dir: str | os.PathLike[str]) -> dict[str, _Item]:
    """List the end-systolic frames of ACDC's patients, which `acdc` does not list.

    A patient's is the frame that `Info.cfg` names as end-systolic (`ES`); where it names none, the only other frame if
    there is a single one.

    Args:
        dataset_dir: see `acdc`.

    Returns:
        For each patient that has the frame an item, with its label where there is one:
        `{"patient001": {"id": "patient001_frame12", "image": path, "label": path}}`.

    Raises:
        DatasetError: if no patient folder is found.
    """
    return {patient.name: frame for patient in _all_patients(dataset_dir) if (frame := _end_systole(patient))}


def _all_patients(dataset_dir: str | os.PathLike[str]) -> list[Path]:
    """Return the patient folders of a dataset, ordered by name; see `acdc`."""

    def patients(root: Path) -> list[Path]:
        return next(filter(None, (_patients(root / subfolder) for subfolder in _SUBFOLDERS)), [])

    def is_root(folder: Path) -> bool:
        return (folder.name != "testing" or folder == Path(dataset_dir)) and bool(patients(folder))

    root = dataset_root(dataset_dir, is_root)
    if root is None:
        tried = [Path(dataset_dir, subfolder) for subfolder in _SUBFOLDERS]
        places = ", ".join(f"{folder}{'' if folder.is_dir() else ' (no such folder)'}" for folder in tried)
        raise DatasetError(
            f"dataset_dir must hold the patient folders of ACDC (patient001, patient002, ...), got "
            f"{os.fspath(dataset_dir)!r}; looked in {places}. Set dataset_dir to the unpacked ACDC folder, or download "
            "the data from https://www.creatis.insa-lyon.fr/Challenge/acdc/."
        )
    return patients(root)


def _patients(folder: Path) -> list[Path]:
    """Return the patient folders directly below a folder, ordered by name; none if it does not exist."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _PATIENT.fullmatch(path.name) and path.is_dir())


def _item(patient: Path) -> _Item:
    """Return the datalist item of one patient folder."""
    image = _end_diastole(patient)
    if image is None:
        raise DatasetError(
            f"{patient} must hold its end-diastolic volume, {patient.name}_frameNN.nii.gz or .nii with NN one of "
            f"{', '.join(_end_diastolic_frames(patient))} (also the frame that Info.cfg gives as ED counts), got none "
            "of them. Unpack this patient again, or remove its folder."
        )
    label = volume_called(patient, f"{stem(image)}_gt")
    item = {"id": patient.name, "image": str(image)}
    return item | {"label": str(label)} if label else item


def _further_frames(patient: Path) -> list[_Item]:
    """Return an item for each frame of a patient but the end-diastolic one."""
    frames: dict[str, Path] = {}
    for file in volumes_in(patient):
        if re.fullmatch(rf"{patient.name}_frame\d\d", stem(file)):
            frames.setdefault(stem(file), file)  # the same one that `volume_called` takes of two
    if image := _end_diastole(patient):
        frames.pop(stem(image), None)
    return [{"id": name, "image": str(file)} for name, file in sorted(frames.items())]


def _end_systole(patient: Path) -> _Item | None:
    """Return the item of a patient's end-systolic frame, if it is there."""
    frames = {frame["id"]: frame for frame in _further_frames(patient)}
    named = [frames.get(f"{patient.name}_frame{number}") for number in _phase(patient, "ES")]
    found = named[0] if named else next(iter(frames.values())) if len(frames) == 1 else None
    if found is None:
        return None
    label = volume_called(patient, f"{found['id']}_gt")
    return found | {"label": str(label)} if label else found


def _end_diastole(patient: Path) -> Path | None:
    """Return the end-diastolic volume of a patient, if it is there."""
    files = (volume_called(patient, f"{patient.name}_frame{frame}") for frame in _end_diastolic_frames(patient))
    return next(filter(None, files), None)


def _end_diastolic_frames(patient: Path) -> list[str]:
    """Return the numbers that the end-diastolic frame can have, as two digits; the last ones from `Info.cfg`."""
    return list(dict.fromkeys([*_FRAMES, *_phase(patient, "ED")]))


def _phase(patient: Path, phase: str) -> list[str]:
    """Return the numbers that `Info.cfg` gives for a phase, ED or ES, as two digits; none if it has none."""
    info = patient / "Info.cfg"
    text = info.read_text(encoding="utf-8", errors="replace") if info.is_file() else ""
    return [f"{int(number):02d}" for number in _PHASES[phase].findall(text)]
