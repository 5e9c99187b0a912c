"""Regions of real scans that nobody outlined, as targets of clicks: bones, muscles, vessels, whatever edges enclose.

A network that only ever sees lesions takes everything that is clicked for one. Watershed basins of the gradient, at
several depths, are pieces of real anatomy with real edges; air, pieces of lesions and those whose border is no edge are
left out. Isensee et al. (nnInteractive, 2025) train on such pseudo-labels, made by a larger model, for the same reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

_GRID_MM = 2.0
_DEPTHS = (0.06, 0.15, 0.3)
_BINS = 512
_LEAST_VOXELS, _LARGEST_PART = 40, 0.2
_LEAST_EDGE, _LEAST_CONTRAST = 0.35, 2.0
_AIR = 0.2
_MOST_LESION = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Regions:
    """Basins of one scan at one depth.

    Parameters
    ----------
    numbers : ndarray of int32, shape (z, y, x)
        Number of each voxel's basin, on a grid of its own over the same box as the scan.
    usable : ndarray of int64
        Numbers of those that an edge encloses.
    sizes : ndarray of int64
        Their numbers of voxels.
    """

    numbers: NDArray[np.int32]
    usable: NDArray[np.int64]
    sizes: NDArray[np.int64]


def find_regions(image: NDArray[Any], lesion: NDArray[np.bool_], spacing_mm: Sequence[float]) -> list[Regions]:
    """Divide a scan into basins of its gradient, once a depth; depths without a usable one are left out."""
    factor = np.minimum(1.0, np.asarray(spacing_mm, float) / _GRID_MM)
    coarse = ndimage.zoom(np.asarray(image, np.float32), factor, order=1, grid_mode=True, mode="nearest")
    marked = ndimage.zoom(lesion.astype(np.float32), factor, order=1, grid_mode=True, mode="nearest")
    equalised = _equalised(coarse)
    grey = sitk.GetImageFromArray(equalised)
    grey.SetSpacing([float(s / f) for s, f in zip(spacing_mm, factor, strict=True)][::-1])
    slope = sitk.GetArrayFromImage(sitk.GradientMagnitudeRecursiveGaussian(grey, 0.7 * min(grey.GetSpacing())))
    slope /= max(float(np.percentile(slope, 95)), 1e-6)
    relief = sitk.GetImageFromArray(slope)
    found = []
    for depth in _DEPTHS:
        basins = sitk.MorphologicalWatershed(relief, level=depth, markWatershedLine=False, fullyConnected=False)
        regions = _enclosed(sitk.GetArrayFromImage(basins).astype(np.int32), slope, equalised, marked)
        if len(regions.usable):
            found.append(regions)
    return found


def draw_region(rng: Generator, found: Sequence[Regions], shape: Sequence[int]) -> NDArray[np.bool_]:
    """Mask (Z, Y, X) of one region on the scan's grid of `shape`; large ones are drawn more often than small ones."""
    regions = found[int(rng.integers(len(found)))]
    weights = np.sqrt(regions.sizes)
    number = regions.usable[int(rng.choice(len(weights), p=weights / weights.sum()))]
    where = regions.numbers == number
    box = ndimage.find_objects(where.astype(np.uint8))[0]
    cut = tuple(slice(max(0, s.start - 2), s.stop + 2) for s in box)
    scale = np.asarray(shape) / where.shape
    low = [int(np.floor(s.start * k)) for s, k in zip(cut, scale, strict=True)]
    high = [min(n, int(np.ceil(min(s.stop, m) * k))) for s, k, n, m in zip(cut, scale, shape, where.shape, strict=True)]
    grids = [(np.arange(a, b) + 0.5) / k - 0.5 - s.start for a, b, k, s in zip(low, high, scale, cut, strict=True)]
    smooth = ndimage.gaussian_filter(where[cut].astype(np.float32), 0.6)
    values = ndimage.map_coordinates(smooth, np.meshgrid(*grids, indexing="ij"), order=1, mode="nearest")
    mask = np.zeros(tuple(shape), bool)
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = ndimage.binary_fill_holes(values > 0.5)
    return mask


def _equalised(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Half the share of voxels that are darker, half the intensity itself: soft tissue counts beside bone and air."""
    low, high = np.percentile(image, (0.5, 99.5))
    clipped = (np.clip(image, low, high) - low) / max(float(high - low), 1e-6)
    body = clipped[clipped > 0.01]
    if not body.size:
        return np.asarray(clipped, np.float32)
    counts, edges = np.histogram(body, _BINS, (0.0, 1.0))
    rank = np.interp(clipped, edges[1:], np.cumsum(counts) / counts.sum())
    return np.asarray(0.5 * clipped + 0.5 * rank, np.float32)


def _enclosed(
    numbers: NDArray[np.int32], slope: NDArray[np.float32], image: NDArray[np.float32], lesion: NDArray[np.float32]
) -> Regions:
    """Keep basins of tissue, of a sensible size, with a steep border, that differ from what lies round them."""
    sizes = np.bincount(numbers.ravel())
    usable = []
    for number, box in enumerate(ndimage.find_objects(numbers), start=1):
        if box is None or not _LEAST_VOXELS <= sizes[number] <= _LARGEST_PART * numbers.size:
            continue
        cut = tuple(slice(max(0, s.start - 2), s.stop + 2) for s in box)
        inside = numbers[cut] == number
        core, around = ndimage.binary_erosion(inside), ndimage.binary_dilation(inside, iterations=2) & ~inside
        if not core.any() or not around.any() or lesion[cut][inside].mean() > _MOST_LESION:
            continue
        values, others = image[cut][core], image[cut][around]
        contrast = abs(float(values.mean() - others.mean())) / max(float(values.std()), 0.01)
        steep = slope[cut][inside & ~core].mean()
        if values.mean() > _AIR and contrast > _LEAST_CONTRAST and steep > max(_LEAST_EDGE, slope[cut][core].mean()):
            usable.append(number)
    return Regions(numbers, np.array(usable, np.int64), sizes[usable])
