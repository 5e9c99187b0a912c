"""How large is what was clicked: a surface along rays from the click, tried at several sizes.

Rays leave the click in all directions; each is read at distances that grow by a constant factor, so that a 4 mm nodule
and a 20 cm sarcoma cost the same. For each size that is tried, intensities nearer and farther than it make two
histograms; the surface that parts them best, smooth from ray to ray, is that size's answer. The size whose surface
shows the clearest step from inside to outside wins (polar surface detection after Li et al., PAMI 2006, with several
scales in place of one).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, map_coordinates
from scipy.spatial import cKDTree

from napari_medseg.imaging.view import View

Floats = NDArray[np.float64]

_N_RAYS, _N_NEIGHBOURS = 256, 6
_LEAST_VOXELS, _GROWTH, _MOST_STEPS, _MOST_MM = 1.2, 1.13, 40, 160.0
_FIRST_SIZE, _STEPS_A_SIZE, _STEPS_BEYOND = 3.0, 2.5, 3
_BINS, _ROUNDS, _SMOOTHNESS = 24, 12, 0.35
_TRUST = 0.15
_CELLS = 32


@dataclass(frozen=True, slots=True, eq=False)
class StarSurface:
    """A surface round a point, one radius a direction.

    Parameters
    ----------
    centre : ndarray, shape (3,)
        Continuous ``(z, y, x)`` index of the point.
    directions : ndarray, shape (R, 3)
        Unit vectors along ``(z, y, x)``, in millimetres.
    radii_mm : ndarray, shape (R,)
        Distance of the surface in each direction.
    score : float
        The Dice with the lesion that is expected of it.
    """

    centre: Floats
    directions: Floats
    radii_mm: Floats
    score: float

    def signed_distance_mm(self, offsets_mm: Floats) -> Floats:
        """How far points, shape (N, 3) in millimetres from the centre, lie inside (positive) along their ray."""
        distance, nearest = cKDTree(self.directions).query(_middles_of_cells(), k=3)
        weights = 1.0 / np.maximum(distance, 1e-3)
        radius = (self.radii_mm[nearest] * weights).sum(1) / weights.sum(1)
        return np.asarray(radius[_cells(offsets_mm)] - np.linalg.norm(offsets_mm, axis=1))


@cache
def _middles_of_cells() -> Floats:
    """Unit vectors through the middles of a cube's cells, shape (6 * N * N, 3): all directions, 3 degrees apart."""
    middles = (np.arange(_CELLS) + 0.5) * 2 / _CELLS - 1
    u, v = (each.ravel() for each in np.meshgrid(middles, middles, indexing="ij"))
    faces = [np.insert(np.stack([u, v], 1), axis, sign, axis=1) for axis in range(3) for sign in (-1.0, 1.0)]
    through = np.concatenate(faces)
    return np.asarray(through / np.linalg.norm(through, axis=1, keepdims=True))


def _cells(offsets: Floats) -> NDArray[np.int64]:
    """Index of the cell that each vector, shape (N, 3), points through."""
    axis = np.abs(offsets).argmax(1)
    rows = np.arange(len(offsets))
    along, first, second = offsets[rows, axis], offsets[rows, (axis == 0).astype(int)], offsets[rows, 2 - (axis == 2)]
    scale = _CELLS / 2 / np.maximum(np.abs(along), 1e-9)
    u, v = (np.minimum(((each * scale) + _CELLS / 2).astype(np.int64), _CELLS - 1) for each in (first, second))
    return np.asarray(((2 * axis + (along > 0)) * _CELLS + u) * _CELLS + v)


@cache
def directions(is_flat: bool) -> tuple[Floats, NDArray[np.int64]]:
    """Evenly spread unit vectors and the nearest neighbours of each; all in one plane for a picture."""
    k = np.arange(_N_RAYS) + 0.5
    if is_flat:
        angle = 2 * np.pi * k / _N_RAYS
        unit = np.stack([np.zeros(_N_RAYS), np.sin(angle), np.cos(angle)], 1)
    else:
        polar, azimuth = np.arccos(1 - 2 * k / _N_RAYS), np.pi * (1 + 5**0.5) * k  # a Fibonacci lattice
        unit = np.stack([np.cos(polar), np.sin(polar) * np.sin(azimuth), np.sin(polar) * np.cos(azimuth)], 1)
    _, neighbours = cKDTree(unit).query(unit, k=(3 if is_flat else _N_NEIGHBOURS + 1))
    return unit, neighbours


@dataclass(frozen=True, slots=True, eq=False)
class Polar:
    """A scan along rays: intensities between 0 and 1, shape (R, M), and which of the points lie on the scan."""

    directions: Floats
    values: Floats
    inside: NDArray[np.bool_]
    neighbours: NDArray[np.int64]
    radii_mm: Floats

    def offsets(self, surface: Floats) -> Floats:
        """Steps (R, M) from a surface (R,), itself in steps; negative within it."""
        return np.asarray(np.arange(len(self.radii_mm))[None] - surface[:, None])


