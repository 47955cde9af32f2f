"""What a NIfTI header says of size, type and place of the voxels, checked before any of them is read or given room."""

from __future__ import annotations

import math
from collections.abc import Sequence

import nibabel as nib
import numpy as np
from nibabel.nifti1 import Nifti1Header as Header  # those of NIfTI-2 and of two files are derived from it
from nibabel.nifti1 import Nifti1PairHeader
from nibabel.nifti2 import Nifti2PairHeader

from ..transforms.volume import VolumeError, listed

HEADER_BYTES = 540  # of NIfTI-2; NIfTI-1 has 348
_MOST_BYTES = 2**33
_UNITS_MM = {"unknown": 1.0, "meter": 1e3, "mm": 1.0, "micron": 1e-3}
_XFORM_CODES = range(6)
_SET_SIZE = "Write the true voxel size in mm into the header, for example with nibabel."
_SAVE_AGAIN = "Copy the file again, or make it again from where it came from."


def parse_header(block: bytes, name: str) -> Header:
    """Read the fields of a header, without nibabel's corrections.

    Args:
        block: the first bytes of the file, decompressed; `HEADER_BYTES` or as many as there are.
        name: of the file, for messages.

    Returns:
        A header of the class that fits: NIfTI-1 or NIfTI-2, one file or two, in the byte order of the file.

    Raises:
        VolumeError: if this is not the beginning of a NIfTI file.
    """
    for size, start, classes in (
        (348, 344, {b"n+1\0": nib.Nifti1Header, b"ni1\0": Nifti1PairHeader}),
        (540, 4, {b"n+2\0": nib.Nifti2Header, b"ni2\0": Nifti2PairHeader}),
    ):
        for order, endianness in (("little", "<"), ("big", ">")):
            if len(block) >= size and int.from_bytes(block[:4], order) == size:  # type: ignore[arg-type]  # a Literal
                if header_class := classes.get(block[start : start + 4]):
                    return header_class(block[:size], endianness, check=False)
                if name.lower().endswith((".hdr", ".img", ".hdr.gz", ".img.gz")) and not any(block[344:348]):
                    raise VolumeError(
                        f"{name} is of the format Analyze 7.5, which does not say which side is left. "
                        "Convert it to NIfTI, minding the sides."
                    )
    raise VolumeError(
        f"{name} cannot be read as NIfTI: it is damaged, cut short or of another format, since it does not begin with "
        "a NIfTI header. Copy the file again, or convert it to NIfTI (.nii, .nii.gz)."
    )


def check_header(header: Header, name: str) -> None:
    """Refuse a header that cannot be right.

    Args:
        header: from `parse_header`.
        name: of the file, for messages.

    Raises:
        VolumeError: if sizes are negative or zero; voxels are colours, complex or of an unknown type; voxel sizes are
            zero or no numbers; or the affine that holds (the sform if its code is set, else the qform) is no invertible
            matrix of finite numbers.
    """
    _check_sizes(header, name)
    _check_type(header, name)
    _check_affine(header, name)


def _check_sizes(header: Header, name: str) -> None:
    axes = int(header["dim"][0])
    if not 1 <= axes <= 7:
        raise VolumeError(f"{name} has a damaged header: it states {axes} axes, not 1 to 7. {_SAVE_AGAIN}")
    sizes = header["dim"][1 : axes + 1].tolist()
    if min(sizes) < 0:
        raise VolumeError(f"{name} has a damaged header: it states a size of {listed(sizes)} voxels. {_SAVE_AGAIN}")
    if min(sizes) == 0:
        raise VolumeError(f"{name} has no voxels: its size is {listed(sizes)}. Replace the file by a complete one.")


