"""Lists of the volumes in a dataset folder, read from the layout the dataset is distributed in.

The volumes are those of the experiments of Chaitanya, Erdil, Karani and Konukoglu, "Contrastive learning of global and
local features for medical image segmentation with limited annotations", NeurIPS 2020, arXiv 2006.10511, section 4; for
other datasets there are a layout of folders and a datalist in JSON. A datalist has one dictionary for each volume: its
id, the path of its image and, where there is one, of its label. Which volume serves for what is not decided here but by
the split file, see `splits`.

This is the only module of the package that knows how the files of a dataset are called. Which files are volumes at all
is said in `volume_files`.
"""

from __future__ import annotations

import json
import logging
import os
import re
from pathlib import Path
from typing import Any

from .pairing import dataset_root, no_folder, pair, usable
from .volume_files import DatasetError, few, stem, volume_called, volumes_in

logger = logging.getLogger(__name__)

_ACDC_PATIENT = re.compile(r"patient\d{3}")
_ACDC_SUBFOLDERS = ("", "training", "database/training")
_ACDC_FRAMES = ("01", "04")  # end-diastole is frame 4 in patient090 and frame 1 in all other training patients
_ACDC_END_DIASTOLE = re.compile(r"^\s*ED\s*:\s*(\d+)\s*$", re.MULTILINE)
_IMAGES, _LABELS, _UNLABELLED = "imagesTr", "labelsTr", "imagesTs"
_MSD_INDEX = "dataset.json"
_MSD_PROSTATE = {"modality": {"0": "T2"}, "labels": {"0": "background", "1": "PZ", "2": "TZ"}}
_MMWHS_FILE = re.compile(r"(mr_(?:train|test)_\d{4})_(image|label)")
_MMWHS_SUBFOLDERS = ("", "mr_train", "mr_test")
_JSON_NAMES = ("datalist.json", _MSD_INDEX)
_JSON_SECTIONS = ("training", "validation", "test")

_Item = dict[str, str]
_Files = list[tuple[str, Path]]  # id and path of each file