@dataclass(frozen=True, slots=True, eq=False)
class RaySearch:
    """What rays from a click found: the best surface near each of several sizes, and what is expected of each.

    Parameters
    ----------
    centre : ndarray, shape (3,)
        Continuous ``(z, y, x)`` index of the click.
    polar : Polar
        The scan along the rays.
    surfaces : tuple of ndarray, shape (R,)
        The surfaces, in steps along the rays.
    scores : ndarray, shape (K,)
        The Dice with the lesion that is expected of each.
    """

    centre: Floats
    polar: Polar
    surfaces: tuple[Floats, ...]
    scores: Floats

    def best(self) -> StarSurface:
        """The surface of which most is expected."""
        k = int(np.argmax(self.scores))
        polar = self.polar
        radii = np.interp(self.surfaces[k], np.arange(len(polar.radii_mm)), polar.radii_mm)
        return StarSurface(self.centre, polar.directions, radii, float(self.scores[k]))

    def agreement(self, probability: NDArray[np.float32], view: View, spacing_mm: Sequence[float]) -> float:
        """Dice of a mask with the surfaces, each counting by what is expected of it.

        Parameters
        ----------
        probability : ndarray, shape (N, N, N)
            The mask, as a view's probabilities.
        view : View
            The view.
        spacing_mm : sequence of float
            Voxel size of the scan along (z, y, x).
        """
        polar, pitch = self.polar, view.extent_mm / view.size
        offsets = polar.directions[:, None] * polar.radii_mm[:, None] / pitch
        points = view.point_of(self.centre, tuple(spacing_mm)) + offsets
        read = map_coordinates(probability, points.reshape(-1, 3).T, order=1, mode="constant", output=np.float32)
        mask = read.reshape(polar.inside.shape) > 0.5
        volume = polar.inside * polar.radii_mm**3  # of the piece of a shell that a point stands for
        trust = np.exp((self.scores - self.scores.max()) / _TRUST)
        overlaps = [_overlap(mask, polar.offsets(surface) <= 0, volume) for surface in self.surfaces]
        return float(np.average(overlaps, weights=trust))


def _overlap(a: NDArray[np.bool_], b: NDArray[np.bool_], volume: Floats) -> float:
    return float(2 * ((a & b) * volume).sum() / max(float(((a * 1.0 + b) * volume).sum()), 1e-9))


def search_rays(array: NDArray[np.generic], centre: Floats, spacing_mm: Sequence[float]) -> RaySearch:
    """Look for the surface of what lies round a point of a scan, at several sizes.

    Parameters
    ----------
    array : ndarray, shape (Z, Y, X)
        The scan.
    centre : ndarray, shape (3,)
        Continuous index of the click.
    spacing_mm : sequence of float
        Voxel size along (z, y, x).
    """
    polar = read_rays(array, centre, spacing_mm)
    surfaces = surfaces_of_sizes(polar)
    scores = np.array([expected_dice(describe(polar, surfaces, k)) for k in range(len(surfaces))])
    return RaySearch(np.asarray(centre, float), polar, tuple(surfaces), scores)


def read_rays(array: NDArray[np.generic], centre: Floats, spacing_mm: Sequence[float]) -> Polar:
    """Intensities along rays, averaged with those of neighbouring rays, between their 1st and 99th percentiles."""
    spacing = np.asarray(spacing_mm, float)
    unit, neighbours = directions(array.shape[0] == 1)
    least = _LEAST_VOXELS * spacing.min()
    n = int(np.clip(np.log(_MOST_MM / least) / np.log(_GROWTH), 16, _MOST_STEPS))
    radii = least * _GROWTH ** np.arange(n)
    points = centre + unit[:, None] * radii[:, None] / spacing
    inside = ((points >= -0.5) & (points <= np.array(array.shape) - 0.5)).all(2)
    read = map_coordinates(array, points.reshape(-1, 3).T, order=1, mode="nearest", output=np.float32)
    values = read.reshape(inside.shape).astype(float)[neighbours].mean(1)
    low, high = np.percentile(values[inside], (1, 99)) if inside.any() else (0.0, 1.0)
    return Polar(unit, np.clip((values - low) / max(float(high - low), 1e-6), 0, 1), inside, neighbours, radii)


def surfaces_of_sizes(polar: Polar) -> list[Floats]:
    """The best surface near each of several sizes, in steps along the rays."""
    sizes = np.arange(_FIRST_SIZE, len(polar.radii_mm) - _STEPS_BEYOND, _STEPS_A_SIZE)
    surfaces = np.repeat(sizes[:, None], len(polar.values), 1)
    for _ in range(2):
        surfaces = _smooth_surfaces(polar, np.stack([log_ratio(polar, each) for each in surfaces]), sizes)
    return list(surfaces)