def _check_type(header: Header, name: str) -> None:
    code = int(header["datatype"])
    label = header._data_type_codes.label[code] if code in header._data_type_codes.label else "unknown"
    if label.startswith("RGB"):
        raise VolumeError(
            f"{name} has colours (datatype {code}, {label}), but one intensity for each voxel is needed. Store the "
            "image without colours, or one of the channels, as a file of its own."
        )
    if label.startswith("complex"):
        raise VolumeError(
            f"{name} has complex numbers (datatype {code}, {label}), but one intensity for each voxel is needed. Store "
            "the magnitude, for example numpy.abs of the voxels, as a file of its own."
        )
    kind = header.get_data_dtype() if label not in ("unknown", "none", "binary") else np.dtype("V")
    if kind.kind not in "iuf" or kind.itemsize > 8:
        raise VolumeError(
            f"{name} has voxels of the datatype {code} ({label}), which cannot be used. Store them as whole numbers or "
            "as float32."
        )
    if int(header["bitpix"]) != 8 * kind.itemsize:
        raise VolumeError(
            f"{name} has a damaged header: it states the datatype {code} ({label}) of {8 * kind.itemsize} bits and "
            f"{int(header['bitpix'])} bits for each voxel (bitpix). {_SAVE_AGAIN}"
        )
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if math.isfinite(slope) and slope != 0 and not math.isfinite(inter):
        raise VolumeError(
            f"{name} has a damaged header: it scales voxels by {slope:g} and adds {inter:g} (scl_inter). {_SAVE_AGAIN}"
        )


def _check_affine(header: Header, name: str) -> None:
    stored = header["pixdim"][1 : min(int(header["dim"][0]), 3) + 1]
    if not np.all(stored):
        raise VolumeError(f"{name} states a voxel size of 0 (pixdim {listed(stored)}), so it is not known. {_SET_SIZE}")
    if not np.all(np.isfinite(stored)):
        raise VolumeError(f"{name} states a voxel size that is no number (pixdim {listed(stored)}). {_SET_SIZE}")
    for form in ("sform", "qform"):
        code = int(header[f"{form}_code"])
        if code not in _XFORM_CODES:
            raise VolumeError(
                f"{name} has a damaged header: its {form}_code is {code}, not 0 to {_XFORM_CODES[-1]}. {_SAVE_AGAIN}"
            )
    form = "sform" if header["sform_code"] else "qform"
    otherwise = "the qform is right" if form == "sform" and header["qform_code"] else "it is not known"
    remedy = f"Write the true affine into the header, or set {form}_code to 0 if {otherwise}."
    try:
        affine = stored_affine(header)
    except (ValueError, nib.spatialimages.HeaderDataError) as error:
        raise VolumeError(f"{name} has an unusable {form} ({' '.join(str(error).split())}). {remedy}") from None
    if not np.all(np.isfinite(affine)):
        raise VolumeError(f"{name} has an {form} with entries that are no finite numbers. {remedy}")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.all(lengths) or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3:
        raise VolumeError(
            f"{name} has {form} axes of {listed(lengths)} that do not span a space, so it does not say how the "
            f"volume lies. {remedy}"
        )


def check_plausible(
    header: Header, name: str, spacing_mm: Sequence[float], field_of_view_mm: Sequence[float]
) -> list[str]:
    """Refuse voxels and volumes of a size that no patient has, and look for contradictions.

    Args:
        header: one that `check_header` accepts.
        name: of the file, for messages.
        spacing_mm: smallest and largest voxel size that is accepted, in mm.
        field_of_view_mm: smallest and largest extent of the volume, in mm. The largest is a limit for every axis; a
            volume is too small if two axes are shorter than the smallest, and that is a doubt only, as it may be cut
            out of a larger one.

    Returns:
        Doubts, one sentence each beginning with the name: what looks wrong but need not be.

    Raises:
        VolumeError: if a voxel is too small or too large, or the volume too large.
    """
    scale = millimetres(header)
    spacing = scale * np.linalg.norm(stored_affine(header)[:3, :3], axis=0)
    shape = [int(length) for length in (*header.get_data_shape(), 1, 1)[:3]]
    extent = np.multiply(spacing, shape)
    stated = f"(units of the header: {_unit(header)})"
    if spacing.min() < spacing_mm[0] or spacing.max() > spacing_mm[1]:
        raise VolumeError(
            f"{name} has voxels of {listed(spacing)} mm {stated}, which is outside {spacing_mm[0]:g} to "
            f"{spacing_mm[1]:g} mm. {_SET_SIZE} If they are right, give the reader another spacing_mm."
        )
    if extent.max() > field_of_view_mm[1]:
        raise VolumeError(
            f"{name} has a field of view of {listed(extent.round(1))} mm (voxels of {listed(spacing)} mm) {stated}, "
            f"more than {field_of_view_mm[1]:g} mm. {_SET_SIZE} If it is right, give the reader another "
            "field_of_view_mm."
        )
    doubts = []
    slope = float(header["scl_slope"])
    if math.isfinite(slope) and slope != 0 and not 1e-12 < slope < 1e12:
        doubts.append(f"{name} scales its voxels by {slope:g} (scl_slope of the header). Check the header.")
    if np.sort(extent)[1] < field_of_view_mm[0]:
        doubts.append(
            f"{name} has a field of view of {listed(extent.round(1))} mm {stated}, less than {field_of_view_mm[0]:g} "
            "mm in two axes. Check the voxel size in its header."
        )
    if scale != 1:
        doubts.append(f"{name} states its voxel size in units of {_unit(header)}; read as {listed(spacing)} mm.")
    return doubts + _contradictions(header, name)


