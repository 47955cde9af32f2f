"""Files around the phantoms: NIfTI with a chosen header, copies in other orientations, split files."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

_ANATOMICAL_AXIS = {"L": 0, "R": 0, "P": 1, "A": 1, "S": 2, "I": 2}


def write_nifti(array: NDArray, affine: NDArray, path: str | os.PathLike[str], codes: tuple[int, int] = (1, 1)) -> None:
    """Write a NIfTI file of millimetres.

    Args:
        array: three spatial axes, then channels if there are any.
        affine: 4 x 4.
        path: the file to write.
        codes: of qform and sform: 0 unknown, 1 scanner, 2 aligned.
    """
    image = nib.Nifti1Image(array, affine)
    image.set_qform(affine, code=codes[0])
    image.set_sform(affine, code=codes[1])
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


def reoriented(image: nib.Nifti1Image, axcodes: str) -> nib.Nifti1Image:
    """Return an image with its array axes in these directions, such as "LPS"; no voxel moves in the patient."""
    current, wanted = nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(axcodes)
    return image.as_reoriented(nib.orientations.ornt_transform(current, wanted))


def write_phantom_splits(
    path: str | os.PathLike[str], ids: Sequence[str], num_pretrain: int, num_labelled: Sequence[int] = (1, 2)
) -> None:
    """Write a split file for some patients, in the form that `common.data.splits` reads.

    In the order of `ids`: the patients to pre-train on, one for validation, and the rest for the test. The labelled
    ones of a draw are the first of those to pre-train on. Each number of labelled patients has one draw, c1.

    Args:
        path: the file to write.
        ids: the ids of all patients.
        num_pretrain: number of patients to pre-train on.
        num_labelled: the numbers of labelled patients to make a draw for.

    Raises:
        ValueError: if there are too few patients for one each in validation and test, or for the labelled ones.
    """
    if not 1 <= num_pretrain <= len(ids) - 2:
        raise ValueError(
            f"num_pretrain must leave one patient each for validation and test out of {len(ids)}, got {num_pretrain}; "
            "make more patients or pre-train on fewer."
        )
    if not num_labelled or min(num_labelled) < 1 or max(num_labelled) > num_pretrain:
        raise ValueError(f"num_labelled must be numbers from 1 to num_pretrain={num_pretrain}, got {num_labelled}.")
    pretrain, validation, test = ids[:num_pretrain], ids[num_pretrain], ids[num_pretrain + 1 :]
    content = {
        "source": "phantom patients",
        "pretrain": list(pretrain),
        "test": list(test),
        "draws": {
            str(number): {"c1": {"labelled": list(pretrain[:number]), "validation": [validation]}}
            for number in num_labelled
        },
    }
    Path(path).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_reoriented(source: str | os.PathLike[str], target: str | os.PathLike[str], axcodes: str) -> None:
    """Store a copy of a volume with its array axes in another order or direction.

    The affine changes with the array, so that every voxel stays where it is in the patient.

    Args:
        source: the NIfTI file to copy.
        target: the NIfTI file to write.
        axcodes: the direction each array axis is to run in, for example "RAS" or "PSL".

    Raises:
        ValueError: if `axcodes` does not name three different anatomical axes.
    """
    if sorted(_ANATOMICAL_AXIS.get(code, -1) for code in axcodes) != [0, 1, 2]:
        raise ValueError(f"axcodes must have one of L and R, one of A and P and one of S and I, got {axcodes!r}.")
    image = nib.load(source)
    copy = reoriented(image, axcodes)
    codes = int(image.header["qform_code"]), int(image.header["sform_code"])
    write_nifti(np.asanyarray(copy.dataobj), copy.affine, target, codes)
