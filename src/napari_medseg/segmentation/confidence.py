"""How sure a model is of each voxel, and where its doubt is more than that of any border."""

from __future__ import annotations

from collections.abc import Sequence

import edt
import numpy as np
from numpy.typing import NDArray

from napari_medseg.imaging.filled_box import Region, filled_box
from napari_medseg.imaging.volume import Confidence
from napari_medseg.segmentation.prompts import Prompt
from napari_medseg.segmentation.views import prompts_in_array

DOUBTFUL = 0.7
_THICKER, _THIN, _BLUR = 1.25, 0.3, 0.04
_CERTAIN_MM = 3.0
_CERTAIN, _SURE = 255, 243


def confidence_of(probability: NDArray[np.floating], mask: NDArray[np.generic], region: Sequence[slice]) -> Confidence:
    """Confidence in a mask: the probability where it says lesion, its complement elsewhere.

    Parameters
    ----------
    probability : ndarray, shape (d, h, w)
        Of the lesion, in the region.
    mask : ndarray, shape (d, h, w)
        The answer, in the region.
    region : sequence of slice
        The box of the scan that both belong to.
    """
    values = np.empty(probability.shape, np.uint8)
    for k, (plane, answer) in enumerate(zip(probability, mask, strict=True)):  # slice by slice: little extra memory
        lesion = np.rint(np.clip(plane, 0, 1) * 255.0)
        values[k] = np.where(answer > 0, lesion, 255.0 - lesion)
    z, y, x = region
    return Confidence(values, (z, y, x))


def cropped(confidence: Confidence) -> Confidence:
    """Return the same, in the smallest box that holds any doubt worth keeping."""
    cut = filled_box(confidence.values < _SURE) or (slice(0, 1),) * 3
    z, y, x = (slice(r.start + c.start, r.start + c.stop) for c, r in zip(cut, confidence.region, strict=True))
    return Confidence(confidence.values[cut].copy(), (z, y, x))


def without_doubt_at(
    confidence: Confidence, prompts: Sequence[Prompt], affine: NDArray[np.float64], spacing_mm: Sequence[float]
) -> Confidence:
    """The same, but sure within 3 mm (and at least a voxel) of where the user said what is there."""
    drawn = prompts_in_array(prompts, affine)
    values = confidence.values.copy()
    start = np.array([part.start for part in confidence.region])
    reach = np.maximum(1, np.round(_CERTAIN_MM / np.asarray(spacing_mm))).astype(int)
    for point in np.rint(drawn.points).astype(int) - start:
        low, high = np.maximum(point - reach, 0), np.minimum(point + reach + 1, values.shape)
        if (low < high).all():
            values[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = _CERTAIN
    return Confidence(values, confidence.region)


def thick_doubt(
    confidence: Confidence, spacing_mm: Sequence[float], *, settled: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.bool_], Region] | None:
    """Voxels where doubt is thicker than it usually is along this answer's border, in their box of the scan.

    Every border is a little doubtful; where doubt is even, the voxels where it is thickest are returned.

    Parameters
    ----------
    confidence : Confidence
        Of one answer.
    spacing_mm : sequence of float
        Voxel size along (z, y, x).
    settled : ndarray of bool, shape of the scan, optional
        Voxels that the user has decided on: no doubt is left there.
    """
    doubtful = confidence.values < round(DOUBTFUL * 255)
    if settled is not None:
        doubtful &= ~settled[confidence.region]
    cut = filled_box(doubtful)
    if cut is None:
        return None
    doubtful = np.ascontiguousarray(doubtful[cut])
    depth = edt.edt(doubtful, anisotropy=tuple(spacing_mm), black_border=True)
    limit = _usual_depth(depth, confidence, spacing_mm)
    opened = edt.edt(np.ascontiguousarray(depth <= limit), anisotropy=tuple(spacing_mm)) <= limit
    z, y, x = (slice(r.start + c.start, r.start + c.stop) for c, r in zip(cut, confidence.region, strict=True))
    return opened & doubtful, (z, y, x)


def _usual_depth(depth: NDArray[np.float32], confidence: Confidence, spacing_mm: Sequence[float]) -> float:
    """How deep doubt may reach along a border, in millimetres, without being worth a look."""
    finest = float(min(spacing_mm))
    half = 0.5 * finest  # depth is measured to the middle of the next voxel
    thin = (float(np.quantile(depth[depth > 0], _THIN)) - half) / _THIN + half
    extent = max(n * mm for n, mm in zip(confidence.values.shape, spacing_mm, strict=True))
    blur = max(2.5 * finest, _BLUR * extent)  # networks see large lesions coarsely
    return float(min(_THICKER * thin, blur, 0.8 * float(depth.max())))
