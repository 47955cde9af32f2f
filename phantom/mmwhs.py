"""Phantom of MM-WHS: made-up whole-heart MR volumes, stored in as many ways as the real ones.

File names and label values are those of the Multi-Modality Whole Heart Segmentation challenge (Zhuang and Shen, Medical
Image Analysis 31, 2016). The chest is described in mm from the centre of the heart, x to the patient's left, y to the
back and z to the head, and is then seen through whatever affine the volume gets: array axes permuted and flipped, a
left-handed one, a tilted one, and a third axis that is coarser than the others.
"""

from __future__ import annotations

import itertools
import os
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from .drawing import Array, Canvas, add_rician_noise, blob, smooth_noise
from .files import write_nifti

MYOCARDIUM, LEFT_ATRIUM, LEFT_VENTRICLE, RIGHT_ATRIUM = 205, 420, 500, 550
RIGHT_VENTRICLE, ASCENDING_AORTA, PULMONARY_ARTERY = 600, 820, 850
LABEL_VALUES = (
    *(MYOCARDIUM, LEFT_ATRIUM, LEFT_VENTRICLE, RIGHT_ATRIUM, RIGHT_VENTRICLE),
    *(ASCENDING_AORTA, PULMONARY_ARTERY),
)
STRAY_VALUE = 421  # left over in one volume, beside the left atrium's 420
_STRAY_ID = "mr_train_1002"
# Direction of the array axes and tilt in degrees, in turn by id. The second one of these is left-handed.
_STORAGE = (("LIP", 0), ("LAS", 0), ("RAS", 20), ("PIR", 0), ("LPS", 0), ("SAR", 0))
_FIELD_MM = {"L": (255.0, 280.0), "P": (205.0, 225.0), "S": (130.0, 150.0)}
_SAME_AXIS = {"R": "L", "A": "P", "I": "S"}


def write_mmwhs_phantom(
    dataset_dir: str | os.PathLike[str],
    num_patients: int | Sequence[str] = 12,
    size: tuple[int, int] = (80, 96),
    seed: int = 0,
) -> list[str]:
    """Write phantom patients as `mr_train/mr_train_10XX_image.nii.gz` and `..._label.nii.gz`.

    A patient depends on the seed, the size and its own id only, not on which others are written with it. The labels
    have the values of the challenge, and mr_train_1002 some voxels of 421, as one of the real volumes.

    Args:
        dataset_dir: the folder to write to; made if it does not exist.
        num_patients: how many patients, named mr_train_1001, mr_train_1002 and so on; or the list of their ids.
        size: the least and the greatest number of voxels that the chest is wide. The first two array axes have voxels
            of that size, the third, which need not be that from foot to head, has 1.15 to 1.4 times that.
        seed: seed of all randomness.

    Returns:
        The ids of the patients written.

    Raises:
        ValueError: if there is no patient to write, an id is not of the form mr_train_10XX, or `size` is not an
            increasing pair of at least 16.
    """
    if not 16 <= size[0] <= size[1]:
        raise ValueError(f"size must be the least and the greatest number of voxels, both at least 16, got {size}.")
    ids = [f"mr_train_{1001 + i}" for i in range(num_patients)] if isinstance(num_patients, int) else list(num_patients)
    if not ids or not all(re.fullmatch(r"mr_train_10\d\d", name) for name in ids):
        raise ValueError(
            "num_patients must be a number from 1 to 99 or a list of ids of the form mr_train_10XX, got "
            f"{num_patients}."
        )
    folder = Path(dataset_dir, "mr_train")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ids:
        generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
        axcodes, tilt = _STORAGE[(int(name[-2:]) - 1) % len(_STORAGE)]
        shape, affine = _make_grid(generator, axcodes, tilt, size)
        image, label = make_chest(generator, shape, affine)
        if name == _STRAY_ID:
            label.flat[np.flatnonzero(label == LEFT_ATRIUM)[:5]] = STRAY_VALUE
        write_nifti(image, affine, folder / f"{name}_image.nii.gz")
        write_nifti(label, affine, folder / f"{name}_label.nii.gz")
    return ids


