"""What changed between two registered visits, voxel by voxel."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cc3d
import edt
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_medseg.errors import ImagingError
from napari_medseg.followup.settings import ChangeSettings
from napari_medseg.imaging.orientation import resample_volume
from napari_medseg.imaging.registration import block_means, body_of
from napari_medseg.imaging.volume import LabelMap, Volume

Floats = NDArray[np.float32]

# Coils shade a scan over this distance; the ratio of two visits is evened out over it.
_SHADING_MM, _SHADING_GRID_MM = 20.0, 5.0
_MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """What changed, on the current scan's grid.

    Parameters
    ----------
    map : Volume
        Brighter (positive) or darker than the prior, in standard deviations of what nothing changed.
    mask : LabelMap
        1 where it got brighter, 2 where it got darker: differences beyond the threshold, without small regions.
    """

    map: Volume
    mask: LabelMap


def change_between(prior: Volume, current: Volume, settings: ChangeSettings | None = None) -> Change:
    """Difference of two visits of one sequence, freed of what is no change.

    Both are blurred a little; the prior takes on the shading and brightness of the current scan (their smoothed
    logarithmic ratio in the body); the difference is divided by the noise (median absolute difference in the body) and
    by what a misplacement of edges makes (gradient times distance).

    Parameters
    ----------
    prior : Volume
        Registered: its affine says where it lies in the current scan's world.
    current : Volume
        Gives the grid.
    settings : ChangeSettings, optional
        Chosen by the current scan's name where nothing is given.

    Raises
    ------
    ImagingError
        If the bodies in the two have nothing in common.
    """
    settings = settings or ChangeSettings.for_scan(current.name)
    spacing = np.array(current.spacing_mm)
    before = resample_volume(prior, current, outside=float("nan")).data
    covered = np.isfinite(before)
    before, now = np.nan_to_num(before), current.data.astype(np.float32)
    body = body_of(now) & body_of(before) & covered
    if not body.any():
        raise ImagingError(f"'{prior.name}' and '{current.name}' have no common part: register them first")
    base = float(min(before.min(), now.min()))
    sigma = settings.smoothing_mm / spacing
    before, now = (ndimage.gaussian_filter(each - base, sigma) for each in (before, now))
    before *= _shading(before, now, body, spacing)
    difference = np.where(covered, now - before, np.float32(0))
    noise = _MAD_TO_SIGMA * float(np.median(np.abs(difference[body]))) or 1.0
    edges = settings.misplacement_mm * _gradient((now + before) / 2, spacing)
    difference /= np.sqrt(noise**2 + edges**2)
    mask = _changed(difference, np.maximum(now, before), body, spacing, settings)
    names = {1: "brighter", 2: "darker"}
    return Change(
        replace(current, data=difference.astype(np.float32), name="Change", warnings=()),
        LabelMap(mask, current.affine, names, current.grid, metadata=current.metadata),
    )


def _changed(
    difference: Floats, brighter: Floats, body: NDArray[np.bool_], spacing: NDArray[np.float64], by: ChangeSettings
) -> NDArray[np.uint8]:
    marked = np.abs(difference) > by.threshold
    depth = edt.edt(body, anisotropy=tuple(spacing), black_border=False) if by.rim_mm or by.bright_only else None
    if depth is not None and by.rim_mm:
        marked &= depth > by.rim_mm
    if depth is not None and by.bright_only:
        marked &= brighter > _bright(brighter[depth > by.rim_mm] if (depth > by.rim_mm).any() else brighter[body])
    least = int(np.ceil(by.least_mm3 / float(np.prod(spacing))))
    signed = np.where(marked, np.where(difference > 0, 1, 2), 0).astype(np.uint8)
    return np.asarray(cc3d.dust(signed, threshold=least, connectivity=26), dtype=np.uint8) if least > 1 else signed


def _bright(values: Floats) -> float:
    """Brighter than most of the tissue: half a (robust) standard deviation above its median."""
    median = float(np.median(values))
    return median + 0.5 * _MAD_TO_SIGMA * float(np.median(np.abs(values - median)))


def _shading(before: Floats, now: Floats, body: NDArray[np.bool_], spacing: NDArray[np.float64]) -> Floats:
    """Smooth factor that gives the prior the brightness of the current scan; computed on a coarse grid."""
    blocks = [max(1, min(int(_SHADING_GRID_MM / s), n)) for s, n in zip(spacing, body.shape, strict=True)]
    weight = block_means(body, blocks)
    floor = 0.05 * float(np.median(now[body]))
    ratio = block_means(np.log((now + floor) / (before + floor)) * body, blocks)
    sigma = _SHADING_MM / (spacing * blocks)
    smooth = ndimage.gaussian_filter(ratio, sigma) / np.maximum(ndimage.gaussian_filter(weight, sigma), 1e-3)
    scale = 1.0 / np.array(blocks)
    offset = (1 - np.array(blocks)) / 2 * scale
    whole = ndimage.affine_transform(smooth, scale, offset, output_shape=body.shape, order=1, mode="nearest")
    return np.asarray(np.exp(whole), np.float32)


def _gradient(values: Floats, spacing: NDArray[np.float64]) -> Floats:
    squares = np.zeros(values.shape, np.float32)
    for axis, step in enumerate(spacing):
        if values.shape[axis] > 1:
            squares += (np.gradient(values, axis=axis) / np.float32(step)) ** 2
    return np.sqrt(squares)
