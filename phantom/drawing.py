"""What the phantoms are drawn with: shapes as distances in mm, soft edges, texture, the noise of a scanner.

A shape is an array of roughly the distance in mm to its edge, positive inside. Shapes intersect by the minimum, unite
by the maximum and grow by adding mm.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


class Canvas:
    """An image on which shapes are painted one over the other with soft edges.

    Args:
        shape: of the image.
        background: intensity to begin with.
        edge_mm: half the width over which an edge is soft; about a voxel gives the look of partial volume.

    Attributes:
        image: float32, what has been painted.
    """

    def __init__(self, shape: Sequence[int], background: float, edge_mm: float) -> None:
        self.image: Array = np.full(shape, background, np.float32)
        self.edge_mm = edge_mm

    def paint(self, distance_mm: Array, value: float | Array) -> None:
        """Cover the inside of a shape with an intensity, one for all or one for each voxel."""
        cover = 0.5 * (1 + np.tanh(distance_mm / self.edge_mm))
        self.image += cover * (value - self.image)


def blob(
    x: Array,
    y: Array,
    centre: tuple[float | Array, float | Array],
    radii_mm: tuple[float, float],
    angle: float,
    growth: float | Array,
) -> Array:
    """Return the shape of an ellipse in the plane.

    Centre and growth, the factor on both radii, may differ between levels; at zero growth and below there is no inside.

    Args:
        x: first coordinate in mm.
        y: second coordinate in mm.
        centre: in mm.
        radii_mm: half axes.
        angle: by which the first half axis is turned from x towards y, in radians.
        growth: factor on both half axes.
    """
    x, y = x - centre[0], y - centre[1]
    first = (np.cos(angle) * x + np.sin(angle) * y) / radii_mm[0]
    second = (np.cos(angle) * y - np.sin(angle) * x) / radii_mm[1]
    return np.sqrt(radii_mm[0] * radii_mm[1]) * (growth - np.hypot(first, second))


def smooth(values: NDArray, widths: Sequence[float] | Array) -> Array:
    """Smooth with a Gaussian; what leaves on one side comes in on the other.

    Args:
        values: of any shape.
        widths: standard deviation in voxels along each axis, 0 for none.
    """
    axes = [axis for axis, width in enumerate(widths) if width > 0]
    spectrum = np.fft.rfftn(values, axes=axes)
    for axis in axes:
        length = values.shape[axis]
        frequencies = np.fft.rfftfreq(length) if axis == axes[-1] else np.fft.fftfreq(length)
        damping = np.exp(-2 * (np.pi * widths[axis] * frequencies) ** 2)
        spectrum *= np.expand_dims(damping, [other for other in range(values.ndim) if other != axis])
    return np.fft.irfftn(spectrum, s=[values.shape[axis] for axis in axes], axes=axes).astype(np.float32)


def smooth_noise(generator: np.random.Generator, shape: Sequence[int], widths: Sequence[float] | Array) -> Array:
    """Return noise of mean 0 and standard deviation 1, smoothed by a Gaussian of these widths in voxels."""
    noise = smooth(generator.standard_normal(shape, dtype=np.float32), widths)
    return (noise - noise.mean()) / noise.std()


def add_rician_noise(generator: np.random.Generator, image: Array, deviation: float) -> Array:
    """Return the magnitude of an image with noise of this standard deviation in its real and its imaginary part."""
    noise = deviation * generator.standard_normal((2, *image.shape), dtype=np.float32)
    return np.hypot(image + noise[0], noise[1])
