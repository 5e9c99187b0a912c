"""Closed contours and pixels: which pixel centres lie inside, and which contours enclose the pixels of a mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

# Contours through pixel centres are common; rounding them the same way everywhere keeps neighbours consistent.
_DECIMALS = 5


def inside_contours(contours: Sequence[Points], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels whose centre lies inside an odd number of contours, so that a contour in a contour is a hole.

    Parameters
    ----------
    contours : sequence of ndarray, shape (N, 2)
        Vertices as (row, column); pixel centres have whole numbers. The last vertex joins the first.
    shape : tuple of int
        Rows and columns of the result.

    Returns
    -------
    ndarray of bool
        A centre exactly on an edge counts as inside on the contour's upper and left side only.
    """
    n_rows, n_columns = shape
    flips = np.zeros((n_rows, n_columns + 1), np.int32)
    for contour in contours:
        start = np.round(contour, _DECIMALS)
        row, column = _crossings(start, np.roll(start, -1, axis=0), n_rows)
        np.add.at(flips, (row, np.clip(np.ceil(column), 0, n_columns).astype(np.int64)), 1)
    return np.asarray(np.cumsum(flips[:, :-1], axis=1) % 2 == 1)


def _crossings(start: Points, stop: Points, n_rows: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows that each edge crosses, and the columns where it does; an edge owns its upper end and not its lower one."""
    top, bottom = np.minimum(start[:, 0], stop[:, 0]), np.maximum(start[:, 0], stop[:, 0])
    first = np.clip(np.ceil(top), 0, n_rows).astype(np.int64)
    counts = np.clip(np.ceil(bottom), 0, n_rows).astype(np.int64) - first
    edge = np.repeat(np.arange(len(start)), counts)
    offsets = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)
    row = first[edge] + offsets
    height = stop[edge, 0] - start[edge, 0]
    share = (row - start[edge, 0]) / np.where(height == 0, 1.0, height)
    return row, start[edge, 1] + share * (stop[edge, 1] - start[edge, 1])


def contours_of(mask: NDArray[np.bool_]) -> list[Points]:
    """Contours round the pixels of a 2-D mask, as (row, column).

    They run half-way between centres of pixels inside and outside, so `inside_contours` gives the mask back exactly.
    A region with holes is one contour that reaches each hole through a channel without width: readers that fill
    contours and readers that combine them by exclusive-or understand it alike.
    """
    from skimage.measure import find_contours

    padded = np.pad(mask, 1).astype(np.float64)
    loops = [_without_straight_points(loop[:-1] - 1.0) for loop in find_contours(padded, 0.5)]
    outer = [loop for loop in loops if _area(loop) * _OUTER_SIGN > 0]
    holes = [loop for loop in loops if _area(loop) * _OUTER_SIGN <= 0]
    for hole in holes:
        parent = _smallest_around(hole, outer)
        outer[parent] = _joined(outer[parent], hole)
    return outer


# find_contours walks with low values to its left, which round a region gives this sign in (row, column).
_OUTER_SIGN = -1.0


def _area(loop: Points) -> float:
    row, column = loop[:, 0], loop[:, 1]
    return float(0.5 * np.sum(row * np.roll(column, -1) - np.roll(row, -1) * column))


def _without_straight_points(loop: Points) -> Points:
    ahead, behind = np.roll(loop, -1, axis=0) - loop, loop - np.roll(loop, 1, axis=0)
    turns = np.abs(ahead[:, 0] * behind[:, 1] - ahead[:, 1] * behind[:, 0]) > 1e-9
    return loop[turns]


def _smallest_around(hole: Points, outer: list[Points]) -> int:
    """Index of the smallest contour that contains the hole."""
    from skimage.measure import points_in_poly

    around = [n for n, loop in enumerate(outer) if points_in_poly(hole[:1], loop)[0]]
    return min(around, key=lambda n: abs(_area(outer[n])))


def _joined(outer: Points, hole: Points) -> Points:
    """One contour that walks to the nearest vertex of the hole, round it, and back the same way."""
    distances = np.linalg.norm(outer[:, None] - hole[None], axis=2)
    a, b = np.unravel_index(int(np.argmin(distances)), distances.shape)
    return np.concatenate([outer[: a + 1], hole[b:], hole[: b + 1], outer[a:]])
