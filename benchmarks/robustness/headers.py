"""Mutated NIfTI headers: what the header says now must be done, or refused, or warned of.

What a header says is found without the product: nibabel's affine (sform, else qform, else voxel sizes) in millimetres
by `xyzt_units`, and nibabel's voxels. These are written as a plain new file, float32 with one affine in both forms, and
the product's segmentation of that one is the answer expected for the mutated one. Where nibabel finds nothing to read,
or the grid is not one of a body (see `impossible`), only an error or a warning is right.
"""

from __future__ import annotations

import gzip
import hashlib
import warnings
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from .verdicts import Verdict, judge
from .world import TEST_PATIENT, World, answer, volume

FULL = 150
AGREEMENT = 0.98  # share of voxels: the same grid from a quaternion and from rows differs in the last digits
SMALLEST_MM, LARGEST_MM = 0.02, 100.0  # a voxel's edge
SMALLEST_FIELD_MM, LARGEST_FIELD_MM = 5.0, 2000.0  # the longest edge of the volume
_MM_OF_UNIT = {1: 1000.0, 3: 0.001}  # metres and microns; others are taken for millimetres
FIELDS: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("pixdim", (0.0, -1.0, np.nan, np.inf, 1e-30, 1e30, 0.5, 1.01, 3.0, 100.0)),
    ("dim", (0, 1, -1, 2, 3, 32767, -32768, 63, 100)),
    ("xyzt_units", (0, 1, 2, 3, 5, 8, 10, 255)),
    ("sform_code", (0, 1, 2, 4, 5, -1, 99)),
    ("srow", (0.0, np.nan, np.inf, -1.0, 2.0, 1e-30, 1e6, 0.1)),
    ("qform_code", (0, 1, 2, 99, -1)),
    ("quatern_b", (0.0, 1.0, -1.0, 0.5, np.nan, 2.0)),
    ("datatype", (2, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1536, 1792, 2304, 0, 1)),
    ("bitpix", (0, 8, 16, 32, 64, -16)),
    ("scl_slope", (0.0, 1.0, -1.0, 2.0, np.nan, np.inf, 1e-30, 1e30)),
    ("scl_inter", (0.0, 1.0, -1000.0, np.nan, np.inf, 1e30)),
    ("vox_offset", (0.0, 348.0, 352.0, 353.0, 360.0, 1e9, -1.0, np.nan)),
    ("magic", (b"ni1", b"n+2", b"\0\0\0", b"n+1")),
    ("sizeof_hdr", (0, 348, 540, -1, 1543569408)),
    ("qoffset_x", (0.0, 1e6, np.nan, 30.0)),
    ("intent_code", (0, 1, 1007, 2003, -1)),
    ("descrip", (b"changed", b"\xff\xfe", b"")),
    ("cal_max", (0.0, -1.0, np.nan)),
    ("slice_end", (0, -1, 5)),
    ("any byte", ()),
)


def run_case(world: World, index: int, random: np.random.Generator, folder: Path) -> Verdict:
    """Mutate a header and segment the file."""
    world.reference("inference")
    world.start("inference", folder)
    raw = bytearray(gzip.decompress(world.image(TEST_PATIENT).read_bytes()))
    what = mutate(raw, *FIELDS[index % len(FIELDS)], random)
    path = folder / "mutated.nii.gz"
    path.write_bytes(gzip.compress(bytes(raw), 1))
    said = what_is_said(path)
    expected = {} if isinstance(said, str) else _segmented_plainly(world, said)
    ending = world.run("inference", folder, input=path)
    found = answer("inference", folder).get("mutated_seg.nii.gz")
    same = found is not None and bool(found and expected) and agree(found, expected)
    difference = f"{said}, but was segmented" if isinstance(said, str) else "another segmentation than of what is said"
    known = world.reference("inference").ending.warnings
    return judge(ending, same, [path.name], f"inference with {what}", known, difference=difference)


