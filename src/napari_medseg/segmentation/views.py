"""Views: cubes of the scan in millimetres, resampled to the network's grid, with the prompts drawn in.

Training and inference make their input here, and only here, so that what the network learned is what it is asked.
A view is axis-aligned with the volume's array. Resampling along one axis is one small matrix, with the kernel as wide
as the coarser of the two grids, so that zooming out averages instead of skipping voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_medseg.segmentation.prompts import Box, Click, Prompt, Scribble

IMAGE, WINDOW, PREVIOUS, POSITIVE, NEGATIVE, BOX, VALID = range(7)
N_CHANNELS = 7
BALL_RADIUS = 5.0
FADE = 0.98
_MAX_SAMPLES_A_STEP = 2.0

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
class Prompts:
    """Prompts in array indices, oldest first."""

    points: Index
    signs: NDArray[np.bool_]
    ages: NDArray[np.int64]
    boxes: tuple[tuple[Index, Index, bool], ...] = ()

    @property
    def positive(self) -> Index:
        """The positive points, shape (N, 3)."""
        return self.points[self.signs]


@dataclass(frozen=True, slots=True, eq=False)
class _Resampler:
    """One axis of a view: which array indices it reads, and the weights (points, indices read)."""

    start: int
    stop: int
    step: int
    weights: Floats


def _resampler(coordinates: NDArray[np.float64], n: int) -> _Resampler:
    pitch = float(coordinates[1] - coordinates[0]) if len(coordinates) > 1 else 1.0
    step = max(1, int(pitch / _MAX_SAMPLES_A_STEP))
    width = max(1.0, pitch / step)
    low = int(np.clip(np.floor(coordinates[0] - pitch), 0, n - 1))
    high = int(np.clip(np.ceil(coordinates[-1] + pitch), 0, n - 1)) + 1
    positions = np.arange(low, high, step)
    nearest = np.clip(coordinates, positions[0], positions[-1])
    weights = np.maximum(0.0, 1.0 - np.abs(nearest[:, None] - positions[None]) / (width * step))
    weights /= weights.sum(1, keepdims=True)
    return _Resampler(low, high, step, weights.astype(np.float32))


def _apply(array: NDArray[np.generic], axes: Sequence[_Resampler]) -> Floats:
    z, y, x = axes
    cut = array[z.start : z.stop : z.step, y.start : y.stop : y.step, x.start : x.stop : x.step]
    return _product(cut.astype(np.float32), z.weights, y.weights, x.weights)


def _product(cut: Floats, z: Floats, y: Floats, x: Floats) -> Floats:
    """Multiply each axis of `cut` by its matrix."""
    along_x = cut @ x.T
    along_y = np.matmul(y, along_x)
    n_z = along_y.shape[0]
    return np.asarray((z @ along_y.reshape(n_z, -1)).reshape(z.shape[0], *along_y.shape[1:]), np.float32)


def sample(array: NDArray[np.generic], view: View, spacing_mm: Sequence[float]) -> Floats:
    """Resample an array, shape (Z, Y, X), to a view, shape (size, size, size); the border repeats outside."""
    axes = [_resampler(c, n) for c, n in zip(view.coordinates(spacing_mm), array.shape, strict=True)]
    return _apply(array, axes)


def valid(shape: Sequence[int], view: View, spacing_mm: Sequence[float]) -> Floats:
    """1 where the view's points lie on the scan, 0 outside."""
    z, y, x = (
        ((c >= -0.5) & (c <= n - 0.5)).astype(np.float32)
        for c, n in zip(view.coordinates(spacing_mm), shape, strict=True)
    )
    return z[:, None, None] * y[:, None] * x


def paste(
    values: Floats, view: View, shape: Sequence[int], spacing_mm: Sequence[float]
) -> tuple[Floats, tuple[slice, ...]]:
    """Resample a view's values, shape (size, size, size), to the array's grid, where the view covers it.

    Returns
    -------
    ndarray
        The values on the array's grid.
    tuple of slice
        The region of the array that they belong to.
    """
    matrices, region = [], []
    for c, n in zip(view.coordinates(spacing_mm), shape, strict=True):
        pitch = c[1] - c[0]
        low = int(np.clip(np.ceil(c[0] - pitch / 2), 0, n - 1))
        high = int(np.clip(np.floor(c[-1] + pitch / 2), low, n - 1)) + 1
        points = np.clip((np.arange(low, high) - c[0]) / pitch, 0, view.size - 1)
        width = max(1.0, 1.0 / pitch)
        weights = np.maximum(0.0, 1.0 - np.abs(points[:, None] - np.arange(view.size)[None]) / width)
        matrices.append((weights / weights.sum(1, keepdims=True)).astype(np.float32))
        region.append(slice(low, high))
    return _product(values, *matrices), tuple(region)


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


