"""Fill contours that lie in planes of any direction on a voxel grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_medseg.imaging.dicom.contours import Points, inside_contours

_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
# A contour lies in a grid plane if its points stay this close to it, in voxels.
_IN_PLANE = 0.1
_SAME_NORMAL = np.cos(np.radians(2.0))
# Oblique contours are looked up on a raster this much finer than the voxels, at most so many pixels wide.
_FINER = 4.0
_MOST_PIXELS = 4096

Box = tuple[slice, slice, slice]


@dataclass(frozen=True, slots=True, eq=False)
class Filled:
    """Voxels inside, as a mask of one box of the grid, and what had to be assumed."""

    box: Box
    mask: NDArray[np.bool_]
    notes: tuple[str, ...] = ()


def fill(contours: Sequence[Points], affine: NDArray[np.float64], shape: tuple[int, ...]) -> Filled:
    """Fill closed planar contours of one region.

    Parameters
    ----------
    contours : sequence of ndarray, shape (N, 3)
        Points in LPS+ millimetres.
    affine : ndarray, shape (4, 4)
        Voxel index ``(z, y, x, 1)`` of the grid to RAS+ millimetres.
    shape : tuple of int
        Of the grid.
    """
    to_index = np.linalg.inv(affine)
    indices = [contour * _LPS_TO_RAS @ to_index[:3, :3].T + to_index[:3, 3] for contour in contours]
    for axis in range(3):
        if all(np.ptp(points[:, axis]) <= 2 * _IN_PLANE for points in indices):
            return _fill_along(axis, indices, shape)
    return _fill_oblique([contour * _LPS_TO_RAS for contour in contours], affine, shape)


def _fill_along(axis: int, contours: list[Points], shape: tuple[int, ...]) -> Filled:
    """Contours in planes of the grid: each slice takes those of the nearest plane."""
    others = [other for other in range(3) if other != axis]
    at, groups = _by_plane([float(points[:, axis].mean()) for points in contours])
    gap = max(1.0, float(np.diff(at).min())) if len(at) > 1 else 1.0
    notes: tuple[str, ...] = ()
    if gap > 1.5:
        notes = (f"its contours are {gap:.1f} slices apart; slices between took the nearest.",)
    lowest = max(0, int(np.ceil(at[0] - gap / 2 - 1e-3)))
    highest = min(shape[axis] - 1, int(np.floor(at[-1] + gap / 2 + 1e-3)))
    flat = [[points[:, others] for points in (contours[n] for n in members)] for members in groups]
    ranges = [_range(contours, other, shape[other]) for other in others]
    starts = np.array([part.start for part in ranges], np.float64)
    size = (ranges[0].stop - ranges[0].start, ranges[1].stop - ranges[1].start)
    mask = np.zeros((max(0, highest - lowest + 1), *size), bool)
    for n, slice_index in enumerate(range(lowest, highest + 1)):
        nearest = int(np.argmin(np.abs(at - slice_index)))
        if abs(at[nearest] - slice_index) <= gap / 2 + 1e-3:
            mask[n] = inside_contours([points - starts for points in flat[nearest]], size)
    box = [ranges[0], ranges[1]]
    box.insert(axis, slice(lowest, max(lowest, highest + 1)))
    return Filled((box[0], box[1], box[2]), np.moveaxis(mask, 0, axis), notes)


def _range(contours: list[Points], axis: int, size: int) -> slice:
    low = min(float(points[:, axis].min()) for points in contours)
    high = max(float(points[:, axis].max()) for points in contours)
    start = int(np.clip(np.floor(low), 0, size))
    return slice(start, int(np.clip(np.ceil(high) + 1, start, size)))


def _by_plane(at: list[float], tolerance: float = 2 * _IN_PLANE) -> tuple[NDArray[np.float64], list[list[int]]]:
    """Positions of distinct planes in order, and which contours lie in each."""
    order = np.argsort(at, kind="stable")
    groups: list[list[int]] = []
    for n in order:
        if not groups or at[n] - at[groups[-1][0]] > tolerance:
            groups.append([])
        groups[-1].append(int(n))
    return np.array([np.mean([at[n] for n in group]) for group in groups]), groups


def _fill_oblique(contours: list[Points], affine: NDArray[np.float64], shape: tuple[int, ...]) -> Filled:
    """Contours in planes across the grid: every voxel asks the nearest plane of each direction."""
    parts = [_fill_family(family, affine, shape) for family in _families(contours)]
    start = [min(part.box[axis].start for part in parts) for axis in range(3)]
    stop = [max(part.box[axis].stop for part in parts) for axis in range(3)]
    mask = np.zeros([b - a for a, b in zip(start, stop, strict=True)], bool)
    for part in parts:
        inner = tuple(slice(s.start - a, s.stop - a) for s, a in zip(part.box, start, strict=True))
        mask[inner] |= part.mask
    box = (slice(start[0], stop[0]), slice(start[1], stop[1]), slice(start[2], stop[2]))
    notes = ("its contours do not lie in the scan's slices; voxels took the nearest contour plane.",)
    return Filled(box, mask, notes)


def _families(contours: list[Points]) -> list[list[tuple[Points, NDArray[np.float64]]]]:
    """Contours of one direction together, each with the direction of the first."""
    families: list[list[tuple[Points, NDArray[np.float64]]]] = []
    for points in contours:
        normal = _normal(points)
        for family in families:
            if abs(float(family[0][1] @ normal)) >= _SAME_NORMAL:
                family.append((points, family[0][1]))
                break
        else:
            families.append([(points, normal)])
    return families


def _normal(points: Points) -> NDArray[np.float64]:
    """Direction in which a contour is thinnest."""
    return np.asarray(np.linalg.svd(points - points.mean(axis=0), full_matrices=False)[2][2])


def _fill_family(
    family: list[tuple[Points, NDArray[np.float64]]], affine: NDArray[np.float64], shape: tuple[int, ...]
) -> Filled:
    normal = family[0][1]
    across = np.linalg.svd(normal[None])[2][1:]
    contours = [points for points, _ in family]
    voxel_mm = np.linalg.norm(affine[:3, :3], axis=0)
    thickness = float(np.abs(normal @ affine[:3, :3]).max())
    at, groups = _by_plane([float((points @ normal).mean()) for points in contours], tolerance=0.1 * thickness)
    gap = max(thickness, float(np.diff(at).min())) if len(at) > 1 else thickness
    flat = [points @ across.T for points in contours]
    low = np.min([points.min(axis=0) for points in flat], axis=0)
    high = np.max([points.max(axis=0) for points in flat], axis=0)
    pixel = max(float(voxel_mm.min()) / _FINER, float((high - low).max()) / _MOST_PIXELS)
    n_rows, n_columns = (int(n) for n in np.ceil((high - low) / pixel) + 1)
    box = _box_around(contours, gap, affine, shape)
    position = _positions(box, affine)
    distance = position @ normal
    nearest = (
        np.abs(distance[..., None] - at).argmin(axis=-1) if len(at) * distance.size < 5e7 else _nearest(distance, at)
    )
    is_near = np.abs(distance - at[nearest]) <= gap / 2 + 1e-6
    row, column = (
        np.rint((position @ axis - edge) / pixel).astype(np.int64) for axis, edge in zip(across, low, strict=True)
    )
    is_near &= (row >= 0) & (row < n_rows) & (column >= 0) & (column < n_columns)
    mask = np.zeros(is_near.shape, bool)
    for plane, members in enumerate(groups):
        chosen = is_near & (nearest == plane)
        if chosen.any():
            raster = inside_contours([(flat[n] - low) / pixel for n in members], (n_rows, n_columns))
            mask[chosen] = raster[row[chosen], column[chosen]]
    return Filled(box, mask)


def _nearest(distance: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.asarray(np.searchsorted((at[1:] + at[:-1]) / 2, distance))


def _box_around(contours: list[Points], margin_mm: float, affine: NDArray[np.float64], shape: tuple[int, ...]) -> Box:
    to_index = np.linalg.inv(affine)
    points = np.concatenate(contours) @ to_index[:3, :3].T + to_index[:3, 3]
    margin = margin_mm * np.abs(to_index[:3, :3]).sum(axis=1)
    size = np.array(shape)
    start = np.clip(np.floor(points.min(axis=0) - margin), 0, size).astype(int)
    stop = np.clip(np.ceil(points.max(axis=0) + margin) + 1, start, size).astype(int)
    return slice(start[0], stop[0]), slice(start[1], stop[1]), slice(start[2], stop[2])


def _positions(box: Box, affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """RAS+ millimetres of every voxel centre of a box, shape (Z, Y, X, 3)."""
    z, y, x = (np.arange(part.start, part.stop, dtype=np.float64) for part in box)
    grid = z[:, None, None, None] * affine[:3, 0] + y[:, None, None] * affine[:3, 1] + x[:, None] * affine[:3, 2]
    return np.asarray(grid + affine[:3, 3])
