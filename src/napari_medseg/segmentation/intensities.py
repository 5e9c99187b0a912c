"""What intensities say of a shape: how likely each point belongs to the lesion, by two histograms and a random walker.

The shape so far, changed where the newest prompts contradict it, says where the lesion is believed to be; histograms
inside and outside of it say how each point looks; a random walker carries both through tissue that looks alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import edt
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from napari_medseg.segmentation.random_walk import random_walk
from napari_medseg.segmentation.rays import StarSurface
from napari_medseg.segmentation.views import Prompts, View, sample, valid

SIZE = 40
MARGIN = 1.5
_BINS = 32
_STRICTNESS, _TRUST = 0.35, 0.12
_LOOKS, _PLACE, _SURE = 0.5, 1.5, 4.0
_SOFT = 0.15
_REACH = 1.3

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Belief:
    """Where the lesion is before its intensities are looked at.

    Parameters
    ----------
    view : View
        What is looked at.
    depth_mm : ndarray, shape (N, N, N)
        How deep each point of the view lies inside (negative: outside of) the shape so far.
    radius_mm : float
        The shape's typical radius.
    """

    view: View
    depth_mm: Floats
    radius_mm: float


def belief_of(mask: NDArray[np.uint8], view: View, spacing_mm: NDArray[np.float64]) -> Belief:
    """A mask as a shape, in a view that holds it."""
    seen = sample(mask, view, tuple(spacing_mm)) > 0.5
    pitch = view.extent_mm / view.size
    inside, outside = (edt.edt(np.ascontiguousarray(m), black_border=False) for m in (seen, ~seen))
    depth = (np.where(seen, inside - 0.5, 0.5 - outside) * pitch).astype(np.float32)
    radius = float((seen.sum() * 0.75 / np.pi) ** (1 / 3)) * pitch
    return Belief(view, depth, max(radius, pitch))


def belief_from_rays(
    surface: StarSurface, prompts: Prompts, shape: Sequence[int], spacing: NDArray[np.float64]
) -> Belief:
    """A surface round a click as a shape, in a view that holds it and every positive point."""
    ends = surface.centre + surface.directions * surface.radii_mm[:, None] / spacing
    held = np.concatenate([ends, prompts.positive])
    low = np.maximum(held.min(0), -0.5)
    high = np.minimum(held.max(0), np.array(shape) - 0.5)
    view = View((low + high) / 2, MARGIN * float(((high - low) * spacing).max()), SIZE)
    depth = surface.signed_distance_mm(offsets_mm(view, surface.centre, spacing))
    radius = float(np.exp(np.log(surface.radii_mm).mean()))
    return Belief(view, depth.reshape(SIZE, SIZE, SIZE).astype(np.float32), radius)


def middle_of(prompts: Prompts, spacing: NDArray[np.float64]) -> NDArray[np.float64]:
    """The positive point nearest to the middle of them all."""
    points = prompts.positive
    return np.asarray(points[np.linalg.norm((points - points.mean(0)) * spacing, axis=1).argmin()])


def offsets_mm(view: View, origin: NDArray[np.float64], spacing: NDArray[np.float64]) -> NDArray[np.float64]:
    """Positions of a view's points from an array index, shape (N^3, 3)."""
    axes = [(c - o) * s for c, o, s in zip(view.coordinates(tuple(spacing)), origin, spacing, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)


def likely_by_intensity(
    array: NDArray[np.generic], belief: Belief, spacing: NDArray[np.float64], prompts: Prompts
) -> Floats:
    """How likely each point of the view belongs to the lesion."""
    image = sample(array, belief.view, tuple(spacing))
    inside = valid(array.shape, belief.view, tuple(spacing)) > 0
    noise = max(_noise(image), 1e-6)
    logit = _PLACE * np.clip(belief.depth_mm / (_SOFT * belief.radius_mm), -_SURE, _SURE)
    logit = _corrected(logit, image / noise, belief, spacing, prompts)
    logit += _LOOKS * _looks(gaussian_filter(image, 0.6), logit, inside)
    seeds = _seeds(belief.view, spacing, prompts)
    opinion = (1 / (1 + np.exp(-logit))).astype(np.float32)
    walked = random_walk(image / noise, opinion, seeds, strictness=_STRICTNESS, trust=_TRUST)
    return walked * inside


def _noise(image: Floats) -> float:
    """Deviation of the noise, from differences of neighbours that most edges do not touch."""
    steps = np.concatenate([np.abs(np.diff(image, axis=a)).ravel() for a in range(3)])
    return float(np.median(steps) / 0.954 + 0.02 * (np.percentile(image, 98) - np.percentile(image, 2)))


def _looks(image: Floats, logit: Floats, inside: NDArray[np.bool_]) -> Floats:
    """Log of how much likelier each intensity is where the lesion is believed to be than where it is not."""
    low, high = np.percentile(image[inside], (0.5, 99.5)) if inside.any() else (0.0, 1.0)
    binned = (np.clip((image - low) / max(float(high - low), 1e-6), 0, 0.999) * _BINS).astype(int)
    shares = []
    for part in (inside & (logit > 0.8), inside & (logit < -0.8)):
        counts = gaussian_filter1d(np.bincount(binned[part], minlength=_BINS).astype(float), 1.2)
        shares.append(counts / max(counts.sum(), 1e-9) + 0.01)
    return np.asarray(np.clip(np.log(shares[0] / shares[1]), -2.5, 2.5)[binned], np.float32)


def _corrected(logit: Floats, image: Floats, belief: Belief, spacing: NDArray[np.float64], prompts: Prompts) -> Floats:
    """Change the belief round the newest points that contradict it, about as far as the border is from them."""
    view, out = belief.view, logit.copy()
    for point, sign in zip(prompts.points[prompts.ages == 0], prompts.signs[prompts.ages == 0], strict=True):
        at = tuple(np.clip(np.rint(view.point_of(point, tuple(spacing))), 0, view.size - 1).astype(int))
        wrong_by = -float(belief.depth_mm[at]) if sign else float(belief.depth_mm[at])
        if wrong_by <= 0:
            continue
        reach = _REACH * wrong_by + view.extent_mm / view.size
        squared = (offsets_mm(view, point, spacing) ** 2).sum(1).reshape(logit.shape)
        near = np.exp(-0.5 * squared / reach**2)
        alike = np.exp(-0.5 * (np.abs(image - image[at]) / 4.0) ** 2)
        weight = near * (0.3 + 0.7 * alike)
        out = (1 - weight) * out + weight * (_SURE if sign else -_SURE)
    return out.astype(np.float32)


def _seeds(view: View, spacing: NDArray[np.float64], prompts: Prompts) -> Floats:
    """1 and 0 at the points that the user marked, 0.5 elsewhere; the newest wins."""
    seeds = np.full((view.size,) * 3, 0.5, np.float32)
    order = np.argsort(-prompts.ages, kind="stable")
    for point, sign in zip(prompts.points[order], prompts.signs[order], strict=True):
        at = np.rint(view.point_of(point, tuple(spacing))).astype(int)
        if (at >= 0).all() and (at < view.size).all():
            seeds[tuple(at)] = float(sign)
    return seeds