def log_ratio(polar: Polar, surface: Floats) -> Floats:
    """Log of how much likelier each intensity is inside the surface than just outside of it, between -2 and 2."""
    offset = polar.offsets(surface)
    binned = np.minimum((polar.values * _BINS).astype(int), _BINS - 1)
    within, beyond = polar.inside & (offset < -1), polar.inside & (offset > 1) & (offset < 6)
    weight = _GROWTH ** (2 * np.minimum(offset, 0))  # outer shells hold more of the lesion than inner ones
    near = gaussian_filter1d(np.bincount(binned[within], weight[within], _BINS).astype(float), 1.0)
    far = gaussian_filter1d(np.bincount(binned[beyond], minlength=_BINS).astype(float), 1.0)
    near, far = near / max(near.sum(), 1e-9) + 0.01, far / max(far.sum(), 1e-9) + 0.01
    return np.where(polar.inside, np.clip(np.log(near / far), -2, 2)[binned], -1.0)


def _smooth_surfaces(polar: Polar, ratios: Floats, sizes: Floats) -> Floats:
    """Mean-field answers (K, R) to: inside likely, outside unlikely, near its neighbours, near the size that is tried.

    Parameters
    ----------
    polar : Polar
        The scan along R rays.
    ratios : ndarray, shape (K, R, M)
        What `log_ratio` says, for each size.
    sizes : ndarray, shape (K,)
        The sizes, in steps.
    """
    steps = np.arange(ratios.shape[2], dtype=np.float32)
    near_size = 0.5 * ((steps - sizes[:, None, None]) / 4.0) ** 2
    cost = 0.5 * ratios - np.cumsum(ratios, 2) + near_size + _SMOOTHNESS * steps**2
    cost = np.ascontiguousarray(np.moveaxis(cost, 2, 1), np.float32)  # (K, M, R): sums over the steps are fast
    surfaces = np.repeat(sizes[:, None], ratios.shape[1], 1).astype(np.float32)
    column, weight = steps[:, None], np.empty_like(cost)
    for k in range(_ROUNDS):  # (step - neighbours)^2 without its last term, which is the same at all steps
        around = surfaces[:, polar.neighbours[:, 1:]].mean(2)
        np.multiply(2 * _SMOOTHNESS * around[:, None], column, out=weight)
        np.subtract(weight, cost, out=weight)
        weight -= weight.max(1, keepdims=True)
        weight /= np.float32(2.0 * 0.75**k + 0.3)
        np.exp(weight, out=weight)
        total = weight.sum(1)
        weight *= column
        surfaces = weight.sum(1) / total
    return surfaces.astype(float)


def describe(polar: Polar, surfaces: Sequence[Floats], k: int) -> Floats:
    """What tells a good surface from a bad one, for the k-th of them: eight numbers.

    How steep intensities are at the surface and within it, against the whole; how much of it lies on the scan; how
    little it changes with the size that was tried; the step that follows farther out; the spread of its radii; how
    likely intensities are inside, within it and just beyond it.
    """
    surface = surfaces[k]
    offset, values, inside = polar.offsets(surface), polar.values, polar.inside
    at, within = inside & (np.abs(offset) < 1), inside & (offset < -0.5)
    shell, farther = inside & (offset > 0.5) & (offset < 5), inside & (offset > 4)
    steep, ratio = np.abs(np.gradient(values, axis=1)), log_ratio(polar, surface)
    usual = _mean(steep, inside) + 0.005
    nearby = [float(np.abs(surfaces[j] - surface).mean()) for j in (k - 1, k + 1) if 0 <= j < len(surfaces)]
    last = np.clip(np.rint(surface).astype(int), 0, inside.shape[1] - 1)
    spread = float(values[inside].std()) + 0.02 if inside.any() else 1.0
    return np.array(
        [
            _mean(steep, at) / usual,
            _mean(steep, within) / usual,
            float(inside[np.arange(len(last)), last].mean()),
            min(nearby, default=0.0),
            abs(_mean(values, farther) - _mean(values, shell)) / spread,
            float(surface.std()),
            _mean(ratio, within),
            _mean(ratio, shell),
        ]
    )


def _mean(values: Floats, where: NDArray[np.bool_]) -> float:
    return float(values[where].mean()) if where.any() else 0.0


def expected_dice(description: Floats) -> float:
    """Regression on standardised features and their squares, fitted to lesions of patients that no figure is from."""
    z = np.clip((description - _MEANS) / _DEVIATIONS, -3, 3)
    return float(_CONSTANT + z @ _LINEAR + z**2 @ _SQUARES)


_MEANS = np.array([1.66, 0.456, 0.881, 1.54, 0.522, 1.69, 1.05, -0.796])
_DEVIATIONS = np.array([1.76, 0.359, 0.289, 1.09, 0.532, 1.16, 0.779, 0.761])
_CONSTANT = 0.253
_LINEAR = np.array([0.259, -0.0132, 0.354, -0.0183, 0.0116, -0.0836, 0.044, -0.0677])
_SQUARES = np.array([-0.0897, 0.0215, 0.103, 0.0148, 0.00255, -0.00805, -0.0634, 0.021])
