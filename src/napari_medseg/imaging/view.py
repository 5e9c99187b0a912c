"""Views: cubes of the scan in millimetres, resampled to a network's grid.

A view is axis-aligned with the volume's array. Resampling along one axis is one small matrix, with the kernel as wide
as the coarser of the two grids, so that zooming out averages instead of skipping voxels. The matrices are sparse: that
is faster, and the library that multiplies dense ones has threads which go on spinning on the cores that torch needs
next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from napari_medseg.imaging.filled_box import Region, filled_box

BALL_RADIUS = 5.0
_MAX_SAMPLES_A_STEP = 2.0
_SHEET_POINTS, _SHEET_PART = 6.0, 0.2
_CACHED_VALUES = 1 << 18

Floats = NDArray[np.float32]
Index = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A cube of `extent_mm`, seen on `size` x `size` x `size` points.

    Parameters
    ----------
    centre : ndarray, shape (3,)
        Continuous ``(z, y, x)`` index of the cube's centre in the volume's array.
    extent_mm : float
        Length of the cube's side.
    size : int
        Points along each side; a multiple of 16.
    """

    centre: Index
    extent_mm: float
    size: int = 64

    def coordinates(self, spacing_mm: Sequence[float]) -> list[NDArray[np.float64]]:
        """Continuous array indices of the view's points along z, y and x."""
        offsets = ((np.arange(self.size) + 0.5) / self.size - 0.5) * self.extent_mm
        return [c + offsets / s for c, s in zip(self.centre, spacing_mm, strict=True)]

    def point_of(self, index: Index, spacing_mm: Sequence[float]) -> Index:
        """Continuous view point of a continuous array index."""
        offset_mm = (np.asarray(index) - self.centre) * np.asarray(spacing_mm)
        return np.asarray((offset_mm / self.extent_mm + 0.5) * self.size - 0.5)


@dataclass(frozen=True, slots=True, eq=False)
class _Resampler:
    """One axis of a view: which array indices it reads, and the weights (points, indices read)."""

    start: int
    stop: int
    step: int
    weights: csr_array


def _resampler(coordinates: NDArray[np.float64], n: int) -> _Resampler:
    pitch = float(coordinates[1] - coordinates[0]) if len(coordinates) > 1 else 1.0
    step = max(1, int(pitch / _MAX_SAMPLES_A_STEP))
    width = max(1.0, pitch / step)
    low = int(np.clip(np.floor(coordinates[0] - pitch), 0, n - 1))
    high = int(np.clip(np.ceil(coordinates[-1] + pitch), 0, n - 1)) + 1
    positions = np.arange(low, high, step)
    nearest = np.clip(coordinates, positions[0], positions[-1])
    weights = np.maximum(0.0, 1.0 - np.abs(nearest[:, None] - positions[None]) / (width * step))
    return _Resampler(low, high, step, _averages(weights))


def _averages(weights: NDArray[np.float64]) -> csr_array:
    """Weights (points, values) that sum to one a point, as a sparse matrix."""
    counts = weights > 0
    kept = (weights / weights.sum(1, keepdims=True))[counts].astype(np.float32)
    ends = np.r_[0, counts.sum(1).cumsum()]
    return csr_array((kept, np.nonzero(counts)[1], ends), shape=weights.shape)


def _product(values: NDArray[np.generic], z: csr_array, y: csr_array, x: csr_array) -> Floats:
    """Multiply the axes of an array, shape (Z, Y, X), by their matrices, in 32-bit floats.

    What of a large array is looked at next lies together in memory, and a piece of it that is being turned into floats
    fits the processor's cache. Along z nothing needs to be turned round: it goes first where that leaves less to do.
    """
    if z.shape[0] < z.shape[1]:
        less = np.empty((z.shape[0], *values.shape[1:]), np.float32)
        for part in _pieces(values.shape[1], values.shape[0] * values.shape[2]):
            less[:, part] = _along(values[:, part], z, 0)
        return _along(_along(less, y, 1), x, 2)
    less = np.empty((len(values), y.shape[0], x.shape[0]), np.float32)
    for part in _pieces(len(values), values.shape[1] * values.shape[2]):
        less[part] = _along(_along(values[part], y, 1), x, 2)
    return _along(less, z, 0)