def mutate(raw: bytearray, field: str, values: tuple[Any, ...], random: np.random.Generator) -> str:
    """Change one field of the 348 bytes in place, without nibabel's corrections; return what was done."""
    if field == "any byte":
        byte, bit = int(random.integers(348)), int(random.integers(8))
        raw[byte] ^= 1 << bit
        return f"bit {bit} of header byte {byte} flipped"
    header = nibabel.Nifti1Header(bytes(raw[:348]), check=False)
    value = values[int(random.integers(len(values)))]
    structure = header.structarr
    if field == "srow":
        row, column = int(random.integers(3)), int(random.integers(4))
        field = f"srow_{'xyz'[row]}"
        before = structure[field].copy()
        structure[field][column] = before[column] * value if np.isfinite(value) and value else value
        place = f"{field}[{column}]"
    elif structure[field].ndim:
        column = int(random.integers(0 if field == "dim" else 1, 5 if field == "dim" else 4))
        structure[field][column] = value
        place = f"{field}[{column}]"
    else:
        structure[field] = value
        place = field
    raw[:348] = header.binaryblock
    return f"{place} = {structure[field].tolist()!r}"


def what_is_said(path: Path) -> nibabel.Nifti1Image | str:
    """Return the volume that a header describes as a plain one, or why there is none."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            image = nibabel.load(path)
            if np.prod([float(n) for n in image.shape]) > 1e8:
                return f"a shape of {image.shape} is more than the file holds"
            if image.get_data_dtype().kind not in "iuf":
                return f"{image.get_data_dtype()} is no type of intensities"
            voxels = np.asarray(image.dataobj, dtype=np.float64)
            unit = _MM_OF_UNIT.get(int(image.header["xyzt_units"]) & 7, 1.0)
            affine = np.diag([unit, unit, unit, 1.0]) @ np.asarray(image.affine, dtype=np.float64)
    except Exception as error:  # nibabel's and numpy's errors of all kinds
        return f"{type(error).__name__} in nibabel"
    voxels = voxels.reshape(voxels.shape[:3]) if voxels.size == np.prod(voxels.shape[:3]) else voxels
    if voxels.ndim != 3:
        return f"{voxels.ndim} axes"
    if reason := impossible(voxels, affine):
        return reason
    with np.errstate(all="ignore"):
        plain = nibabel.Nifti1Image(voxels.astype(np.float32), affine)
    plain.set_qform(affine, 1)
    plain.set_sform(affine, 1)
    plain.header.set_xyzt_units("mm")
    return plain


def impossible(voxels: np.ndarray, affine: np.ndarray) -> str:
    """Return why voxels on a grid cannot be an image of a body, "" if they can."""
    if not np.isfinite(voxels).all():
        return "intensities are not finite"
    if voxels.size == 0 or np.ptp(voxels) == 0 or not np.isfinite(voxels.astype(np.float32)).all():
        return "intensities are constant or beyond float32"
    if not np.isfinite(affine).all():
        return "the affine is not finite"
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if sizes.min() < SMALLEST_MM or sizes.max() > LARGEST_MM:
        return f"voxels of {sizes.min():.3g} to {sizes.max():.3g} mm"
    field = float((sizes * voxels.shape).max())
    if not SMALLEST_FIELD_MM <= field <= LARGEST_FIELD_MM:
        return f"a field of view of {field:.3g} mm"
    if abs(np.linalg.det(affine[:3, :3] / sizes)) < 1e-3:
        return "the affine is singular"
    return ""


def agree(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Whether two segmentations are on one grid and label nearly all voxels alike."""
    labels, wanted = np.asarray(found["voxels"]), np.asarray(expected["voxels"])
    if labels.shape != wanted.shape:
        return False
    same_grid = np.allclose(found["affine"], expected["affine"], rtol=1e-3, atol=1e-2)
    return same_grid and float(np.mean(labels == wanted)) >= AGREEMENT


def _segmented_plainly(world: World, image: nibabel.Nifti1Image) -> dict[str, Any]:
    """Return the product's segmentation of a plain file, made once for each; {} if the product does not want it."""
    content = image.affine.tobytes() + np.asarray(image.dataobj).tobytes() + str(image.shape).encode()
    folder = world.root / "plain" / hashlib.sha256(content).hexdigest()
    if not folder.is_dir():
        world.start("inference", folder)
        nibabel.save(image, folder / "plain.nii.gz")
        world.run("inference", folder, input=folder / "plain.nii.gz")
    path = folder / "inference" / "plain_seg.nii.gz"
    return volume(path) if path.is_file() else {}
