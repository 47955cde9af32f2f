"""Lists of the volumes in a dataset folder, read from the layout the dataset is distributed in.

The volumes are those of the experiments of Chaitanya, Erdil, Karani and Konukoglu, "Contrastive learning of global and
local features for medical image segmentation with limited annotations", NeurIPS 2020, arXiv 2006.10511, section 4; for
other datasets there are a layout of folders and a datalist in JSON. A datalist has one dictionary for each volume: its
id, the path of its image and, where there is one, of its label. Which volume serves for what is not decided here but by
the split file, see `splits`.

This is the only module of the package that knows how the files of a dataset are called. Files and folders whose names
begin with a dot are passed over everywhere, also the `._*` that macOS puts into archives.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.data import load_decathlon_datalist

logger = logging.getLogger(__name__)

_SUFFIXES = (".nii.gz", ".nii")
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


class DatasetError(FileNotFoundError):
    """A dataset folder is missing or does not hold the files that its layout prescribes.

    Args:
        message: what is wrong and what to do.
        usable: the items that nothing is wrong with.
    """

    def __init__(self, message: str, usable: Sequence[_Item] = ()) -> None:
        super().__init__(message)
        self.usable = list(usable)


def acdc(dataset_dir: str | os.PathLike[str]) -> list[_Item]:
    """List the end-diastolic volumes of ACDC (Automated Cardiac Diagnosis Challenge, 2017).

    A patient's volume is the file tagged `frame01`, else `frame04`, else the frame that `Info.cfg` names as
    end-diastolic (`ED`). Other frames, the 4-D files and files of other programs are passed over, and so is a
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

    root = _root(dataset_dir, is_root)
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
    return _without(problems, items)


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
    try:
        items, problem = image_label_folders(dataset_dir), ""
    except DatasetError as error:
        if not error.usable:
            raise
        items, problem = error.usable, str(error)
    root = Path(items[0]["image"]).parents[1]
    index = root / _MSD_INDEX
    if not index.is_file():
        logger.info(f"{root} has no {_MSD_INDEX}; its channels and labels are taken to be those of MSD Task05.")
        return _without([problem], items)
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
            f"{index} lists {len(missing)} files that are not there: {_few(missing)}. Unpack the archive again."
        )
    return _without(problems, items)


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
        found = [file for subfolder in _MMWHS_SUBFOLDERS for file in _nifti_in(root / subfolder)]
        matches = [(_MMWHS_FILE.fullmatch(_stem(file)), file) for file in found]
        return [(match, file) for match, file in matches if match]

    def is_root(folder: Path) -> bool:
        return any(match[0].startswith("mr_train") and match[2] == "image" for match, _ in files(folder))

    root = _root(dataset_dir, is_root)
    if root is None:
        raise DatasetError(
            "dataset_dir must hold the MR training volumes of MM-WHS (mr_train/mr_train_1001_image.nii.gz and "
            f"..._label.nii.gz), got {os.fspath(dataset_dir)!r}{_no_folder(dataset_dir)}. Set dataset_dir to the "
            "folder that mr_train was unpacked to; the data is at https://zmiclab.github.io/zxh/0/mmwhs/."
        )
    images, labels = (
        [(match[1], file) for match, file in files(root) if match[2] == kind] for kind in ("image", "label")
    )
    return _pair(images, labels)


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
    root = _root(dataset_dir, _has_images)
    if root is None:
        raise DatasetError(
            f"dataset_dir must hold a folder {_IMAGES} with NIfTI files, got {os.fspath(dataset_dir)!r}"
            f"{_no_folder(dataset_dir)}. Set dataset_dir to the folder that has {_IMAGES} and {_LABELS} in it."
        )
    images, labels = (
        [(_stem(file), file) for name in names for file in _nifti_in(root / name)]
        for names in ((_IMAGES, _UNLABELLED), (_LABELS,))
    )
    return _pair(images, labels)


