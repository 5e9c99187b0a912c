"""The places that are worth a second look: doubt cut into pieces that an eye can judge, most to gain first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from napari_medseg.imaging.volume import Confidence
from napari_medseg.segmentation.confidence import thick_doubt

_REACH, _LEAST_REACH_MM, _MOST_REACH_MM = 0.5, 5.0, 18.0
_MOST_REGIONS, _MOST_PIECES = 9, 16
_LEAST_SHARE = 0.03
_CELLS, _LEAST_PEAK = 3, 0.3
_AS_MUCH = 0.9


@dataclass(frozen=True, slots=True)
class DoubtfulRegion:
    """A place where the model is not sure.

    Parameters
    ----------
    index : tuple of int
        One of its voxels ``(z, y, x)`` in the scan's array: in the slice with most doubt, near its middle there.
    middle : tuple of float
        Its middle ``(z, y, x)``, weighed by doubt.
    volume_ml : float
        How large it is.
    gain_ml : float
        How much of it is expected to be wrong: its volume times the mean probability that the answer is.
    """

    index: tuple[int, int, int]
    middle: tuple[float, float, float]
    volume_ml: float
    gain_ml: float


def reach_of(lesion_ml: float) -> float:
    """How far from its middle one place may reach, in millimetres: half a lesion's radius, 5 to 18 mm."""
    radius_mm = (lesion_ml * 1000.0 * 0.75 / np.pi) ** (1 / 3)
    return float(np.clip(_REACH * radius_mm, _LEAST_REACH_MM, _MOST_REACH_MM))


def doubtful_regions(
    confidence: Confidence,
    spacing_mm: Sequence[float],
    *,
    settled: NDArray[np.bool_] | None = None,
    reach_mm: float = _MOST_REACH_MM,
    axis: int = 0,
) -> tuple[DoubtfulRegion, ...]:
    """Places where the model is not sure and a look is worth most, at most nine.

    Doubt that is wider than one place may be falls into pieces: one round each peak of doubt, as everything that lies
    nearer to it than to the other peaks.

    Parameters
    ----------
    confidence : Confidence
        Of one answer.
    spacing_mm : sequence of float
        Voxel size along (z, y, x).
    settled : ndarray of bool, shape of the scan, optional
        Voxels that the user has decided on: no doubt is left there.
    reach_mm : float
        How far from its middle one place may reach, as `reach_of` says.
    axis : int
        Along which the scan is looked through, slice by slice.
    """
    thick = thick_doubt(confidence, spacing_mm, settled=settled)
    if thick is None:
        return ()
    parts = cc3d.connected_components(thick[0], connectivity=26)
    spacing, voxel_ml = np.asarray(spacing_mm, float), float(np.prod(spacing_mm)) / 1000.0
    start = np.array([part.start for part in thick[1]])
    at = np.argwhere(parts)
    number = parts[tuple(at.T)]
    in_region = at + start - [part.start for part in confidence.region]
    doubt = 1.0 - confidence.values[tuple(in_region.T)] / 255.0
    gains = np.bincount(number, doubt) * voxel_ml
    found = []
    for each in np.argsort(gains, kind="stable")[::-1][:_MOST_REGIONS]:
        if gains[each] < _LEAST_SHARE * gains.max() or each == 0:
            continue
        inside = number == each
        for piece in _pieces(at[inside] * spacing, doubt[inside], reach_mm):
            voxels, weights = at[inside][piece], doubt[inside][piece]
            found.append(_region(voxels + start, weights, voxel_ml, axis))
    found.sort(key=lambda region: -region.gain_ml)
    return tuple(region for region in found[:_MOST_REGIONS] if region.gain_ml >= _LEAST_SHARE * found[0].gain_ml)


def _pieces(
    at_mm: NDArray[np.float64], doubt: NDArray[np.float64], reach_mm: float
) -> Iterator[NDArray[np.bool_] | slice]:
    """Which voxels of one connected doubt make up each place; all of them where they are few enough for one."""
    low, high = at_mm.min(axis=0), at_mm.max(axis=0)
    if np.linalg.norm(high - low) <= 2.5 * reach_mm:
        yield slice(None)
        return
    nearest, distance = np.zeros(len(at_mm), int), np.full(len(at_mm), np.inf)
    for number, peak in enumerate(_peaks(at_mm - low, doubt, reach_mm)):
        away = np.linalg.norm(at_mm - low - peak, axis=1)
        nearest[away < distance] = number
        np.minimum(distance, away, out=distance)
    nearest[distance > 1.5 * reach_mm] = -1
    for number in range(nearest.max() + 1):
        piece = nearest == number
        if piece.any():
            yield piece


def _peaks(at_mm: NDArray[np.float64], doubt: NDArray[np.float64], reach_mm: float) -> Iterator[NDArray[np.float64]]:
    """Places with most doubt round them, one after the other, each without what the ones before took."""
    cells = (at_mm * (_CELLS / reach_mm)).astype(int)
    shape, left, first = tuple(cells.max(axis=0) + 1), doubt.copy(), 0.0
    flat = np.ravel_multi_index(tuple(cells.T), shape)
    for _ in range(_MOST_PIECES):
        total = np.bincount(flat, left, minlength=int(np.prod(shape))).reshape(shape)
        smooth = gaussian_filter(total, _CELLS / 2, mode="constant")
        best = np.unravel_index(smooth.argmax(), shape)
        first = max(first, float(smooth[best]))
        if smooth[best] < _LEAST_PEAK * first:
            return
        peak = (np.array(best) + 0.5) * reach_mm / _CELLS
        near = np.linalg.norm(at_mm - peak, axis=1) <= reach_mm
        if not left[near].any():
            return
        yield np.average(at_mm[near], axis=0, weights=left[near])
        left[near] = 0.0


def _region(voxels: NDArray[np.int64], doubt: NDArray[np.float64], voxel_ml: float, axis: int) -> DoubtfulRegion:
    """A place of these voxels; shown is the one nearest to the middle of the slice with most doubt."""
    z, y, x = (float(value) for value in np.average(voxels, axis=0, weights=doubt))
    in_slices = np.bincount(voxels[:, axis], doubt)
    most = np.flatnonzero(in_slices >= _AS_MUCH * in_slices.max())
    there = voxels[:, axis] == most[len(most) // 2]
    middle = np.average(voxels[there], axis=0, weights=doubt[there])
    k, j, i = (int(value) for value in voxels[there][np.linalg.norm(voxels[there] - middle, axis=1).argmin()])
    return DoubtfulRegion((k, j, i), (z, y, x), len(voxels) * voxel_ml, float(doubt.sum()) * voxel_ml)