def _pieces(n: int, size: int) -> list[slice]:
    """Cut `n` lines of `size` values into pieces that fit the cache."""
    step = max(1, _CACHED_VALUES // max(1, size))
    return [slice(k, k + step) for k in range(0, n, step)]


def _along(values: NDArray[np.generic], matrix: csr_array, axis: int) -> Floats:
    """Multiply one axis of an array, shape (Z, Y, X), by a matrix."""
    floats = np.ascontiguousarray(values, np.float32)
    z, y, x = floats.shape
    if axis == 0:
        product = (matrix @ floats.reshape(z, -1)).reshape(-1, y, x)
    elif axis == 1:
        product = (_repeated(matrix, z) @ floats.reshape(-1, x)).reshape(z, -1, x)
    else:
        product = (matrix @ np.ascontiguousarray(floats.reshape(-1, x).T)).T.reshape(z, y, -1)
    return np.ascontiguousarray(product, np.float32)


def _repeated(matrix: csr_array, n: int) -> csr_array:
    """The matrix `n` times along a diagonal: it multiplies `n` arrays that lie one after the other."""
    rows, columns = matrix.shape
    blocks = np.arange(n)[:, None]
    indices = (matrix.indices + columns * blocks).ravel()
    ends = np.r_[0, (matrix.indptr[1:] + matrix.nnz * blocks).ravel()]
    return csr_array((np.tile(matrix.data, n), indices, ends), shape=(n * rows, n * columns))


def sample(array: NDArray[np.generic], view: View, spacing_mm: Sequence[float]) -> Floats:
    """Resample an array, shape (Z, Y, X), to a view, shape (size, size, size); the border repeats outside."""
    z, y, x = (_resampler(c, n) for c, n in zip(view.coordinates(spacing_mm), array.shape, strict=True))
    cut = array[z.start : z.stop : z.step, y.start : y.stop : y.step, x.start : x.stop : x.step]
    return _product(cut, z.weights, y.weights, x.weights)


def sample_slices(array: NDArray[np.generic], slices: Sequence[int], view: View, spacing_mm: Sequence[float]) -> Floats:
    """Resample some slices of an array, shape (Z, Y, X), within their plane alone: shape (n, size, size)."""
    y, x = (_resampler(c, n) for c, n in zip(view.coordinates(spacing_mm)[1:], array.shape[1:], strict=True))
    cut = np.stack([array[k, y.start : y.stop : y.step, x.start : x.stop : x.step] for k in slices])
    return _along(_along(cut, y.weights, 1), x.weights, 2)


def valid(shape: Sequence[int], view: View, spacing_mm: Sequence[float]) -> Floats:
    """1 where the view's points lie on the scan, 0 outside; along an axis on which it is a sheet, 1 everywhere."""
    z, y, x = (
        np.full(view.size, is_sheet) | ((c >= -0.5) & (c <= n - 0.5))
        for c, n, is_sheet in zip(view.coordinates(spacing_mm), shape, sheets(shape, view, spacing_mm), strict=True)
    )
    return (z[:, None, None] & y[:, None] & x).astype(np.float32)


def sheets(shape: Sequence[int], view: View, spacing_mm: Sequence[float]) -> tuple[bool, ...]:
    """Axes along which a scan is a sheet in a view: a picture, or a few slices thinner than a handful of points.

    The view's points might pass it by, and a network would see a line of it. There it goes on as `sample` repeats it.
    """
    lengths, pitch = np.multiply(shape, spacing_mm), view.extent_mm / view.size
    thin = (lengths < _SHEET_POINTS * pitch) & (lengths < _SHEET_PART * lengths.max())
    return tuple(bool(each) for each in thin)


def paste(
    values: Floats,
    view: View,
    shape: Sequence[int],
    spacing_mm: Sequence[float],
    within: Sequence[slice] | None = None,
) -> tuple[Floats, Region]:
    """Resample a view's values, shape (size, size, size), to the array's grid, where the view covers it.

    Parameters
    ----------
    values : ndarray
        The values at the view's points.
    view : View
        Where they are.
    shape : sequence of int
        Of the array.
    spacing_mm : sequence of float
        Voxel size of the array along (z, y, x).
    within : sequence of slice, optional
        A box of the array: only what of the view lies in it is made, at least one voxel.

    Returns
    -------
    ndarray
        The values on the array's grid.
    tuple of slice
        The region of the array that they belong to.
    """
    region = covered(view, shape, spacing_mm, within)
    matrices = []
    for c, part in zip(view.coordinates(spacing_mm), region, strict=True):
        pitch = c[1] - c[0]
        points = np.clip((np.arange(part.start, part.stop) - c[0]) / pitch, 0, view.size - 1)
        width = max(1.0, 1.0 / pitch)
        weights = np.maximum(0.0, 1.0 - np.abs(points[:, None] - np.arange(view.size)[None]) / width)
        matrices.append(_averages(weights))
    z, y, x = matrices
    return _product(values, z, y, x), region


def covered(
    view: View, shape: Sequence[int], spacing_mm: Sequence[float], within: Sequence[slice] | None = None
) -> Region:
    """The box of the array, or of a part of it, that a view covers: at least one voxel."""
    region = []
    for axis, (c, n) in enumerate(zip(view.coordinates(spacing_mm), shape, strict=True)):
        pitch = c[1] - c[0]
        start, stop = (0, n) if within is None else (within[axis].start, within[axis].stop)
        low = int(np.clip(np.ceil(c[0] - pitch / 2), start, stop - 1))
        high = int(np.clip(np.floor(c[-1] + pitch / 2), low, stop - 1)) + 1
        region.append(slice(low, high))
    return region[0], region[1], region[2]


def reach_of(
    wanted: NDArray[np.bool_], view: View, within: Sequence[slice], spacing_mm: Sequence[float]
) -> Region | None:
    """The part of a box of the array that some of a view's points have a say in; None where none is wanted."""
    box = filled_box(wanted)
    if box is None:
        return None
    region = []
    for part, c, limit in zip(box, view.coordinates(spacing_mm), within, strict=True):
        pitch = max(float(c[1] - c[0]), 1.0)
        low = max(limit.start, int(np.floor(c[part.start] - pitch)))
        high = min(limit.stop, int(np.ceil(c[part.stop - 1] + pitch)) + 1)
        if low >= high:
            return None
        region.append(slice(low, high))
    return region[0], region[1], region[2]


def intensity_window(array: NDArray[np.generic], points: Index, spacing_mm: Sequence[float]) -> tuple[float, float]:
    """Median and robust standard deviation of the intensities round the clicks, on the scan's own grid.

    The neighbourhood is about 2 voxels of the finest spacing wide, so that a coarse axis does not leave the lesion.
    """
    finest = min(spacing_mm)
    reach = [round(2 * finest / s) for s in spacing_mm]
    values = []
    for point in points:
        index = np.clip(np.round(point).astype(int), 0, np.array(array.shape) - 1)
        cut = tuple(slice(max(0, i - r), i + r + 1) for i, r in zip(index, reach, strict=True))
        values.append(np.asarray(array[cut], np.float32).ravel())
    joined = np.concatenate(values)
    middle = float(np.median(joined))
    return middle, float(1.4826 * np.median(np.abs(joined - middle)))


def normalise(image: Floats, inside: Floats) -> tuple[Floats, float]:
    """Clip to the 0.5 - 99.5 percentiles and z-score, by what lies on the scan; also return the deviation."""
    seen = image[::2, ::2, ::2][inside[::2, ::2, ::2] > 0]
    if not seen.size:
        seen = image.ravel()
    low, high = np.percentile(seen, (0.5, 99.5))
    clipped = np.clip(seen, low, high)
    deviation = max(float(clipped.std()), 1e-6)
    return (np.clip(image, low, high) - np.float32(clipped.mean())) / np.float32(deviation), deviation


def narrow_window(image: Floats, middle: float, deviation: float, scale: float) -> Floats:
    """Intensities round those of a clicked place, -1 to 1; `scale` is the whole view's deviation."""
    return np.asarray(np.tanh((image - middle) / (3.0 * max(deviation, 0.03 * scale, 1e-6))))


def draw_ramp(channel: Floats, point: Index, strength: float = 1.0) -> None:
    """Draw a ball that falls off from `strength` at its centre to 0 at `BALL_RADIUS` points; the larger value stays."""
    low = np.maximum(np.ceil(point - BALL_RADIUS), 0).astype(int)
    high = np.minimum(np.floor(point + BALL_RADIUS) + 1, channel.shape).astype(int)
    if (high <= low).any():
        return
    z, y, x = (np.arange(a, b) - p for a, b, p in zip(low, high, point, strict=True))
    distance = np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)
    ramp = (strength * np.maximum(0.0, 1.0 - distance / BALL_RADIUS)).astype(np.float32)
    cut = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    np.maximum(channel[cut], ramp, out=channel[cut])