def _make_grid(
    generator: np.random.Generator, axcodes: str, tilt: float, size: tuple[int, int]
) -> tuple[tuple[int, int, int], NDArray]:
    """Draw the shape of a volume and its affine, with the centre of the field of view at the centre of the chest."""
    field_mm = {axis: generator.uniform(*limits) for axis, limits in _FIELD_MM.items()}
    fine_mm = field_mm["L"] / generator.integers(size[0], size[1], endpoint=True)
    spacing_mm = fine_mm * np.array([1, 1, generator.uniform(1.15, 1.4)])
    columns, rows, slices = (
        round(field_mm[_SAME_AXIS.get(code, code)] / step) for code, step in zip(axcodes, spacing_mm, strict=True)
    )
    orientation = nib.orientations.axcodes2ornt(axcodes)
    directions = np.zeros((3, 3))
    directions[orientation[:, 0].astype(int), range(3)] = orientation[:, 1]
    angle = np.deg2rad(tilt)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ directions * spacing_mm
    centre = np.array([10.0, -12.0, 5.0])  # to the right and the back, since the heart is not in the middle
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.array([columns, rows, slices]) - 1) / 2)
    return (columns, rows, slices), affine


def make_chest(
    generator: np.random.Generator, shape: tuple[int, int, int], affine: NDArray
) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Draw one phantom patient.

    Args:
        generator: source of all randomness.
        shape: (X, Y, Z), of the volume.
        affine: 4 x 4, to mm from the centre of the heart, with the directions of NIfTI (R, A, S).

    Returns:
        image: (X, Y, Z), arbitrary units of 0 to about 1500; blood is bright.
        label: (X, Y, Z), 0 background and the values of MM-WHS.
    """

    def draw(low: float, high: float) -> float:
        return float(generator.uniform(low, high))

    spacing_mm = np.asarray(nib.affines.voxel_sizes(affine))
    indices = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in shape), indexing="ij", sparse=True)
    x, y, z = (
        (sign * (row[3] + sum(step * index for step, index in zip(row, indices, strict=False)))).astype(np.float32)
        for sign, row in zip((-1, -1, 1), affine[:3], strict=True)
    )
    fine, coarse = (smooth_noise(generator, shape, width_mm / spacing_mm) for width_mm in (1.8, 8.0))
    chest = x, y, z

    for _ in range(4):  # bent coordinates, so that no organ is an exact ellipsoid
        direction, shift = _unit(generator.standard_normal(3)), _unit(generator.standard_normal(3))
        wavelength_mm = draw(60, 160)
        phase = sum(part * axis for part, axis in zip(direction, (x, y, z), strict=True)) * (2 * np.pi / wavelength_mm)
        wave = (wavelength_mm * draw(0.008, 0.016) * np.sin(phase + draw(0, 6))).astype(np.float32)
        x, y, z = (axis + np.float32(part) * wave for part, axis in zip(shift, (x, y, z), strict=True))

    blood, muscle, fat = draw(0.75, 0.95), draw(0.3, 0.4), draw(0.55, 0.75)
    canvas = Canvas(shape, 0.01, 0.8 * float(spacing_mm[0]))
    paint = canvas.paint
    scale = draw(0.92, 1.03)

    # Chest wall with ribs, lungs with vessels, what lies between them, spine, and the organs below the diaphragm.
    body_centre = (draw(-14, -6), draw(10, 16))
    body = blob(x, y, body_centre, (draw(112, 120), draw(84, 92)), 0.0, 1 - 0.0004 * np.abs(z))
    around = np.arctan2(y - body_centre[1], x - body_centre[0])
    ribs = np.sin(2 * np.pi / draw(24, 30) * (z + 18 * np.cos(around)) + draw(0, 6))
    paint(body, fat * (1 + 0.08 * coarse))
    paint(body - draw(6, 9), muscle * (1 + 0.35 * ribs + 0.1 * coarse))
    lungs = body - draw(17, 21)
    paint(lungs, 0.05)
    paint(np.minimum(2 * (fine - 1.6), lungs - 3), 0.6 * blood)
    column = blob(x, y, (draw(-4, 2), 18), (draw(36, 42), draw(60, 66)), 0.0, 1 - 0.002 * z)
    paint(np.minimum(column, lungs + 10), 0.7 * fat * (1 + 0.15 * coarse))
    dome = -z - draw(48, 54) - (np.hypot(x + 40, 0.8 * y) ** 2) / 260
    stomach_side = -z - draw(52, 58) - (np.hypot(x - 60, y - 10) ** 2) / 200
    paint(np.minimum(np.maximum(dome, stomach_side), lungs), 0.8 * fat)
    paint(np.minimum(dome - 2, lungs), 1.25 * muscle * (1 + 0.08 * coarse))
    paint(np.minimum(np.minimum(dome - 6, 3 * (fine - 1.5)), lungs), 0.8 * blood)
    spine_centre = (draw(-8, 0), draw(72, 78))
    paint(blob(x, y, spine_centre, (40, 22), 0.0, 1.0), muscle * (1 + 0.15 * coarse))
    discs = 0.85 + 0.15 * np.sin(2 * np.pi / 30 * z + draw(0, 6))
    paint(blob(x, y, spine_centre, (19, 16), 0.0, 1.0), 0.55 * discs * (1 + 0.1 * coarse))
    paint(blob(x, y, (spine_centre[0], spine_centre[1] + 22), (7, 6), 0.0, 1.0), blood)  # spinal canal

    # The axes of the heart: along to the apex, right to the right ventricle, and the third one at right angles.
    along = _unit(np.array([draw(0.58, 0.72), draw(-0.62, -0.48), draw(-0.58, -0.42)]))
    right = np.array([-0.7, -0.7, -0.1])
    right = _unit(right - (right @ along) * along)
    axes = np.stack([along, right, np.cross(along, right)])
    base = scale * np.array([draw(4, 10), draw(2, 8), draw(2, 8)])

    def place(a: float, r: float, c: float) -> NDArray:
        """Return a place by the axes of the heart, in mm from the middle of the mitral valve."""
        return base + scale * np.array([a, r, c]) @ axes

    def ellipsoid(centre: NDArray, radii: Sequence[float], frame: NDArray = axes) -> Array:
        radii_mm = scale * np.asarray(radii)
        parts = [
            sum(part * (axis - start) for part, axis, start in zip(row, (x, y, z), centre, strict=True)) / radius
            for row, radius in zip(frame, radii_mm, strict=True)
        ]
        distance = np.sqrt(parts[0] ** 2 + parts[1] ** 2 + parts[2] ** 2)
        return (np.cbrt(radii_mm.prod()) * (1 - distance)).astype(np.float32)

    def tube(points: Sequence[NDArray], radius: float) -> Array:
        return np.maximum.reduce([_capsule((x, y, z), *ends, scale * radius) for ends in itertools.pairwise(points)])

    upright = np.eye(3)
    depth = sum(part * (axis - start) for part, axis, start in zip(along, (x, y, z), base, strict=True))
    radius, wall = draw(30, 34), draw(8.5, 11)
    outer = ellipsoid(place(16, 0, 0), (draw(62, 70), radius, radius))
    inner = ellipsoid(place(15, 0, 0), (draw(50, 54), radius - wall, radius - wall))
    epicardium = np.minimum(outer, depth + 4)
    left_ventricle = np.minimum(np.minimum(inner, depth), epicardium)
    left_atrium = ellipsoid(place(-25, -2, -4), (draw(29, 33), draw(20, 23), draw(24, 27)), upright)
    veins = [
        tube([place(-27, -2, -4), place(-27, -2, -4) + scale * np.array(end)], draw(5, 6))
        for end in ((42, 22, 8), (40, 22, -12), (-42, 18, 6), (-42, 20, -12))
    ]
    aortic_root = place(-3, 11, -10)
    arch = scale * np.array([draw(-14, -8), draw(-12, -4), 72])
    aorta_radius = draw(12.5, 15)
    aorta = tube([aortic_root, arch, arch + scale * np.array([4, 18, 30])], aorta_radius)
    bulb = ellipsoid(aortic_root, 3 * (aorta_radius + 2.5,))
    valve = place(8, 30, -24) + scale * np.array([9, 0, 0])
    fork = np.array([16, 14, 56]) * scale
    trunk = tube([valve, fork], draw(11, 13))
    branches = np.maximum(
        tube([fork, fork + scale * np.array([-34, 8, -4]), fork + scale * np.array([-66, 14, -12])], draw(8, 9)),
        tube([fork, fork + scale * np.array([34, 18, 2])], draw(8, 9)),
    )
    right_ventricle = ellipsoid(place(22, draw(28, 32), 2), (draw(46, 52), draw(26, 30), draw(32, 36)))
    outflow = tube([place(22, 30, -8), valve], 13)
    right_ventricle = np.minimum(np.maximum(np.minimum(right_ventricle, depth + 2), outflow), -epicardium - 1.5)
    right_atrium = ellipsoid(place(-14, 36, 10), (draw(25, 28), draw(26, 30), draw(29, 33)), upright)
    upper_cava = tube([place(-14, 34, 8), scale * np.array([draw(-34, -28), 8, 95])], draw(8, 10))
    lower_cava = tube([place(-14, 36, 12), scale * np.array([draw(-30, -24), 16, -85])], draw(9, 11))
    descending = blob(x, y, (draw(14, 20), draw(50, 56)), (draw(10, 12), draw(10, 12)), 0.0, 1.0)

    # Painted from outside to inside: fat around the heart, thin walls, blood, and the thick wall of the left ventricle.
    cavities = np.maximum.reduce([left_atrium, right_atrium, right_ventricle, aorta, bulb, trunk, branches])
    paint(np.maximum(np.maximum(cavities, epicardium) + 5 + 2 * coarse, descending + 3), fat * (1 + 0.05 * fine))
    paint(np.maximum(np.maximum.reduce([cavities, upper_cava, lower_cava, *veins]), descending) + 2.0, 1.1 * muscle)
    flow = blood * (1 + 0.06 * coarse)
    for vessel in (descending, upper_cava, lower_cava, *veins):
        paint(vessel, 0.95 * flow)
    paint(right_ventricle, 0.95 * flow)
    paint(right_atrium, 0.9 * flow)
    for cavity in (left_atrium, branches, trunk, np.maximum(aorta, bulb)):
        paint(cavity + 1.5, 1.1 * muscle)
        paint(cavity, flow)
    paint(epicardium, 1.1 * muscle * (1 + 0.08 * fine))
    paint(left_ventricle, flow)
    for angle in (draw(0.8, 1.3), draw(2.0, 2.5)):  # papillary muscles, which count as blood
        aside = (-(radius - wall - 6) * np.cos(angle), (radius - wall - 6) * np.sin(angle))
        ends = [place(depth_mm, *aside) for depth_mm in (18.0, 40.0)]
        paint(np.minimum(tube(ends, 4), left_ventricle), 1.2 * muscle)
    paint(np.minimum(3 * (fine - 0.9), 3 - np.abs(right_ventricle)) - 1, 1.2 * muscle)  # trabeculae

    label = np.zeros(shape, np.int16)
    for structure, value in (
        (np.minimum(right_atrium, -epicardium), RIGHT_ATRIUM),
        (np.minimum(right_ventricle, -epicardium), RIGHT_VENTRICLE),
        (np.minimum(left_atrium, -epicardium), LEFT_ATRIUM),
        (np.maximum(branches, trunk), PULMONARY_ARTERY),
        (np.minimum(np.maximum(aorta, bulb), scale * 76 - z), ASCENDING_AORTA),
        (epicardium, MYOCARDIUM),
        (left_ventricle, LEFT_VENTRICLE),
    ):
        label[structure > 0] = value

    # Scanner: texture, shading of the coils, contrast, Rician noise, arbitrary units.
    x, y, z = chest
    u, v, w = x / 130, y / 110, z / 75
    shading = draw(-0.25, 0.25) * u + draw(-0.4, -0.1) * v + draw(-0.2, 0.2) * w + draw(-0.15, 0.1) * v * v
    image = np.maximum(canvas.image * (1 + 0.04 * fine), 0) ** draw(0.9, 1.15) * np.exp(shading)
    image = add_rician_noise(generator, image, draw(0.015, 0.03))
    return np.rint(image * draw(400, 1100)).astype(np.int16), label


def _unit(vector: NDArray) -> NDArray:
    return vector / np.linalg.norm(vector)


def _capsule(point: tuple[Array, Array, Array], start: NDArray, end: NDArray, radius_mm: float) -> Array:
    """Return the shape of all that lies within a radius of the line from one place to another."""
    line = end - start
    share = sum(part * (axis - origin) for part, axis, origin in zip(line, point, start, strict=True)) / (line @ line)
    share = np.clip(share, 0, 1)
    gaps = [axis - origin - part * share for axis, origin, part in zip(point, start, line, strict=True)]
    return (radius_mm - np.sqrt(gaps[0] ** 2 + gaps[1] ** 2 + gaps[2] ** 2)).astype(np.float32)
