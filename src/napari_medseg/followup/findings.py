"""Lesions of one visit: where each is and how large."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cc3d
import edt
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist, squareform

from napari_medseg.imaging.filled_box import Region, filled_box
from napari_medseg.imaging.orientation import acquisition_axis
from napari_medseg.imaging.volume import LabelMap

Point = tuple[float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """One lesion of one visit.

    Parameters
    ----------
    label : int
        Its value in the mask.
    name : str
        What the user calls it; a number is added where one label marks several lesions.
    region, mask : tuple of slice, ndarray of bool
        Its voxels, in a box of the mask's grid.
    position_mm : tuple of float
        Its deepest place, RAS+ mm.
    volume_ml : float
        Number of voxels by their volume.
    long_mm, short_mm : float
        Long axis in the plane of acquisition, over all slices, and the longest line perpendicular to it in the same
        slice, between the outer edges of voxels (RECIST 1.1).
    """

    label: int
    name: str
    region: Region
    mask: NDArray[np.bool_]
    position_mm: Point
    volume_ml: float
    long_mm: float
    short_mm: float


def findings_of(label_map: LabelMap) -> tuple[Finding, ...]:
    """Tell the lesions of a mask apart: its labels; the connected components of a mask that has one label alone."""
    labels = [int(value) for value in np.unique(label_map.data) if value]
    if len(labels) != 1:
        return tuple(_finding(label_map, value, label_map.data == value, _name(label_map, value)) for value in labels)
    parts, n = cc3d.connected_components(np.ascontiguousarray(label_map.data > 0), connectivity=26, return_N=True)
    name = _name(label_map, labels[0])
    names = [name] if n == 1 else [f"{name} {k}" for k in range(1, n + 1)]
    boxes = cc3d.statistics(parts)["bounding_boxes"]
    return tuple(_finding(label_map, labels[0], parts[boxes[k]] == k, names[k - 1], boxes[k]) for k in range(1, n + 1))


def _name(label_map: LabelMap, value: int) -> str:
    return label_map.names.get(value) or f"Lesion {value}"


def _finding(
    label_map: LabelMap, value: int, mask: NDArray[np.bool_], name: str, offset: tuple[slice, ...] | None = None
) -> Finding:
    """Measure a lesion given as a mask of the whole grid, or of the box of it at ``offset``."""
    inner = filled_box(mask)
    assert inner is not None
    starts = [part.start for part in offset] if offset is not None else [0, 0, 0]
    z, y, x = (slice(int(i.start + s), int(i.stop + s)) for i, s in zip(inner, starts, strict=True))
    mask = np.ascontiguousarray(mask[inner])
    depth = edt.edt(mask, anisotropy=label_map.spacing_mm, black_border=True)
    deepest = np.array(np.unravel_index(int(depth.argmax()), mask.shape)) + np.array([z.start, y.start, x.start])
    r, a, s = label_map.position_of(deepest)
    long_mm, short_mm = diameters_mm(mask, label_map.affine, acquisition_axis(label_map))
    return Finding(
        value, name, (z, y, x), mask, (float(r), float(a), float(s)),
        float(mask.sum()) * label_map.voxel_ml, long_mm, short_mm,
    )  # fmt: skip


def diameters_mm(mask: NDArray[np.bool_], affine: NDArray[np.float64], axis: int) -> tuple[float, float]:
    """Long axis in the slices across ``axis``, and the longest line perpendicular to it in that slice, in mm.

    Parameters
    ----------
    mask : ndarray of bool, shape (Z, Y, X)
        The lesion.
    affine : ndarray, shape (4, 4)
        Voxel index to millimetres.
    axis : int
        Memory axis across the slices.
    """
    steps = np.delete(affine[:3, :3], axis, axis=1)
    # Two perpendicular directions of the slice, so that sheared grids measure right too.
    plane, _ = np.linalg.qr(steps)
    to_mm = plane.T @ steps
    outlines = [_outline(picture) @ to_mm.T for picture in np.moveaxis(mask, axis, 0) if picture.any()]
    longest = [_at_most(points) for points in outlines]
    best = (0.0, 0.0)
    for at in np.argsort(longest)[::-1]:
        if longest[at] < best[0]:
            break
        best = max(best, _diameters(outlines[at]))
    return best


def _outline(picture: NDArray[Any]) -> NDArray[np.float64]:
    """Middles of the edges of the first and the last pixel of each row, in pixels: the others are no corners."""
    rows = np.flatnonzero(picture.any(1))
    first, last = picture[rows].argmax(1), picture.shape[1] - 1 - picture[rows, ::-1].argmax(1)
    at = np.column_stack([np.tile(rows, 2), np.concatenate([first, last])]).astype(np.float64)
    sides = np.array([[0.5, 0], [-0.5, 0], [0, 0.5], [0, -0.5]])
    return np.asarray((at[:, None] + sides).reshape(-1, 2))


def _at_most(points: NDArray[np.float64]) -> float:
    """Longest distance between two of the points, or up to 1 % more: their widths in 16 directions bound it."""
    angles = np.arange(16) * np.pi / 16
    widths = np.ptp(np.column_stack([np.cos(angles), np.sin(angles)]) @ points.T, axis=1)
    return float(1.001 * widths.max() / np.cos(np.pi / 32))


def _diameters(points: NDArray[np.float64]) -> tuple[float, float]:
    points = points[ConvexHull(points).vertices]
    apart = squareform(pdist(points))
    a, b = np.unravel_index(int(apart.argmax()), apart.shape)
    along = (points[b] - points[a]) / apart[a, b]
    return float(apart[a, b]), _longest_chord(points @ along, points @ np.array([-along[1], along[0]]))


def _longest_chord(t: NDArray[np.float64], u: NDArray[np.float64]) -> float:
    """Longest extent along u of a convex outline (corners in order); it is reached at a corner."""
    t1, u1 = np.roll(t, -1), np.roll(u, -1)
    run = np.where(t1 == t, 1.0, t1 - t)
    share = (t[:, None] - t) / run
    hits = (share >= 0) & (share <= 1)
    at = u + share * (u1 - u)
    highest, lowest = np.where(hits, at, -np.inf).max(1), np.where(hits, at, np.inf).min(1)
    return float((highest - lowest).max())