def further_image_ids(dataset_dir: str | os.PathLike[str], number: int) -> list[str]:
    """Return the ids of the first volumes of `imagesTs` (see `image_label_folders`), to pre-train on as well.

    Args:
        dataset_dir: the folder that holds `imagesTs`, or a folder with such a folder in it. It need not exist.
        number: how many, counted in the order of their names.

    Returns:
        Fewer ids, or none, if there are not that many. The log says how many there are.
    """
    root = _root(dataset_dir, _has_images)
    if root is None:
        return []
    ids = [_stem(file) for file in _nifti_in(root / _UNLABELLED)][:number]
    logger.info(f"{len(ids)} of {number} further volumes to pre-train on are in {root / _UNLABELLED}: {_few(ids)}.")
    return ids


def images_beside(items: Iterable[Mapping[str, str]], number: int) -> list[_Item]:
    """List images and further ones that lie in the same folders, such as the studies that nobody has labelled yet.

    A folder that holds a label as well is passed over: what else is in it need not be an image.

    Args:
        items: with the paths "image" and, if there is one, "label".
        number: how many images at most.

    Returns:
        Items with an image only: the given ones, then NIfTI files ordered by path; none if all folders are passed over.
        The log says which they are.
    """
    items = list(items)
    given = [Path(item["image"]) for item in items]
    with_labels = {Path(item["label"]).parent for item in items if "label" in item}
    folders = sorted({path.parent for path in given} - with_labels)
    further = [file for folder in folders for file in _nifti_in(folder) if file not in given]
    found = [*(path for path in given if path.parent in folders), *further][:number]
    if found:
        logger.info(f"{len(found)} images are read without labels, those given and others beside them: {_few(found)}.")
    return [{"id": _stem(path), "image": str(path)} for path in found]


def json_datalist(dataset_dir: str | os.PathLike[str]) -> list[_Item]:
    """List the volumes of a datalist in MONAI's JSON format (that of the Medical Segmentation Decathlon).

    The sections "training", "validation" and "test" of the file are put together, since the split file decides which
    volume serves for what. Paths are relative to the file. An item's id is its "id" if it has one, else the name of its
    image without suffix; other entries, such as "fold", are passed over.

    Args:
        dataset_dir: the folder that holds `datalist.json` or, in its absence, `dataset.json`.

    Returns:
        One item for each volume, ordered by id: `{"id": name, "image": path, "label": path}`, without `"label"` where
        there is none.

    Raises:
        DatasetError: if there is no such file or it is no datalist, two items have one id, or a file is not there.
    """
    index = next((path for name in _JSON_NAMES if (path := Path(dataset_dir, name)).is_file()), None)
    if index is None:
        raise DatasetError(
            f"dataset_dir must hold a datalist, {' or '.join(_JSON_NAMES)}, got {os.fspath(dataset_dir)!r}"
            f"{_no_folder(dataset_dir)}. Write one as MONAI's load_decathlon_datalist reads it."
        )
    sections = [section for section in _JSON_SECTIONS if _json(index).get(section)]
    try:
        entries = [entry for section in sections for entry in load_decathlon_datalist(index, True, section)]
        images, labels = (
            [(str(entry.get("id", _stem(Path(entry["image"])))), Path(entry[key])) for entry in entries if key in entry]
            for key in ("image", "label")
        )
    except (TypeError, KeyError, AttributeError) as error:
        raise DatasetError(
            f"{index} must have items with an image, and a label if there is one, each the path of one file "
            f"({type(error).__name__}: {error}). Write it as MONAI's load_decathlon_datalist reads it."
        ) from error
    if not images:
        raise DatasetError(f"{index} must list volumes in {' or '.join(_JSON_SECTIONS)}, got none. Add them.")
    missing = {path for _, path in (*images, *labels) if not path.is_file()}
    problems = [
        f"{path} is not there, but {index} lists it. Copy it, or take the item out." for path in sorted(missing)
    ]
    incomplete = {name for name, path in (*images, *labels) if path in missing}
    images, labels = ([(name, path) for name, path in files if name not in incomplete] for files in (images, labels))
    return _pair(images, labels, problems)


