"""Phantom of MSD Task05: T2-weighted and ADC volumes of the prostate, made-up or around real label volumes.

Orientation, header and file names are those of the Medical Segmentation Decathlon (Antonelli et al., Nature
Communications 13, 2022). Images are 4-D, their last axis is T2, ADC; they are stored as R,A,S with slices that are
tilted forwards. There are 32 volumes with a label and 16 without, a `dataset.json`, and the `._` files of the archive.
The gland's outline and zones come from real label volumes where a folder of them is given; else they are made up.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from .drawing import Array, Canvas, add_rician_noise, blob, smooth, smooth_noise
from .files import reoriented, write_nifti

PERIPHERAL_ZONE, TRANSITION_ZONE = 1, 2  # the label values of MSD Task05
_NUMBERS = range(48)
_UNLABELLED = (3, 5, 8, 9, 11, 12, 15, 19, 22, 23, 26, 27, 30, 33, 36, 45)  # those of imagesTs
_ONE_VALUE = ("prostate_18", "prostate_32")  # their labels have the whole gland as 1
LABELLED_IDS = tuple(f"prostate_{number:02d}" for number in _NUMBERS if number not in _UNLABELLED)
UNLABELLED_IDS = tuple(f"prostate_{number:02d}" for number in _UNLABELLED)
_APPLE_DOUBLE = bytes.fromhex("00051607000200004d6163204f532058202020202020202000020000")
_FIELD_MM = 200.0


def write_prostate_phantom(
    dataset_dir: str | os.PathLike[str],
    num_patients: int | Sequence[str] = 12,
    num_unlabelled: int = 5,
    size: tuple[int, int] = (144, 168),
    seed: int = 0,
    labels_dir: str | os.PathLike[str] | None = None,
) -> list[str]:
    """Write phantom volumes as `imagesTr`, `labelsTr`, `imagesTs` and `dataset.json`.

    A volume depends on the seed, the size, its own id and its real label only, not on which others are written with it.

    Args:
        dataset_dir: the folder to write to; made if it does not exist.
        num_patients: how many volumes with a label, the first ones of Task05 (prostate_00, prostate_01, prostate_02,
            prostate_04 and so on); or the list of their ids.
        num_unlabelled: how many volumes in imagesTs, the first ones of Task05 (prostate_03, prostate_05 and so on).
        size: the least and the greatest number of voxels along each in-plane axis.
        seed: seed of all randomness.
        labels_dir: folder with the real label volumes as `prostate_XX.nii.gz`; an id that has none gets a made-up one.

    Returns:
        The ids of the volumes with a label.

    Raises:
        ValueError: if a number or id is not among those of Task05, or `size` is not an increasing pair of at least 16.
    """
    if not 16 <= size[0] <= size[1]:
        raise ValueError(f"size must be the least and the greatest number of voxels, both at least 16, got {size}.")
    ids = list(LABELLED_IDS[:num_patients]) if isinstance(num_patients, int) else list(num_patients)
    expected = num_patients if isinstance(num_patients, int) else len(ids)
    if not ids or len(ids) != expected or not set(ids) <= set(LABELLED_IDS):
        raise ValueError(
            f"num_patients must be a number from 1 to {len(LABELLED_IDS)} or ids of Task05 that have a label "
            f"(prostate_00, prostate_01, ...), got {num_patients}."
        )
    if not 0 <= num_unlabelled <= len(UNLABELLED_IDS):
        raise ValueError(f"num_unlabelled must be a number from 0 to {len(UNLABELLED_IDS)}, got {num_unlabelled}.")
    root = Path(dataset_dir)
    unlabelled = list(UNLABELLED_IDS[:num_unlabelled])
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name in [*ids, *unlabelled]:
        generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
        label_path = None if labels_dir is None else Path(labels_dir, f"{name}.nii.gz")
        if label_path is not None and label_path.is_file():
            zones, affine = _read_zones(label_path, int(generator.integers(size[0], size[1], endpoint=True)))
        else:
            zones, affine = _make_zones(generator, size)
        image = make_image(generator, zones, nib.affines.voxel_sizes(affine))
        label = (zones > 0).astype(np.uint8) if name in _ONE_VALUE else zones
        folders = {"imagesTs": image} if name in unlabelled else {"imagesTr": image, "labelsTr": label}
        for folder, array in folders.items():
            stored = reoriented(nib.Nifti1Image(array, affine), "RAS")
            write_nifti(np.asanyarray(stored.dataobj), stored.affine, root / folder / f"{name}.nii.gz", codes=(0, 2))
            (root / folder / f"._{name}.nii.gz").write_bytes(_APPLE_DOUBLE)
    _write_dataset_json(root / "dataset.json", ids, unlabelled)
    (root / "._dataset.json").write_bytes(_APPLE_DOUBLE)
    return ids


def _write_dataset_json(path: Path, labelled: Sequence[str], unlabelled: Sequence[str]) -> None:
    content = {
        "name": "PROSTATE",
        "description": "Phantom of Prostate transitional zone and peripheral zone segmentation",
        "tensorImageSize": "4D",
        "modality": {"0": "T2", "1": "ADC"},
        "labels": {"0": "background", str(PERIPHERAL_ZONE): "PZ", str(TRANSITION_ZONE): "TZ"},
        "numTraining": len(labelled),
        "numTest": len(unlabelled),
        "training": [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in labelled],
        "test": [f"./imagesTs/{name}.nii.gz" for name in unlabelled],
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _read_zones(path: Path, length: int) -> tuple[NDArray[np.uint8], NDArray]:
    """Read a real label volume as an L,P,S array with `length` voxels along the in-plane axes, and its affine.

    Where the whole gland is one value, its inside is taken for the transition zone.
    """
    image = reoriented(nib.load(path), "LPS")
    label = np.asanyarray(image.dataobj).astype(np.uint8)
    columns, rows = (((np.arange(length) + 0.5) * n / length).astype(int) for n in label.shape[:2])
    zones = label[np.ix_(columns, rows, np.arange(label.shape[2]))]
    spacing_mm = np.array(nib.affines.voxel_sizes(image.affine)) * (*(n / length for n in label.shape[:2]), 1)
    if not (zones == TRANSITION_ZONE).any():
        inside = smooth(zones > 0, (8 / spacing_mm[0], 8 / spacing_mm[1], 0)) > 0.6
        forwards = np.roll(inside, -round(6 / spacing_mm[1]), axis=1)
        zones[forwards & (zones > 0)] = TRANSITION_ZONE
    return zones, nib.affines.rescale_affine(image.affine, label.shape, spacing_mm, zones.shape)


def _make_zones(generator: np.random.Generator, size: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray]:
    """Make up a gland as an L,P,S array, with the affine of a stack that is tilted forwards."""

    def draw(low: float, high: float) -> float:
        return float(generator.uniform(low, high))

    length, num_slices = int(generator.integers(size[0], size[1], endpoint=True)), int(generator.integers(15, 21))
    spacing_mm = (_FIELD_MM / length, _FIELD_MM / length, round(draw(3.0, 4.0), 2))
    tilt = draw(0.0, 0.3)
    affine = np.eye(4)
    affine[:3, :3] = [[-1, 0, 0], [0, -np.cos(tilt), -np.sin(tilt)], [0, -np.sin(tilt), np.cos(tilt)]]
    affine[:3, :3] *= spacing_mm
    shape = (length, length, num_slices)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)

    x, y, z = _coordinates(shape, spacing_mm)
    x, y, z = x - draw(-5, 5), y - draw(-8, 8), z - draw(-4, 4)
    half_mm = draw(18, 25)
    height = z / half_mm  # -1 at the apex, 1 at the base
    angle = np.arctan2(y, x)
    width = 1 + 0.06 * np.sin(2 * angle + draw(0, 6)) + 0.04 * np.sin(3 * angle + draw(0, 6) + height)
    growth = np.sqrt(np.maximum(1 - np.abs(height) ** draw(2.0, 2.6), 0)) * width - 0.02
    radii_mm = (draw(23, 29), draw(17, 22))
    gland = blob(x, y, (0, 0), radii_mm, 0.0, growth)
    share = draw(0.62, 0.8)
    inner = blob(x, y, (0, -0.3 * radii_mm[1]), radii_mm, 0.0, share * growth - 0.25 * np.maximum(-height, 0))
    front = -y - draw(0.35, 0.5) * radii_mm[1] - 0.15 * np.abs(x)  # the peripheral zone does not reach the front
    zones = np.where(gland > 0, np.uint8(PERIPHERAL_ZONE), np.uint8(0))
    zones[(np.maximum(inner, front) > 0) & (gland > 0)] = TRANSITION_ZONE
    return zones, affine


def _coordinates(shape: Sequence[int], spacing_mm: Sequence[float]) -> tuple[Array, Array, Array]:
    """Return mm to the left, to the back and upwards from the centre, each of them variable along one axis only."""
    axes = [
        (np.arange(n, dtype=np.float32) - (n - 1) / 2) * np.float32(d) for n, d in zip(shape, spacing_mm, strict=True)
    ]
    return axes[0][:, None, None], axes[1][None, :, None], axes[2][None, None, :]


def make_image(generator: np.random.Generator, zones: NDArray[np.uint8], spacing_mm: Sequence[float]) -> Array:
    """Draw a pelvis around a prostate: T2 with a bright peripheral zone, and ADC.

    Args:
        generator: source of all randomness.
        zones: (X, Y, Z) in L,P,S, 0 outside, 1 peripheral zone, 2 transition zone; must have some prostate.
        spacing_mm: size of a voxel along the three axes.

    Returns:
        (X, Y, Z, 2) in float32: T2 in arbitrary units of 0 to about 1000, ADC in 1e-6 mm2/s.

    Raises:
        ValueError: if there is no prostate.
    """
    if not zones.any():
        raise ValueError("zones must have some prostate to draw a pelvis around, got an empty label; leave it out.")

    def draw(low: float, high: float) -> float:
        return float(generator.uniform(low, high))

    x, y, z = _coordinates(zones.shape, spacing_mm)
    half_x, half_y = (n * d / 2 for n, d in zip(zones.shape[:2], spacing_mm[:2], strict=True))
    pixel_mm = float(spacing_mm[0])
    places = np.nonzero(zones)
    middle = [float(axis.ravel()[index].mean()) for axis, index in zip((x, y, z), places, strict=True)]
    below, above = (float(z.ravel()[extreme(places[2])]) - middle[2] for extreme in (np.min, np.max))
    gland_half_mm = float(np.percentile(np.abs(y.ravel()[places[1]] - middle[1]), 95))
    x, y, z = x - middle[0], y - middle[1], z - middle[2]
    t = np.clip((z - below) / max(above - below, 10.0), -0.6, 1.6)  # 0 at the apex of the gland, 1 at its base
    shape = zones.shape
    fine, coarse = (
        smooth_noise(generator, shape, (width_mm / pixel_mm, width_mm / pixel_mm, 0)) for width_mm in (1.2, 5.0)
    )
    streaks = smooth_noise(generator, shape, (1.0 / pixel_mm, 6.0 / pixel_mm, 0))

    for _ in range(4):  # bent coordinates, so that no outline is an exact ellipse and the sides differ
        angle, wavelength_mm = draw(0, 2 * np.pi), draw(60, 160)
        phase = (np.cos(angle) * x + np.sin(angle) * y) * (2 * np.pi / wavelength_mm) + draw(0, 6) + draw(-1, 1) * t
        wave = wavelength_mm * draw(0.008, 0.016) * np.sin(phase)
        x, y = x + np.cos(angle + 1) * wave, y + np.sin(angle + 1) * wave
    left = np.abs(x)  # the pelvis is symmetric

    fat, muscle, marrow, urine = draw(0.6, 0.75), draw(0.12, 0.17), draw(0.38, 0.5), draw(0.85, 1.0)
    t2 = Canvas(shape, 0.01, 0.8 * pixel_mm)
    adc = Canvas(shape, 0.02, 0.8 * pixel_mm)

    def paint(distance_mm: Array, value: float | Array, diffusion: float | Array) -> None:
        t2.paint(distance_mm, value)
        adc.paint(distance_mm, diffusion)

    def bone(distance_mm: Array) -> None:
        paint(distance_mm, 0.05, 0.1)
        paint(distance_mm - 2.5, marrow * (1 + 0.15 * coarse), 0.3)

    # Fat with septa up to the skin, then from the front: abdominal wall, pubic bones, and the muscles beside them.
    skin = blob(x, y, (0, draw(25, 35)), (draw(150, 180), draw(105, 118)), 0.0, 1 - 0.02 * t)
    paint(skin, 0.2, 0.5)
    paint(skin - 2.5, fat * (1 + 0.08 * coarse - 0.25 * np.maximum(fine - 1.2, 0)), 0.25 + 0.15 * np.abs(fine))
    fibre = muscle * (1 + 0.25 * streaks + 0.1 * fine)
    front = -gland_half_mm - draw(22, 28)
    paint(blob(left, y, (18, front - 20), (22, 6), draw(0.0, 0.15), 0.3 + 0.7 * t), fibre, 0.9)
    bone(blob(left, y, (draw(24, 28), front + 4), (draw(26, 30), 10), draw(0.45, 0.6), 1.25 - 1.1 * t))
    paint(blob(left, y, (draw(52, 58), front + 24), (12, 26), draw(-0.5, -0.3), 1.3 - 0.8 * t), fibre, 0.9)
    gluteus = blob(left, y, (draw(62, 70), draw(66, 74)), (draw(50, 58), draw(20, 26)), draw(-0.55, -0.4), 1.0)
    paint(gluteus, fibre * (1 + 0.5 * np.maximum(coarse, 0)), 0.9)
    bone(blob(left, y, (draw(78, 84), 14), (draw(14, 17), draw(18, 22)), 0.2, 1.2 - 0.9 * t))  # ischium
    head_centre = (draw(90, 96), draw(-22, -14))
    bone(blob(left, y, head_centre, (draw(27, 31), draw(27, 31)), 0.0, 1.4 * t - 0.25))
    obturator = blob(left, y, (draw(55, 60), draw(-8, 0)), (draw(10, 13), draw(38, 44)), draw(-0.3, -0.2), 1.0)
    paint(obturator + 1.5, 0.8 * fat, 0.3)
    paint(obturator, fibre, 0.9)
    bone(blob(x, y, (draw(-4, 4), draw(80, 88)), (draw(16, 22), 9), 0.0, 0.4 + 0.6 * t))  # coccyx, sacrum

    # Between them the hollow organs: levator sling, rectum with air or stool, bladder, vesicles.
    rectum_centre = (draw(-4, 4), gland_half_mm + draw(13, 17) + 10 * np.maximum(0.5 - t, 0))
    sling = blob(x, y, (0, 0.45 * rectum_centre[1]), (30, 44), 0.0, 0.95 + 0.15 * t)
    paint(np.minimum(sling, 20 * (1.2 - t)), fat * (0.7 + 0.1 * coarse + 0.05 * fine), 0.4)
    paint(np.minimum(2.2 - np.abs(sling), 20 * (1.1 - t)), 1.2 * muscle, 0.9)
    rectum = blob(x, y, rectum_centre, (draw(14, 19), draw(12, 16)), 0.0, 0.6 + 0.4 * np.clip(t + 0.2, 0, 1))
    paint(rectum, muscle * 2, 1.1)
    paint(rectum - 3.5, draw(0.02, 0.3) + 0.1 * np.maximum(coarse, 0), 0.2)
    vesicles = blob(left, y, (draw(15, 18), gland_half_mm - draw(2, 5)), (draw(16, 20), 6), 0.15, 3 * (t - 0.85))
    paint(vesicles, 0.55 + 0.25 * np.tanh(2 * fine), 1.6)
    bladder = blob(
        x, y, (draw(-3, 3), -draw(6, 12)), (draw(38, 46), draw(30, 36)), 0.0, np.sqrt(np.maximum(t - 0.75, 0)) - 0.05
    )
    paint(bladder, muscle * 1.5, 1.2)
    paint(bladder - 4, urine * (1 + 0.02 * coarse), 2.9)

    # The gland: a dark capsule, the zones with the edges of a voxel, nodules inside and ducts outside.
    sigma = (0.7 * pixel_mm / spacing_mm[0], 0.7 * pixel_mm / spacing_mm[1], 0)
    gland, inner = (smooth(mask, sigma) for mask in (zones > 0, zones == TRANSITION_ZONE))
    rim = smooth(zones > 0, (2.0 / pixel_mm, 2.0 / pixel_mm, 0))
    paint(12 * (rim - 0.2), muscle * 1.2, 1.0)
    peripheral = draw(0.65, 0.8) * (1 + 0.08 * fine + 0.12 * np.minimum(coarse, 0))
    transition = draw(0.3, 0.4) * (1 + 0.12 * fine + 0.3 * coarse)
    for canvas, value in ((t2, peripheral), (adc, 1.62 * (1 + 0.06 * coarse))):
        canvas.image += np.clip(gland, 0, 1) * (value - canvas.image)
    for canvas, value in ((t2, transition), (adc, 1.29 * (1 + 0.08 * coarse))):
        canvas.image += np.clip(inner, 0, 1) * (value - canvas.image)

    # Scanner: shading of the coils, contrast, Rician noise; ADC is coarse, noisy and has no meaning in air.
    u, v = x / half_x, y / half_y
    shading = draw(-0.25, 0.25) * u + draw(-0.1, 0.3) * v + draw(0.05, 0.3) * (u**2 + v**2) + draw(-0.1, 0.1) * t
    image = np.maximum(t2.image * (1 + 0.04 * fine), 0) ** draw(0.9, 1.15) * np.exp(shading)
    image = add_rician_noise(generator, image, draw(0.015, 0.03)) * draw(400, 1000)
    wide = (1.5 / pixel_mm, 1.5 / pixel_mm, 0)
    diffusion = smooth(adc.image, wide) + 0.08 * smooth_noise(generator, shape, wide)
    diffusion[skin < 0] = 0
    return np.stack([image, 1000 * np.maximum(diffusion, 0)], axis=-1).astype(np.float32)