def render(
    array: NDArray[np.generic],
    view: View,
    spacing_mm: Sequence[float],
    prompts: Prompts | None = None,
    previous: NDArray[np.generic] | None = None,
) -> Floats:
    """Make the network's input for one view.

    Parameters
    ----------
    array : ndarray, shape (Z, Y, X)
        The scan.
    view : View
        Where to look.
    spacing_mm : sequence of float
        Voxel size along (z, y, x).
    prompts : Prompts, optional
        What the user said; none for automatic segmentation.
    previous : ndarray, shape (Z, Y, X), optional
        The mask so far.

    Returns
    -------
    ndarray of float32, shape (7, size, size, size)
        Image (clipped to its 0.5 - 99.5 percentiles, z-scored), image in a narrow window round the clicked
        intensity, previous mask, positive and negative points as fading ramps, boxes, and 1 inside the scan. Both
        image channels are 0 outside the scan.
    """
    out = np.zeros((N_CHANNELS, view.size, view.size, view.size), np.float32)
    image = sample(array, view, spacing_mm)
    out[VALID] = valid(array.shape, view, spacing_mm)
    out[IMAGE], scale = normalise(image, out[VALID])
    out[IMAGE] *= out[VALID]
    if previous is not None:
        out[PREVIOUS] = sample(previous, view, spacing_mm)
    if prompts is not None:
        if prompts.signs.any():
            middle, deviation = intensity_window(array, prompts.positive, spacing_mm)
            out[WINDOW] = np.tanh((image - middle) / (3.0 * max(deviation, 0.03 * scale, 1e-6))) * out[VALID]
        draw_prompts(out, view, spacing_mm, prompts)
    return out


def normalise(image: Floats, inside: Floats) -> tuple[Floats, float]:
    """Clip to the 0.5 - 99.5 percentiles and z-score, by what lies on the scan; also return the deviation."""
    seen = image[::2, ::2, ::2][inside[::2, ::2, ::2] > 0]
    if not seen.size:
        seen = image.ravel()
    low, high = np.percentile(seen, (0.5, 99.5))
    clipped = np.clip(seen, low, high)
    deviation = max(float(clipped.std()), 1e-6)
    return (np.clip(image, low, high) - np.float32(clipped.mean())) / np.float32(deviation), deviation


def draw_prompts(out: Floats, view: View, spacing_mm: Sequence[float], prompts: Prompts) -> None:
    """Draw points as ramps that fade with age, and boxes filled with +1 or -1."""
    for point, sign, age in zip(prompts.points, prompts.signs, prompts.ages, strict=True):
        channel = out[POSITIVE if sign else NEGATIVE]
        _draw_ramp(channel, view.point_of(point, spacing_mm), FADE ** float(age))
    for low, high, sign in prompts.boxes:
        a, b = np.sort([view.point_of(low, spacing_mm), view.point_of(high, spacing_mm)], axis=0)
        flat = high == low
        a, b = np.where(flat, -np.inf, a), np.where(flat, np.inf, b)
        cut = tuple(
            slice(int(np.clip(np.ceil(p), 0, view.size)), int(np.clip(np.floor(q), -1, view.size - 1)) + 1)
            for p, q in zip(a, b, strict=True)
        )
        out[BOX][cut] = 1.0 if sign else -1.0


def _draw_ramp(channel: Floats, point: Index, strength: float) -> None:
    low = np.maximum(np.ceil(point - BALL_RADIUS), 0).astype(int)
    high = np.minimum(np.floor(point + BALL_RADIUS) + 1, channel.shape).astype(int)
    if (high <= low).any():
        return
    z, y, x = (np.arange(a, b) - p for a, b, p in zip(low, high, point, strict=True))
    distance = np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)
    ramp = (strength * np.maximum(0.0, 1.0 - distance / BALL_RADIUS)).astype(np.float32)
    cut = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    np.maximum(channel[cut], ramp, out=channel[cut])


def prompts_in_array(prompts: Sequence[Prompt], affine: NDArray[np.float64]) -> Prompts:
    """Prompts from world millimetres (RAS+) to array indices; scribbles become points a step apart."""
    to_index = np.linalg.inv(affine)
    points: list[Index] = []
    signs: list[bool] = []
    ages: list[int] = []
    boxes: list[tuple[Index, Index, bool]] = []
    for age, prompt in enumerate(reversed(prompts)):
        if isinstance(prompt, Click):
            found = _indices([prompt.position_mm], to_index)
        elif isinstance(prompt, Scribble):
            found = _thinned(_indices(prompt.points_mm, to_index))
        elif isinstance(prompt, Box):
            low, high = np.sort(_indices([prompt.corner_mm, prompt.opposite_mm], to_index), axis=0)
            boxes.append((low, high, prompt.positive))
            continue
        points.extend(found)
        signs.extend([prompt.positive] * len(found))
        ages.extend([age] * len(found))
    return Prompts(
        np.array(points, float).reshape(-1, 3), np.array(signs, bool), np.array(ages, np.int64), tuple(boxes[::-1])
    )


def _indices(positions_mm: Sequence[tuple[float, float, float]], to_index: NDArray[np.floating]) -> Index:
    homogeneous = np.c_[np.asarray(positions_mm, float).reshape(-1, 3), np.ones(len(positions_mm))]
    return np.asarray((homogeneous @ to_index.T)[:, :3])


def _thinned(points: Index) -> Index:
    """Points of a line about one voxel apart, both ends kept."""
    if len(points) < 2:
        return points
    lengths = np.linalg.norm(np.diff(points, axis=0), axis=1)
    along = np.r_[0.0, np.cumsum(lengths)]
    wanted = np.linspace(0.0, along[-1], max(2, min(64, int(along[-1]) + 1)))
    return np.stack([np.interp(wanted, along, points[:, k]) for k in range(3)], 1)
