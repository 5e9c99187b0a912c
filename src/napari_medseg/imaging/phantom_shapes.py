"""Shapes that phantoms are made of: smooth solids, tubes, organic noise and partial volume, in patient millimetres.

Everything is a function of world positions (RAS+, mm), so one patient can be scanned on any grid, oblique ones too.
A shape is its signed distance in millimetres: negative inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.floating[Any]]
Triple = tuple[float, float, float]
Region = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Waves:
    """A smooth random function of position: a sum of plane waves with a given typical length.

    Parameters
    ----------
    rng : Generator
        Decides the waves.
    length_mm : float
        Distance over which the values change.
    n : int
        Number of waves.
    """

    vectors: NDArray[np.float64]
    phases: NDArray[np.float64]

    @staticmethod
    def random(rng: np.random.Generator, length_mm: float, n: int = 24) -> Waves:
        """Draw the waves."""
        return Waves(rng.normal(size=(n, 3)) / length_mm, rng.uniform(0, 2 * np.pi, n))

    def on(self, shape: tuple[int, ...], affine: NDArray[np.float64]) -> Field:
        """Values on a grid: mean 0, standard deviation about 1.

        The phase of a plane wave is linear in the voxel index on any grid, so the sum is a matrix product.
        """
        steps = self.vectors @ affine[:3, :3]
        start = self.phases + self.vectors @ affine[:3, 3]
        z, y, x = (np.exp(1j * np.outer(steps[:, axis], np.arange(n))) for axis, n in enumerate(shape))
        plane = (y[:, :, None] * x[:, None, :]).reshape(len(start), -1)
        column = np.exp(1j * start)[:, None] * z
        values = column.real.T @ plane.real - column.imag.T @ plane.imag
        return np.asarray(values * np.sqrt(2 / len(start)), np.float32).reshape(shape)


class Canvas:
    """A grid that shapes are painted on, later ones over earlier ones.

    Parameters
    ----------
    shape : tuple of int, (Z, Y, X)
        Voxels.
    affine : ndarray, shape (4, 4)
        Voxel index ``(z, y, x, 1)`` to world millimetres, RAS+.
    background : float
        Intensity of empty space.
    """

    def __init__(self, shape: tuple[int, int, int], affine: NDArray[np.float64], background: float) -> None:
        self.shape, self.affine = shape, affine
        self.image: Field = np.full(shape, background, np.float32)
        index = [
            np.arange(n, dtype=np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
            for axis, n in enumerate(shape)
        ]
        steps = affine.astype(np.float32)
        self.right, self.anterior, self.superior = (
            steps[row, 0] * index[0] + steps[row, 1] * index[1] + steps[row, 2] * index[2] + steps[row, 3]
            for row in range(3)
        )
        self.edge_mm = float(np.linalg.norm(affine[:3, :3], axis=0).mean()) * 0.8

    def waves(self, waves: Waves) -> Field:
        """Values of waves on this grid."""
        return waves.on(self.shape, self.affine)

    def paint(self, distance: Field, value: float | Field, region: Region | None = None) -> None:
        """Fill a shape with an intensity; border voxels get a mixture, as in a scanner."""
        view = self.image if region is None else self.image[region]
        share = np.clip(0.5 - distance / self.edge_mm, 0.0, 1.0)
        view += share * (value - view)

    def region(self, points: Sequence[Triple], reach_mm: float) -> Region | None:
        """Smallest box of voxels round some positions, or None where it lies outside of the grid."""
        inverse = np.linalg.inv(self.affine)
        index = np.asarray(points) @ inverse[:3, :3].T + inverse[:3, 3]
        margin = reach_mm * np.abs(inverse[:3, :3]).sum(axis=1)
        low = np.maximum(np.floor(index.min(axis=0) - margin), 0).astype(int)
        high = np.minimum(np.ceil(index.max(axis=0) + margin) + 1, self.shape).astype(int)
        if (high <= low).any():
            return None
        z, y, x = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        return z, y, x

    def at(self, region: Region) -> tuple[Field, Field, Field]:
        """Positions (right, anterior, superior) inside a box."""
        return self.right[region], self.anterior[region], self.superior[region]


Positions = tuple[Field, Field, Field]


def ellipsoid(where: Positions, centre: Triple, radii: Triple, *, turn_deg: float = 0.0, power: float = 2.0) -> Field:
    """Distance to an ellipsoid, turned about the long axis of the body; ``power`` above 2 makes it boxier."""
    x, y, z = (axis - np.float32(c) for axis, c in zip(where, centre, strict=True))
    if turn_deg:
        cos, sin = np.float32(np.cos(np.radians(turn_deg))), np.float32(np.sin(np.radians(turn_deg)))
        x, y = cos * x + sin * y, cos * y - sin * x
    a, b, c = (np.float32(r) for r in radii)
    if power == 2.0:
        size = np.sqrt((x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2)
        slope = np.sqrt((x / a**2) ** 2 + (y / b**2) ** 2 + (z / c**2) ** 2)
        return _signed(size, slope, min(radii))
    p = np.float32(power)
    size = (np.abs(x / a) ** p + np.abs(y / b) ** p + np.abs(z / c) ** p) ** (1 / p)
    return np.asarray((size - 1) * min(radii), np.float32)


def column(where: Positions, centre: tuple[float, float], radii: tuple[float, float], *, power: float = 2.0) -> Field:
    """Distance to an elliptic column that runs along the body."""
    x, y = where[0] - np.float32(centre[0]), where[1] - np.float32(centre[1])
    a, b = np.float32(radii[0]), np.float32(radii[1])
    if power == 2.0:
        size = np.sqrt((x / a) ** 2 + (y / b) ** 2)
        slope = np.sqrt((x / a**2) ** 2 + (y / b**2) ** 2)
        return _signed(size, slope, min(radii))
    p = np.float32(power)
    size = (np.abs(x / a) ** p + np.abs(y / b) ** p) ** (1 / p)
    return np.asarray((size - 1) * (a * b) ** np.float32(0.5), np.float32)


def tube(where: Positions, start: Triple, end: Triple, radius: float, end_radius: float | None = None) -> Field:
    """Distance to a round tube between two points, tapering to ``end_radius``."""
    to_end = np.asarray(end, np.float32) - np.asarray(start, np.float32)
    offsets = [axis - np.float32(c) for axis, c in zip(where, start, strict=True)]
    along = sum(o * d for o, d in zip(offsets, to_end, strict=True)) / max(float(to_end @ to_end), 1e-6)
    along = np.clip(along, 0.0, 1.0)
    away = np.sqrt(sum((o - along * d) ** 2 for o, d in zip(offsets, to_end, strict=True)))
    last = radius if end_radius is None else end_radius
    return np.asarray(away - (radius + along * (last - radius)), np.float32)


@dataclass(frozen=True)
class Branch:
    """One piece of a vessel tree."""

    start: Triple
    end: Triple
    radius: float
    end_radius: float


def tree(
    rng: np.random.Generator, root: Triple, towards: Triple, *, length: float, radius: float, levels: int
) -> list[Branch]:
    """Grow a vessel tree: every branch splits into two or three shorter, thinner ones."""
    direction = np.asarray(towards, float) / np.linalg.norm(towards)
    end = np.asarray(root) + direction * length * rng.uniform(0.8, 1.2)
    branches = [Branch(root, _triple(end), radius, radius * 0.78)]
    if levels > 1:
        for _ in range(int(rng.integers(2, 4))):
            turned = direction + rng.normal(scale=0.55, size=3)
            branches += tree(
                rng, _triple(end), _triple(turned), length=length * 0.78, radius=radius * 0.72, levels=levels - 1
            )
    return branches


def paint_tree(canvas: Canvas, branches: Sequence[Branch], value: float, within: Field) -> None:
    """Paint vessels where they run inside a shape."""
    for branch in branches:
        region = canvas.region([branch.start, branch.end], branch.radius + 2 * canvas.edge_mm)
        if region is not None:
            pipe = tube(canvas.at(region), branch.start, branch.end, branch.radius, branch.end_radius)
            canvas.paint(np.maximum(pipe, within[region]), value, region)


def union(*distances: Field, blend_mm: float = 0.0) -> Field:
    """Distance to everything that lies in any of the shapes, their seam rounded by ``blend_mm``."""
    result = distances[0]
    for other in distances[1:]:
        if blend_mm:
            mix = np.clip(0.5 + 0.5 * (other - result) / blend_mm, 0.0, 1.0)
            result = other + mix * (result - other) - blend_mm * mix * (1 - mix)
        else:
            result = np.minimum(result, other)
    return np.asarray(result, np.float32)


def correlated_noise(rng: np.random.Generator, shape: tuple[int, int, int], *, peak: float = 0.28) -> Field:
    """Noise with the grain of a reconstructed scan: strongest at a middle in-plane frequency, standard deviation 1.

    Parameters
    ----------
    rng : Generator
        Decides the noise.
    shape : tuple of int, (Z, Y, X)
        Voxels.
    peak : float
        In-plane frequency of the strongest grain, in cycles per voxel (at most 0.5).
    """
    white = rng.standard_normal(shape, dtype=np.float32)
    fy, fx = np.fft.fftfreq(shape[1])[:, None], np.fft.rfftfreq(shape[2])[None, :]
    frequency = np.hypot(fy, fx) / peak
    grain = np.fft.irfft2(np.fft.rfft2(white) * frequency * np.exp(0.5 - 0.5 * frequency**2), s=shape[1:])
    grain[1:] = 0.85 * grain[1:] + 0.3 * grain[:-1]
    return np.asarray(grain / grain.std(), np.float32)


def _signed(size: Field, slope: Field, radius: float) -> Field:
    """First-order distance to the surface ``size == 1``; the centre, which has no slope, is ``radius`` deep."""
    distance = size * (size - 1) / np.maximum(slope, np.float32(1e-6))
    return np.asarray(np.where(size < 1e-3, -radius, distance), np.float32)


def _triple(values: NDArray[np.float64]) -> Triple:
    x, y, z = (float(v) for v in values)
    return x, y, z
