"""How far two masks' surfaces lie apart, in millimetres: HD95, ASSD and the normalised surface Dice.

A mask's surface is those of its voxels that touch the outside through a face; beyond the image is outside. Axes of
length one are no direction (a 2-D image is a volume of one slice), so the surface of a one-slice mask is its outline.
Distances run from voxel centre to voxel centre.

Two empty masks agree: distances 0, surface Dice 1. One empty mask is infinitely far away: surface Dice 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import edt
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_medseg.errors import EvaluationError
from napari_medseg.evaluation.overlap import Mask, as_masks

# The distance transform computes in float32: a surface exactly at the tolerance must count as within it.
_ROUNDING = 1e-5


@dataclass(frozen=True, slots=True)
class SurfaceFigures:
    """Distances between two surfaces.

    Parameters
    ----------
    hd95_mm : float
        The larger of the two directed 95th percentiles of surface distances (robust Hausdorff distance).
    assd_mm : float
        Average symmetric surface distance: the mean over all voxels of both surfaces.
    nsd : float
        Normalised surface Dice (Nikolov et al. 2021, arXiv:1809.04430), with surface voxels in place of areas: the
        share of both surfaces that lies within the tolerance of the other, 0..1.
    tolerance_mm : float
        That tolerance.
    """

    hd95_mm: float
    assd_mm: float
    nsd: float
    tolerance_mm: float


def surface_figures(
    mask: Mask, reference: Mask, *, spacing_mm: tuple[float, ...], tolerance_mm: float = 2.0
) -> SurfaceFigures:
    """Compare the surfaces of two masks of one shape.

    Parameters
    ----------
    mask, reference : ndarray
        Every value but 0 is inside.
    spacing_mm : tuple of float
        Voxel size along each axis of the arrays.
    tolerance_mm : float
        Distance within which a surface counts as right, at least 0.

    Raises
    ------
    EvaluationError
        If the shapes differ or a length is not positive.
    """
    if tolerance_mm < 0 or any(not s > 0 for s in spacing_mm):
        raise EvaluationError(
            f"spacing must be positive and the tolerance not negative, got {spacing_mm} and {tolerance_mm} mm"
        )
    there, back = surface_distances(mask, reference, spacing_mm=spacing_mm)
    if not there.size and not back.size:
        return SurfaceFigures(0.0, 0.0, 1.0, tolerance_mm)
    if not there.size or not back.size:
        return SurfaceFigures(float("inf"), float("inf"), 0.0, tolerance_mm)
    both = np.concatenate([there, back])
    return SurfaceFigures(
        hd95_mm=float(max(np.percentile(there, 95), np.percentile(back, 95))),
        assd_mm=float(both.mean()),
        nsd=float(np.mean(both <= tolerance_mm * (1 + _ROUNDING))),
        tolerance_mm=tolerance_mm,
    )


def surface_distances(
    mask: Mask, reference: Mask, *, spacing_mm: tuple[float, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distance of each surface voxel of `mask` to the surface of `reference`, and the other way round.

    Either array is empty where its own mask is, and infinite where only the other one is.
    """
    inside, truth = as_masks(mask, reference)
    box = _bounding_box(inside | truth)
    if box is None:
        return np.empty(0), np.empty(0)
    edges = _surface(inside[box], inside.shape), _surface(truth[box], truth.shape)
    return _distances(edges[0], edges[1], spacing_mm), _distances(edges[1], edges[0], spacing_mm)


def _bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...] | None:
    found: list[tuple[slice, ...] | None] = ndimage.find_objects(mask.view(np.uint8))
    return found[0] if found else None


def _surface(mask: NDArray[np.bool_], whole_shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Voxels of `mask` with a face to the outside, along axes longer than one voxel in the whole image."""
    neighbours = ndimage.generate_binary_structure(mask.ndim, 1)
    for axis, length in enumerate(whole_shape):
        if length == 1:
            neighbours &= np.expand_dims(np.arange(3) == 1, tuple(a for a in range(mask.ndim) if a != axis))
    return np.asarray(mask & ~ndimage.binary_erosion(mask, neighbours))


def _distances(start: NDArray[np.bool_], goal: NDArray[np.bool_], spacing_mm: tuple[float, ...]) -> NDArray[np.float64]:
    if not goal.any():
        return np.full(np.count_nonzero(start), np.inf)
    to_goal = edt.edt(np.ascontiguousarray(~goal), anisotropy=spacing_mm, black_border=False)
    return np.asarray(to_goal[start], dtype=np.float64)
