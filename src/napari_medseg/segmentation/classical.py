"""Segmentation without a network: the size of what was clicked from rays, its border by a random walker.

Needs no weights and no torch; the reference that a trained model must beat, and a second opinion where one fails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import cc3d
import edt
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from napari_medseg.errors import Cancelled, ModelError
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.models.card import Card
from napari_medseg.segmentation.click import framing, nothing_without_a_click, obey, only_what_was_asked
from napari_medseg.segmentation.confidence import confidence_of, without_doubt_at
from napari_medseg.segmentation.prompts import Prompt
from napari_medseg.segmentation.random_walk import random_walk
from napari_medseg.segmentation.rays import StarSurface, find_surface
from napari_medseg.segmentation.views import Prompts, View, paste, prompts_in_array, sample, valid

_SIZE = 40
_MARGIN = 1.5
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


class GeodesicSegmenter:
    """Segments what a click points at by its intensities alone.

    The first click: rays find a surface of any size (`rays`), a random walker that starts from it and from the two
    intensity histograms finds the border (`random_walk`). A correcting click changes the mask so far about as far as
    the mask's border was from it.
    """

    name = "geodesic"
    version = 1
    labels: Mapping[int, str] = MappingProxyType({})
    needs_click = True
    card = Card(name="geodesic", version=1, architecture="none", needs_click=True)

    def segment(
        self,
        volume: Volume,
        prompts: Sequence[Prompt] = (),
        *,
        previous: LabelMap | None = None,
        progress: Callable[[float], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> LabelMap:
        """Segment a lesion from prompts; arguments and result as `Segmenter.segment` has them.

        Raises
        ------
        ModelError
            If there are prompts, but no positive click or scribble.
        Cancelled
            If `should_stop` said so.
        """
        if not prompts:
            return nothing_without_a_click(self.name, volume)
        drawn = prompts_in_array(prompts, volume.affine)
        if not drawn.signs.any():
            raise ModelError("the geodesic method needs a click into the lesion, boxes alone are not enough for it")
        if should_stop is not None and should_stop():
            raise Cancelled("the segmentation was cancelled")
        spacing = np.array(volume.spacing_mm)
        before = None if previous is None else (np.asarray(previous.data) > 0).astype(np.uint8)
        belief = _from_mask(before, drawn, spacing) if before is not None else None
        belief = belief or _from_rays(volume, drawn, spacing)
        likely, region = paste(
            _probabilities(volume.data, belief, spacing, drawn), belief.view, volume.data.shape, volume.spacing_mm
        )
        if before is not None and before.any():
            likely = only_what_was_asked(likely, before[region], drawn)
        data = np.zeros(volume.data.shape, np.uint8)
        data[region] = _joined(obey(likely, region, drawn, spacing), region, drawn)
        confidence = confidence_of(likely, data[region], region)
        return LabelMap(
            data,
            volume.affine,
            {1: "Lesion"},
            grid=volume.grid,
            metadata=volume.metadata,
            confidence=without_doubt_at(confidence, prompts, volume.affine, volume.spacing_mm),
        )


def _joined(mask: NDArray[np.bool_], region: Sequence[slice], prompts: Prompts) -> NDArray[np.bool_]:
    """The parts of the mask that a positive prompt lies in."""
    parts = cc3d.connected_components(mask, connectivity=6)
    start = np.array([s.start for s in region])
    seeds = np.clip(np.rint(prompts.positive - start).astype(int), 0, np.array(parts.shape) - 1)
    return np.isin(parts, [parts[tuple(s)] for s in seeds if parts[tuple(s)]])


def _from_rays(volume: Volume, prompts: Prompts, spacing: NDArray[np.float64]) -> Belief:
    """The shape that rays from the middle one of the positive points find, stretched so that it holds them all."""
    points = prompts.positive
    middle = points[np.linalg.norm((points - points.mean(0)) * spacing, axis=1).argmin()]
    surface = find_surface(volume.data, middle, volume.spacing_mm)
    ends = middle + surface.directions * surface.radii_mm[:, None] / spacing
    held = np.concatenate([ends, points])
    low = np.maximum(held.min(0), -0.5)
    high = np.minimum(held.max(0), np.array(volume.data.shape) - 0.5)
    view = View((low + high) / 2, _MARGIN * float(((high - low) * spacing).max()), _SIZE)
    depth = surface.signed_distance_mm(_offsets_mm(view, middle, spacing))
    return Belief(view, depth.reshape(_SIZE, _SIZE, _SIZE).astype(np.float32), _radius(surface))


def _radius(surface: StarSurface) -> float:
    return float(np.exp(np.log(surface.radii_mm).mean()))


def _offsets_mm(view: View, origin: NDArray[np.float64], spacing: NDArray[np.float64]) -> NDArray[np.float64]:
    """Positions of a view's points from an array index, shape (N^3, 3)."""
    axes = [(c - o) * s for c, o, s in zip(view.coordinates(tuple(spacing)), origin, spacing, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)


def _from_mask(mask: NDArray[np.uint8], prompts: Prompts, spacing: NDArray[np.float64]) -> Belief | None:
    """The mask so far as a shape; None where it is empty."""
    whole = tuple(slice(0, n) for n in mask.shape)
    view = framing(prompts.points, mask, whole, _MARGIN, spacing, _SIZE)
    if view is None:
        return None
    seen = sample(mask, view, tuple(spacing)) > 0.5
    pitch = view.extent_mm / view.size
    inside, outside = (edt.edt(np.ascontiguousarray(m), black_border=False) for m in (seen, ~seen))
    depth = (np.where(seen, inside - 0.5, 0.5 - outside) * pitch).astype(np.float32)
    radius = float((seen.sum() * 0.75 / np.pi) ** (1 / 3)) * pitch
    return Belief(view, depth, max(radius, pitch))


def _probabilities(
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
        squared = (_offsets_mm(view, point, spacing) ** 2).sum(1).reshape(logit.shape)
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