def _contradictions(header: Header, name: str) -> list[str]:
    """Say where sform, qform and pixdim of a header do not fit together, and which of them is taken."""
    if not header["sform_code"]:
        return []
    sform = header.get_sform()
    lengths = np.linalg.norm(sform[:3, :3], axis=0)
    directions = sform[:3, :3] / lengths
    found = []
    pixdim = np.abs(header["pixdim"][1:4].astype(float))[: min(int(header["dim"][0]), 3)]
    if not np.allclose(lengths[: len(pixdim)], pixdim, rtol=0.01):
        found.append(
            f"{name} has voxels of {listed(lengths)} by its sform, but {listed(pixdim)} by its pixdim; the sform is "
            "taken. If it is wrong, correct the header."
        )
    if np.abs(directions.T @ directions - np.eye(3)).max() > 0.1:
        found.append(f"{name} has axes that are not at right angles by its sform. Check its header.")
    if header["qform_code"]:
        try:
            qform = header.get_qform()
        except (ValueError, nib.spatialimages.HeaderDataError):
            qform = np.full((4, 4), np.nan)
        turned = np.linalg.norm(qform[:3, :3], axis=0)
        if not (np.all(np.isfinite(qform)) and np.all(turned)):
            return [*found, f"{name} has an unusable qform; the sform is taken."]
        if not np.allclose(directions, qform[:3, :3] / turned, atol=0.2):
            codes = ("".join(nib.aff2axcodes(affine)) for affine in (sform, qform))
            found.append(
                "{} has axes that point to {} by its sform, but to {} by its qform, or otherwise far apart; the sform "
                "is taken. If it is wrong, set its sform_code to 0.".format(name, *codes)
            )
    return found


def stored_affine(header: Header) -> np.ndarray:
    """Return the affine that holds, (4, 4), in the units of the header.

    That is the sform if its code is set, else the qform if its code is set, else one made of the voxel sizes, as
    nibabel does.
    """
    return np.asarray(header.get_best_affine(), dtype=np.float64)


def millimetres(header: Header) -> float:
    """Return the length in mm of the unit of the header's voxel sizes and affines; unknown ones count as mm."""
    return _UNITS_MM.get(_unit(header), 1.0)


def _unit(header: Header) -> str:
    code = int(header["xyzt_units"]) & 7
    return ("unknown", "meter", "mm", "micron")[code] if code < 4 else f"unknown ({code})"


def bytes_of_voxels(header: Header, name: str, available: int) -> int:
    """Return the length of the file that the voxels are in, header included if it is in there, as the header states it.

    Args:
        header: one that `check_header` accepts.
        name: of the file, for messages.
        available: most bytes that the file can hold, decompressed.

    Raises:
        VolumeError: if the file cannot hold that much, or it is more than a volume can have, or the place where the
            voxels begin is impossible.
    """
    offset = float(header["vox_offset"])
    least = 0 if header.is_single is False else header.single_vox_offset
    if not (math.isfinite(offset) and offset == int(offset) and least <= offset):
        raise VolumeError(f"{name} has a damaged header: voxels begin at byte {offset:g} (vox_offset). {_SAVE_AGAIN}")
    shape = header.get_data_shape()
    total = int(offset) + math.prod(int(length) for length in shape) * header.get_data_dtype().itemsize
    if total > available:
        raise VolumeError(
            f"{name} cannot be read as NIfTI: it is damaged, cut short or of another format, since its header "
            f"states {listed(shape)} voxels ({total} bytes), but it holds at most {available} bytes. {_SAVE_AGAIN}"
        )
    if total > _MOST_BYTES:
        raise VolumeError(
            f"{name} has {listed(shape)} voxels, {total / 2**30:.1f} GiB, but at most {_MOST_BYTES // 2**30} GiB can "
            "be read. Cut out the part that is wanted, or split it into several files."
        )
    return total
