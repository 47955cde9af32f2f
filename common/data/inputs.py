"""Images that come without a datalist: those to be segmented, and those that are read beside labelled ones.

In a folder every volume is taken for an image unless its name says that it is a label, or it is one by a datalist in
the folder. What a segmentation has written is a label like any other. Files given by their names are always taken.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from .datalists import listed_labels
from .volume_files import DatasetError, entries, few, is_volume, kind_of_pair, partner, stem, volumes_in

logger = logging.getLogger(__name__)

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

_LABEL_NAME = re.compile(r"(^|[_.-])(gt|seg|segmentation|labels?|masks?|uncertainty)$", re.IGNORECASE)
_LABEL_FOLDER = re.compile(r"labels?(Tr|Ts)?", re.IGNORECASE)
_OTHER_FORMATS = re.compile(
    r"\.(nrrd|nhdr|mha|mhd|dcm|dicom|ima|mgz|mgh|mnc|par|rec|v|img|hdr|nii\.(bz2|zst|xz|zip))$", re.IGNORECASE
)


def images(dataset_dir: Paths, second: Paths | None = None) -> list[dict[str, str]]:
    """List the images to be segmented.

    Args:
        dataset_dir: a file, whatever its name, or a folder, of which the volumes directly in it are taken (see
            `volume_files`), or a list of files and folders.
        second: the same under the option's other name, `input`, or None.

    Returns:
        One item for each image, in the order given, those of a folder by name: `{"id": name without suffix, "image":
        path}`. The log says which files of a folder are not among them, and why.

    Raises:
        DatasetError: if a path does not exist, a folder has no image, or two images have one name, and so would their
            segmentations.
        ValueError: if the two names are given different values.
    """
    return list_once(dataset_dir, second, _images, stem)


def list_once(
    dataset_dir: Paths, second: Paths | None, files_of: Callable[[Path], list[Path]], name_of: Callable[[Path], str]
) -> list[dict[str, str]]:
    """List the files to be segmented of one kind, see `images`.

    Args:
        dataset_dir: see `images`.
        second: see `images`.
        files_of: returns the files that are meant by a path.
        name_of: returns the name of a file without its suffix.

    Raises:
        DatasetError: if nothing is given, or two files have one name, and so would their segmentations.
        ValueError: if the two names are given different values.
    """
    if second is not None and second != dataset_dir:
        raise ValueError(
            f"dataset_dir and input are two names for what is segmented, got {dataset_dir!r} and {second!r}. Give one."
        )
    paths = [dataset_dir] if isinstance(dataset_dir, (str, os.PathLike)) else list(dataset_dir)
    found = list(dict.fromkeys(file for path in paths for file in files_of(Path(path))))
    names = [name_of(file) for file in found]
    counts = Counter(names)
    if repeated := [str(file) for file, name in zip(found, names, strict=True) if counts[name] > 1]:
        raise DatasetError(
            f"input must have each name once, since segmentations are called like their images; got {few(repeated)}. "
            "Segment them one after another, each with an output_dir of its own."
        )
    if not found:
        raise DatasetError("input must be a file, a folder or a list of them, got an empty list.")
    return [{"id": name, "image": str(file)} for name, file in zip(names, found, strict=True)]


def images_beside(items: Iterable[Mapping[str, str]], number: int) -> list[dict[str, str]]:
    """List images and further ones that lie in the same folders, such as the studies that nobody has labelled yet.

    A folder that holds a label of the given items as well is ignored: what else is in it need not be an image.

    Args:
        items: with the paths "image" and, if there is one, "label".
        number: how many images at most.

    Returns:
        Items with an image only: the given ones, then others ordered by path; none if all folders are ignored. The log
        says which they are, and which files were left out as labels.
    """
    items = list(items)
    given = [Path(item["image"]) for item in items]
    with_labels = {Path(item["label"]).parent for item in items if "label" in item}
    folders = sorted({path.parent for path in given} - with_labels)
    known = set(given)
    further = [file for folder in folders for file in _without_labels(folder, known) if file not in known]
    found = [*(path for path in given if path.parent in folders), *further][:number]
    if found:
        logger.info(f"{len(found)} images are read without labels, those given and others beside them: {few(found)}.")
    return [{"id": stem(path), "image": str(path)} for path in found]


def _images(path: Path) -> list[Path]:
    """Return what is meant by a path that was given."""
    if path.is_dir():
        found = _without_labels(path)
        others = [entry for entry in entries(path) if _is_of_another_format(entry)]
        if others:
            logger.warning(
                f"{path} has files that are not NIfTI (.nii.gz, .nii, or .hdr with .img) and are left out: "
                f"{few([other.name for other in others])}. Convert them, DICOM for example with dcm2niix."
            )
        if not found:
            raise DatasetError(f"input must be images, got the folder {str(path)!r} without any. {_instead(path)}")
        return found
    if not path.exists():
        raise DatasetError(
            f"input (or dataset_dir) must be a NIfTI file or a folder, got {str(path)!r}, which does not exist."
        )
    if not (kind := kind_of_pair(path)):
        return [path]
    if (other := partner(path)) is None:
        what, suffix = {".hdr": ("voxels", ".img"), ".img": ("header", ".hdr")}[kind]
        raise DatasetError(
            f"{path} must have its {what} {stem(path.with_suffix('.hdr'))}{suffix} beside it. Copy it there."
        )
    return [path if kind == ".hdr" else other]


def _without_labels(folder: Path, given: Collection[Path] = ()) -> list[Path]:
    """Return the images in a folder; the log says which volumes are taken for labels, but for the given ones."""
    listed = {os.path.abspath(label) for label in listed_labels(folder)}
    all_are = bool(_LABEL_FOLDER.fullmatch(folder.name))
    volumes = volumes_in(folder)
    labels = [path for path in volumes if all_are or os.path.abspath(path) in listed or _LABEL_NAME.search(stem(path))]
    if left_out := [path.name for path in labels if path not in given]:
        logger.warning(
            f"{len(left_out)} files of {folder} are left out, which are labels by their names or a datalist: "
            f"{few(left_out)}. If one is an image, give it by its name, or rename it."
        )
    taken = set(labels)
    return [path for path in volumes if path not in taken]


def _is_of_another_format(path: Path) -> bool:
    if not path.is_file() or is_volume(path) or (kind_of_pair(path) == ".img" and partner(path)):
        return False
    if path.suffix:
        return _OTHER_FORMATS.search(path.name) is not None
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _instead(folder: Path) -> str:
    """Say what a folder without images has."""
    found = [f"{entry.name}{os.sep if entry.is_dir() else ''}" for entry in entries(folder)]
    if not found:
        return "It is empty."
    return f"It has {few(found)}. Give a file, or the folder that the files are in."