def acdc(dataset_dir: str | os.PathLike[str]) -> list[_Item]:
    """List the end-diastolic volumes of ACDC (Automated Cardiac Diagnosis Challenge, 2017).

    A patient's volume is the file tagged `frame01`, else `frame04`, else the frame that `Info.cfg` names as
    end-diastolic (`ED`). Other frames, the 4-D files and files of other programs are ignored, and so is a
    `testing` folder: the paper takes its test patients from the 100 training patients.

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

    def patients(root: Path) -> list[Path]:
        return next(filter(None, (_acdc_patients(root / subfolder) for subfolder in _ACDC_SUBFOLDERS)), [])

    def is_root(folder: Path) -> bool:
        return (folder.name != "testing" or folder == Path(dataset_dir)) and bool(patients(folder))

    root = dataset_root(dataset_dir, is_root)
    if root is None:
        tried = [Path(dataset_dir, subfolder) for subfolder in _ACDC_SUBFOLDERS]
        places = ", ".join(f"{folder}{'' if folder.is_dir() else ' (no such folder)'}" for folder in tried)
        raise DatasetError(
            f"dataset_dir must hold the patient folders of ACDC (patient001, patient002, ...), got "
            f"{os.fspath(dataset_dir)!r}; looked in {places}. Set dataset_dir to the unpacked ACDC folder, or download "
            "the data from https://www.creatis.insa-lyon.fr/Challenge/acdc/."
        )
    items: list[_Item] = []
    problems: list[str] = []
    for patient in patients(root):
        try:
            items.append(_acdc_item(patient))
        except DatasetError as error:
            problems.append(str(error))
    return usable(problems, items)


def msd_prostate(dataset_dir: str | os.PathLike[str]) -> list[_Item]:
    """List the volumes of task 5, prostate, of the Medical Segmentation Decathlon (MSD, 2018).

    The folders are those of `image_label_folders`. The archive's `dataset.json` must say what this dataset has: T2 as
    the first channel, background, peripheral zone and transition zone as 0, 1 and 2. The training volumes and labels
    that it lists must be there. Without that file the folders decide, and channels and labels are taken to be these.

    Args:
        dataset_dir: the unpacked archive, `Task05_Prostate`, or a folder that holds it.

    Returns:
        One item for each volume, ordered by id: `{"id": "prostate_00", "image": path, "label": path}`; no `"label"` key
        for the volumes of `imagesTs`, and for others whose label is not there.

    Raises:
        DatasetError: see `image_label_folders`; also if `dataset.json` says something else.
    """
    root = _images_root(dataset_dir)
    try:
        items, problem = _image_label_items(root), ""
    except DatasetError as error:
        items, problem = error.usable, str(error)
    index = root / _MSD_INDEX
    if not index.is_file():
        logger.info(f"{root} has no {_MSD_INDEX}; its channels and labels are taken to be those of MSD Task05.")
        return usable([problem], items)
    content = _json(index)
    for key, expected in _MSD_PROSTATE.items():
        found = content.get(key)
        if not isinstance(found, dict) or any(found.get(number) != name for number, name in expected.items()):
            raise DatasetError(
                f"{index} must be that of MSD Task05, with {expected} in {key!r}, got {found!r}. Set dataset_dir to "
                "the unpacked Task05_Prostate; for another dataset use its own datalist."
            )
    listed = [path for pair in content.get("training", []) if isinstance(pair, dict) for path in pair.values()]
    problems = [problem]
    if missing := [path for path in listed if not (root / path).is_file()]:
        problems.append(
            f"{index} lists {len(missing)} files that are not there: {few(missing)}. Unpack the archive again."
        )
    return usable(problems, items)


def mmwhs(dataset_dir: str | os.PathLike[str]) -> list[_Item]:
    """List the MR volumes of MM-WHS (Multi-Modality Whole Heart Segmentation, 2017).

    Args:
        dataset_dir: the folder that holds `mr_train` and, if wanted, `mr_test`, or the folder of the files themselves,
            `mr_train_1001_image.nii.gz`, `mr_train_1001_label.nii.gz` and so on; also one level deeper.

    Returns:
        One item for each volume, ordered by id: `{"id": "mr_train_1001", "image": path, "label": path}`; no `"label"`
        key where there is no label, as in `mr_test`.

    Raises:
        DatasetError: if there is no training image, two files have one id, or a label has no image.
    """

    def files(root: Path) -> list[tuple[re.Match[str], Path]]:
        found = [file for subfolder in _MMWHS_SUBFOLDERS for file in volumes_in(root / subfolder)]
        matches = [(_MMWHS_FILE.fullmatch(stem(file)), file) for file in found]
        return [(match, file) for match, file in matches if match]

    def is_root(folder: Path) -> bool:
        return any(match[0].startswith("mr_train") and match[2] == "image" for match, _ in files(folder))

    root = dataset_root(dataset_dir, is_root)
    if root is None:
        raise DatasetError(
            "dataset_dir must hold the MR training volumes of MM-WHS (mr_train/mr_train_1001_image.nii.gz and "
            f"..._label.nii.gz), got {os.fspath(dataset_dir)!r}{no_folder(dataset_dir)}. Set dataset_dir to the "
            "folder that mr_train was unpacked to; the data is at https://zmiclab.github.io/zxh/0/mmwhs/."
        )
    images, labels = (
        [(match[1], file) for match, file in files(root) if match[2] == kind] for kind in ("image", "label")
    )
    return pair(images, labels)


def image_label_folders(dataset_dir: str | os.PathLike[str]) -> list[_Item]:
    """List the volumes of a dataset in the folders `imagesTr`, `labelsTr` and `imagesTs`.

    A volume's id is the name of its file without suffix; its label has the same name. `labelsTr` may have fewer files
    than `imagesTr`; it and `imagesTs`, further images without labels, may be missing.

    Args:
        dataset_dir: the folder that holds these, or a folder with such a folder in it.

    Returns:
        One item for each volume, ordered by id: `{"id": name, "image": path, "label": path}`, without `"label"` where
        there is none.

    Raises:
        DatasetError: if there is no image in `imagesTr`, two files have one id, or a label has no image.
    """
    return _image_label_items(_images_root(dataset_dir))


def further_image_ids(dataset_dir: str | os.PathLike[str], number: int) -> list[str]:
    """Return the ids of the first volumes of `imagesTs` (see `image_label_folders`), to pre-train on as well.

    Args:
        dataset_dir: the folder that holds `imagesTs`, or a folder with such a folder in it. It need not exist.
        number: how many, counted in the order of their names.

    Returns:
        Fewer ids, or none, if there are not that many. The log says how many there are.
    """
    root = dataset_root(dataset_dir, _has_images)
    if root is None:
        return []
    ids = [stem(file) for file in volumes_in(root / _UNLABELLED)][:number]
    logger.info(f"{len(ids)} of {number} further volumes to pre-train on are in {root / _UNLABELLED}: {few(ids)}.")
    return ids


def json_datalist(dataset_dir: str | os.PathLike[str]) -> list[_Item]:
    """List the volumes of a datalist in MONAI's JSON format (that of the Medical Segmentation Decathlon).

    The sections "training", "validation" and "test" of the file are put together, since the split file decides which
    volume serves for what. Paths are relative to the file. An item's id is its "id" if it has one, else the name of its
    image without suffix; other entries, such as "fold", are ignored.

    Args:
        dataset_dir: the folder that holds `datalist.json` or, in its absence, `dataset.json`.

    Returns:
        One item for each volume, ordered by id: `{"id": name, "image": path, "label": path}`, without `"label"` where
        there is none.

    Raises:
        DatasetError: if there is no such file or it is no datalist, two items have one id, or a file is not there.
    """
    index = _index(dataset_dir)
    if index is None:
        raise DatasetError(
            f"dataset_dir must hold a datalist, {' or '.join(_JSON_NAMES)}, got {os.fspath(dataset_dir)!r}"
            f"{no_folder(dataset_dir)}. Write one as MONAI's load_decathlon_datalist reads it."
        )
    images, labels = (_listed(index, key) for key in ("image", "label"))
    if not images:
        raise DatasetError(f"{index} must list volumes in {' or '.join(_JSON_SECTIONS)}, got none. Add them.")
    missing = {path for _, path in (*images, *labels) if not path.is_file()}
    problems = [
        f"{path} is not there, but {index} lists it. Copy it, or take the item out." for path in sorted(missing)
    ]
    incomplete = {name for name, path in (*images, *labels) if path in missing}
    images, labels = ([(name, path) for name, path in files if name not in incomplete] for files in (images, labels))
    return pair(images, labels, problems)


def listed_labels(folder: Path) -> set[Path]:
    """Return the labels that a datalist in a folder lists (see `json_datalist`); none if there is no valid one."""
    index = _index(folder)
    try:
        return {path for _, path in _listed(index, "label")} if index else set()
    except DatasetError:  # that of another program
        return set()


def _index(folder: str | os.PathLike[str]) -> Path | None:
    return next((path for name in _JSON_NAMES if (path := Path(folder, name)).is_file()), None)


def _listed(index: Path, key: str) -> _Files:
    """Return the images or labels of a datalist in JSON.

    Read here and not by MONAI's `load_decathlon_datalist`, which cannot read a file with a byte-order mark, and takes
    an id for a path if a file is called like it.
    """
    content = _json(index)
    try:
        found = []
        for section in _JSON_SECTIONS:
            for entry in content.get(section) or []:
                item = {"image": entry} if section == "test" and isinstance(entry, str) else entry
                name = str(item.get("id", stem(item["image"])))
                if key in item:
                    found.append((name, Path(os.path.normpath(index.parent / item[key]))))
        return found
    except (TypeError, KeyError, AttributeError) as error:
        raise DatasetError(
            f"{index} must have items with an image, and a label if there is one, each the path of one file "
            f"({type(error).__name__}: {error}). Write it as MONAI's load_decathlon_datalist reads it."
        ) from error


def _images_root(dataset_dir: str | os.PathLike[str]) -> Path:
    """Return the folder that has `imagesTr` in it."""
    root = dataset_root(dataset_dir, _has_images)
    if root is None:
        raise DatasetError(
            f"dataset_dir must hold a folder {_IMAGES} with NIfTI files, got {os.fspath(dataset_dir)!r}"
            f"{no_folder(dataset_dir)}. Set dataset_dir to the folder that has {_IMAGES} and {_LABELS} in it."
        )
    return root


def _image_label_items(root: Path) -> list[_Item]:
    images, labels = (
        [(stem(file), file) for name in names for file in volumes_in(root / name)]
        for names in ((_IMAGES, _UNLABELLED), (_LABELS,))
    )
    return pair(images, labels)


def _has_images(root: Path) -> bool:
    return bool(volumes_in(root / _IMAGES))


def _json(path: Path) -> dict[str, Any]:
    """Read a JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))  # with or without a byte-order mark
    except ValueError as error:  # not JSON, or not text
        raise DatasetError(f"{path} must be valid JSON: {error}. Replace it by the one of the archive.") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{path} must hold a JSON object, got {type(content).__name__}. Replace it.")
    return content


def _acdc_patients(folder: Path) -> list[Path]:
    """Return the patient folders directly below a folder, ordered by name; none if it does not exist."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _ACDC_PATIENT.fullmatch(path.name) and path.is_dir())


def _acdc_item(patient: Path) -> _Item:
    """Return the datalist item of one patient folder."""
    frames = list(dict.fromkeys([*_ACDC_FRAMES, *_acdc_end_diastole(patient)]))
    for frame in frames:
        stem = f"{patient.name}_frame{frame}"
        if image := volume_called(patient, stem):
            label = volume_called(patient, f"{stem}_gt")
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
