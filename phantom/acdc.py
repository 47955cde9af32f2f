"""Phantom of ACDC: made-up short-axis volumes of the heart.

They have no disease, no artefacts and, of cardiac motion, only its two extremes. Orientation and header are those of
the ACDC files: x to the patient's left, y to the back, the first slice at the base of the heart, the last at its apex.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .drawing import Canvas, add_rician_noise, blob, smooth_noise
from .files import write_nifti

SLICE_DISTANCE_MM = 8.0
END_DIASTOLE, END_SYSTOLE = 1, 12  # frames, as Info.cfg gives them
_CONTRACTION = {END_DIASTOLE: 0.0, END_SYSTOLE: 0.5}
RIGHT_VENTRICLE, MYOCARDIUM, LEFT_VENTRICLE = 1, 2, 3  # the label values of ACDC


def write_acdc_phantom(
    dataset_dir: str | os.PathLike[str],
    num_patients: int | Sequence[str] = 12,
    size: tuple[int, int] = (120, 160),
    seed: int = 0,
    end_systole: bool = False,
) -> list[str]:
    """Write phantom patients as `training/patientXXX/patientXXX_frame01.nii.gz`, `..._gt.nii.gz` and `Info.cfg`.

    A patient depends on the seed, the size and its own id only, not on which others are written with it.

    Args:
        dataset_dir: the folder to write to; made if it does not exist.
        num_patients: how many patients, named patient001, patient002 and so on; or the list of their ids.
        size: the least and the greatest number of voxels along x and y; each patient gets its own numbers in between.
        seed: seed of all randomness.
        end_systole: also write `frame12` and its label, the same heart contracted.

    Returns:
        The ids of the patients written.

    Raises:
        ValueError: if there is no patient to write, an id is not of the form patientXXX, or `size` is not an
            increasing pair of at least 16.
    """
    if not 16 <= size[0] <= size[1]:
        raise ValueError(f"size must be the least and the greatest number of voxels, both at least 16, got {size}.")
    ids = [f"patient{i + 1:03d}" for i in range(num_patients)] if isinstance(num_patients, int) else list(num_patients)
    if not ids or not all(re.fullmatch(r"patient\d{3}", name) for name in ids):
        raise ValueError(
            f"num_patients must be a number from 1 to 999 or a list of ids of the form patientXXX, got {num_patients}."
        )
    for name in ids:
        folder = Path(dataset_dir, "training", name)
        folder.mkdir(parents=True, exist_ok=True)
        for frame in (END_DIASTOLE, END_SYSTOLE) if end_systole else (END_DIASTOLE,):
            generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
            image, label, spacing_mm = make_volume(generator, size, _CONTRACTION[frame])
            affine = np.diag([-spacing_mm, -spacing_mm, SLICE_DISTANCE_MM, 1.0])
            for array, suffix in ((image, ""), (label, "_gt")):
                write_nifti(array, affine, folder / f"{name}_frame{frame:02d}{suffix}.nii.gz", codes=(1, 1))
        info = f"ED: {END_DIASTOLE}\nES: {END_SYSTOLE}\nGroup: NOR\nHeight: 175.0\nNbFrame: 30\nWeight: 75.0\n"
        (folder / "Info.cfg").write_text(info, encoding="utf-8")
    return ids


def make_volume(
    generator: np.random.Generator, size: tuple[int, int] = (120, 160), contraction: float = 0.0
) -> tuple[NDArray[np.int16], NDArray[np.uint8], float]:
    """Draw one phantom patient.

    The anatomy is a set of blobs, painted one over the other with soft edges. Their centre and size change with the
    level t, from 0 at the base of the heart to 1 at its apex.

    Args:
        generator: source of all randomness.
        size: the least and the greatest number of voxels along x and y.
        contraction: by how much the wall of the left ventricle is thicker than at end-diastole, as a share of it; the
            right ventricle gets smaller as well.

    Returns:
        image: shape (X, Y, Z), with 7 to 10 slices Z and arbitrary units of 0 to about 3000.
        label: shape (X, Y, Z), 0 background, 1 right ventricle, 2 myocardium, 3 left ventricle.
        spacing_mm: in-plane size of a voxel, 1.2 to 1.8 mm.
    """

    def draw(low: float, high: float) -> float:
        return float(generator.uniform(low, high))

    spacing_mm = round(draw(1.2, 1.8), 4)
    shape = (*generator.integers(size[0], size[1], 2, endpoint=True).tolist(), int(generator.integers(7, 11)))
    half_x, half_y = shape[0] * spacing_mm / 2, shape[1] * spacing_mm / 2
    u = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None, None]  # -1 to 1 across the field of view
    v = np.linspace(-1, 1, shape[1], dtype=np.float32)[None, :, None]
    t = np.linspace(draw(-0.05, 0.05), draw(0.95, 1.1), shape[2], dtype=np.float32)
    fine, coarse = (
        smooth_noise(generator, shape, (width_mm / spacing_mm, width_mm / spacing_mm, 0)) for width_mm in (1.8, 7.0)
    )

    # Bent coordinates in mm, so that no outline is an exact ellipse.
    x, y = u * half_x, v * half_y
    for _ in range(4):
        angle, wavelength_mm = draw(0, 2 * np.pi), draw(50, 140)
        phase = (np.cos(angle) * x + np.sin(angle) * y) * (2 * np.pi / wavelength_mm) + draw(0, 6) + draw(-2, 2) * t
        wave = wavelength_mm * draw(0.01, 0.02) * np.sin(phase)
        x, y = x + np.cos(angle + 1) * wave, y + np.sin(angle + 1) * wave

    blood, muscle, fat = draw(0.55, 0.8), draw(0.18, 0.28), draw(0.7, 1.0)
    canvas = Canvas(shape, 0.01, 0.8 * spacing_mm)
    paint = canvas.paint

    # Chest wall: fat, muscle with ribs, lung with vessels that get fewer towards the apex.
    body_centre = (draw(-0.15, 0.0) * half_x - 0.1 * half_x * t, draw(0.1, 0.25) * half_y + 0.12 * half_y * t)
    body = blob(x, y, body_centre, (draw(0.9, 1.1) * half_x, draw(1.0, 1.25) * half_y), draw(-0.6, 0.6), 1 - 0.08 * t)
    around = np.arctan2(y - body_centre[1], x - body_centre[0])
    wall_mm = draw(5, 9) * (
        1 + 0.6 * np.sin(around + draw(0, 6)) + 0.35 * np.sin(3 * around + draw(0, 6) + t) + 0.6 * t
    )
    paint(body, fat * (1 + 0.1 * coarse))
    paint(body - wall_mm, muscle * (1.2 + 0.6 * np.sin(14 * around + draw(0, 6) + 3 * t)))
    paint(body - wall_mm - draw(6, 10), 0.04)
    paint(2.0 * (fine - 1.9 - 0.6 * t) + np.minimum(body - wall_mm - 15, 0), 0.75 * blood)

    # Abdomen: rises from behind as the level nears the apex; liver on the right, stomach on the left, spine, aorta.
    dome = y - half_y * (draw(0.4, 0.5) - draw(0.35, 0.5) * t) - (x + draw(0.1, 0.4) * half_x) ** 2 / (2.5 * half_x)
    organs = np.minimum(dome, body - wall_mm - 8)
    paint(organs, fat * 0.7)
    paint(organs - 3, muscle * (1.3 + 0.2 * coarse))
    paint(np.minimum(4 * (coarse - draw(0.7, 1.2)), organs - 5), 0.8 * fat)  # fat between the organs
    paint(np.minimum(4 * (fine - 1.7), organs - 5), 0.7 * blood)  # vessels in the liver
    stomach_centre = (draw(0.3, 0.45) * half_x, (draw(0.6, 0.75) - 0.2 * t) * half_y)
    stomach = blob(x, y, stomach_centre, (draw(22, 30), draw(16, 22)), draw(-0.5, 0.5), 2 * t - 0.5)
    paint(np.minimum(stomach + 3, organs), 0.8 * fat)
    paint(np.minimum(stomach, organs), 0.3 + 0.15 * coarse)
    spine_centre = (draw(-0.2, 0.1) * half_x, draw(0.8, 0.9) * half_y)
    spine = blob(x, y, spine_centre, (draw(24, 30), draw(18, 24)), draw(-0.3, 0.3), 1.1 - 0.5 * t)
    paint(spine, muscle * (1.6 + 0.6 * coarse))
    aorta_centre = (spine_centre[0] + draw(18, 26) - 6 * t, spine_centre[1] - draw(22, 28))
    aorta = blob(x, y, aorta_centre, (draw(10, 12), draw(9, 11)), 0.0, 1.0)
    paint(aorta + 2, muscle)
    paint(aorta, blood)

    # Heart, in axes through the centre of the left ventricle: `along` points to the right ventricle.
    scale = min(1.0, min(half_x, half_y) / 85)  # a small field of view gets a small heart
    direction = np.pi + draw(-0.5, 0.9)
    heart_x = x - draw(-15, 10) * scale - 10 * scale * t
    heart_y = y - draw(-22, -2) * scale - 8 * scale * t
    along = np.cos(direction) * heart_x + np.sin(direction) * heart_y
    across = np.cos(direction) * heart_y - np.sin(direction) * heart_x
    outer_mm = scale * draw(31, 40)
    taper = np.where(t <= 1, 1 - draw(0.5, 0.65) * np.abs(t) ** draw(2, 3), -0.5)
    stretch = draw(0.93, 1.07)
    epicardium = blob(along, across, (0, 0), (outer_mm * stretch, outer_mm / stretch), draw(0, np.pi), taper)
    endocardium = epicardium - scale * draw(7, 10) * (1 + contraction) * (1 - 0.25 * t)
    right_scale = scale * (1 - contraction / 3)
    right_radii_mm = (right_scale * draw(23, 29), right_scale * draw(33, 42))
    right_end = min(draw(0.92, 1.1), 1.0)
    right_taper = np.sqrt(np.maximum(1 - np.abs(t / right_end) ** draw(1.8, 2.6), 0)) - 0.05
    right_centre = (outer_mm * taper + draw(0.25, 0.45) * right_radii_mm[0] * right_taper, scale * draw(-5, 5))
    bent_along = along + across**2 / (scale * draw(80, 120))  # a crescent round the septum
    right = blob(bent_along, across, right_centre, right_radii_mm, 0.0, right_taper)

    atrium_centre = (outer_mm * draw(0.5, 0.8), -outer_mm * draw(1.3, 1.5))
    atrium = blob(along, across, atrium_centre, (scale * draw(20, 28), scale * draw(16, 22)), 0.3, 1 - 2.5 * t)
    pericardium = np.maximum(np.maximum(epicardium, right), atrium) + scale * (4 + 2.5 * coarse)
    paint(pericardium, 0.6 * fat)
    paint(np.maximum(right, atrium) + 3 * scale, muscle)
    paint(atrium, 0.85 * blood)
    paint(right, blood * (0.9 + 0.05 * coarse))
    paint(epicardium, muscle)
    paint(endocardium, blood * (1 + 0.03 * coarse))
    for angle in (draw(0.8, 1.3), draw(-1.3, -0.8)):  # papillary muscles, which ACDC labels as left ventricle
        reach_mm = 0.62 * (outer_mm * taper - 8 * scale)
        papillary_centre = (-np.cos(angle) * reach_mm, np.sin(angle) * reach_mm)
        radii_mm = (scale * draw(3.5, 5.5), scale * draw(3, 4.5))
        papillary = blob(along, across, papillary_centre, radii_mm, angle, 1 - 4 * (t - draw(0.45, 0.6)) ** 2)
        paint(np.minimum(papillary, endocardium), 1.3 * muscle)
    paint(np.minimum(scale * 3 * (fine - 0.8), 2.5 - np.abs(right)) - 1, 1.3 * muscle)  # trabeculae

    label = np.zeros(shape, np.uint8)
    label[right > 0] = RIGHT_VENTRICLE
    label[epicardium > 0] = MYOCARDIUM
    label[endocardium > 0] = LEFT_VENTRICLE

    # Scanner: tissue texture, shading towards the coil at the front, contrast, Rician noise, arbitrary units.
    image = canvas.image * (1 + 0.07 * fine + 0.05 * coarse)
    shading = draw(-0.3, 0.3) * u + draw(-0.6, -0.2) * v + draw(-0.2, 0.2) * u * v + draw(-0.3, 0.0) * v**2
    image = np.maximum(image, 0) ** draw(0.9, 1.2) * np.exp(shading)
    image = add_rician_noise(generator, image, draw(0.015, 0.035))
    return np.rint(image * draw(500, 1500)).astype(np.int16), label, spacing_mm