def nifti_files(path: str | os.PathLike[str]) -> list[_Item]:
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
        files = _nifti_in(path)
    else:
        raise DatasetError(f"input must be a NIfTI file or a folder of them, got {str(path)!r}, which does not exist.")
    if not files:
        raise DatasetError(
            f"input must hold files that end in .nii.gz or .nii, got the folder {str(path)!r} without any."
        )
    items = [{"id": _stem(file), "image": str(file)} for file in files]
    names = [item["id"] for item in items]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DatasetError(f"input must have each name once, got {', '.join(repeated)} with two suffixes in {path}.")
    return items


def _root(dataset_dir: str | os.PathLike[str], is_root: Callable[[Path], bool]) -> Path | None:
    """Return the folder in which a dataset lies: the given one, or the one below it that can be it; else None.

    Archives are often unpacked into a folder of their own name, and then lie one level deeper than expected.

    Raises:
        DatasetError: if several folders below can be it.
    """
    given = Path(dataset_dir)
    if is_root(given):
        return given
    below = sorted(path for path in given.iterdir() if path.is_dir()) if given.is_dir() else []
    roots = [folder for folder in below if not folder.name.startswith(".") and is_root(folder)]
    if len(roots) > 1:
        raise DatasetError(
            f"dataset_dir must hold one dataset, got {os.fspath(dataset_dir)!r} with {_few(roots)}. Set dataset_dir to "
            "one of them."
        )
    if not roots:
        return None
    logger.warning(f"The dataset lies one level deeper than dataset_dir says: {roots[0]} is used.")
    return roots[0]


def _pair(images: _Files, labels: _Files, problems: Iterable[str] = ()) -> list[_Item]:
    """Put images and labels of the same id together, ordered by id; an id must be there once, with an image."""
    problems = list(problems)
    repeated: set[str] = set()
    for kind, files in (("image", images), ("label", labels)):
        names = [name for name, _ in files]
        for name in sorted({name for name in names if names.count(name) > 1}):
            paths = [path for own, path in files if own == name]
            problems.append(f"{_few(paths)} have one id, {name}, but a volume has one {kind}. Keep one of them.")
            repeated.add(name)
    label_of = dict(labels)
    names = [name for name, _ in images]
    for name, path in sorted(label_of.items()):
        if name not in names:
            problems.append(f"{path} is a label without an image of the id {name}. Add the image, or remove the label.")
    items = [
        {"id": name, "image": str(path), **({"label": str(label_of[name])} if name in label_of else {})}
        for name, path in sorted(images)
        if name not in repeated
    ]
    return _without(problems, items)


def _without(problems: Iterable[str], items: list[_Item]) -> list[_Item]:
    """Return the items if there is no problem.

    Raises:
        DatasetError: with all problems, and the items as those that can be used.
    """
    if message := _lines(problems):
        raise DatasetError(message, items)
    return items


def _lines(messages: Iterable[str]) -> str:
    return "\n".join(message for message in messages if message)


def _few(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values[:10])) + (", ..." if len(values) > 10 else "")


def _no_folder(dataset_dir: str | os.PathLike[str]) -> str:
    return "" if os.path.isdir(dataset_dir) else " (no such folder)"


def _has_images(root: Path) -> bool:
    return bool(_nifti_in(root / _IMAGES))


def _nifti_in(folder: Path) -> list[Path]:
    """Return the NIfTI files directly in a folder, ordered by name; none if it does not exist."""
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if file.name.endswith(_SUFFIXES) and not file.name.startswith("."))


def _stem(file: Path) -> str:
    return file.name.removesuffix(".gz").removesuffix(".nii")


def _json(path: Path) -> dict[str, Any]:
    """Read a JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
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
