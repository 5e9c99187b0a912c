"""From prompts to a mask: look at several scales, choose, look closer; then correct where the user says so.

The first answer: views of growing size round the click go through the network; it estimates for each view how well
its mask fits the whole lesion; the best, also by what rays from the click say of its size, is looked at again in a
view that its mask fills. A correction: two views that hold the mask so far and every prompt. Both times what the
intensities alone say has a share in the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from napari_medseg.errors import Cancelled
from napari_medseg.imaging.filled_box import Region, filled_box
from napari_medseg.imaging.view import covered, reach_of, sheets
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.segmentation.areas import Area
from napari_medseg.segmentation.intensities import (
    SIZE,
    Belief,
    belief_from_rays,
    belief_of,
    likely_by_intensity,
    middle_of,
)
from napari_medseg.segmentation.rays import RaySearch, search_rays
from napari_medseg.segmentation.views import Prompts, View, paste, render

Floats = NDArray[np.float32]
Answer = tuple[Floats, tuple[slice, ...]]
Predict = Callable[[Floats, Floats], tuple[Floats, Floats]]

LADDER_SIZE, CLOSE_SIZE = 48, 64
LADDER_VIEWS = 7
NARROWEST_VOXELS, WIDEST_VOXELS = 20.0, 520.0
_MARGINS, _WIDE = (1.7, 1.35), 2.2
_FILL = 1.45
_OPINION_FIRST, _OPINION_LATER = 0.25, 0.4
_NEGLIGIBLE, _ROUND_POINTS = 0.04, 3
AGREEMENT = 2.0
_AREA_AGREEMENT = 3.0
_FEW_VIEWS, _NOTHING = 5, 1e3
_NEAR_MM, _NEAR_VOXELS = 5.0, 2.0
_JUST_INSIDE = np.float32(0.55)


@dataclass(frozen=True, slots=True, eq=False)
class Opinion:
    """Probabilities at a view's points, and their share in the answer."""

    probability: Floats
    view: View
    share: float


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What is segmented: the scan, its voxel size, the prompts, and how to ask the network."""

    array: NDArray[np.generic]
    spacing_mm: NDArray[np.float64]
    prompts: Prompts
    predict: Predict
    should_stop: Callable[[], bool] | None = None

    def ask(
        self, views: Sequence[View], previous: NDArray[np.generic] | None, narrowest: View | None = None
    ) -> tuple[list[Floats], Floats]:
        """Probabilities in each view, and each view's estimated Dice among views of which one is the narrowest."""
        if self.should_stop is not None and self.should_stop():
            raise Cancelled("the segmentation was cancelled")
        inputs = np.stack([render(self.array, v, tuple(self.spacing_mm), self.prompts, previous) for v in views])
        probabilities, quality = self.predict(inputs, widths_in_ladder(views, narrowest))
        return [p * x[-1] for p, x in zip(probabilities, inputs, strict=True)], quality

    def blend(self, opinions: Sequence[Opinion], held: Region | None) -> Answer:
        """Opinions on the scan's grid, each with its share; where one does not reach, it says no.

        The region is the box of what any of them thinks likely enough to matter, as far as the first one's view shows
        it, and of what it has to hold.
        """
        shape, spacing = self.array.shape, tuple(self.spacing_mm)
        shown = covered(opinions[0].view, shape, spacing)
        boxes = [reach_of(o.probability > _NEGLIGIBLE, o.view, shown, spacing) for o in opinions]
        region = _joined([box for box in (*boxes, held) if box is not None])
        probability = np.zeros([part.stop - part.start for part in region], np.float32)
        for opinion, box in zip(opinions, boxes, strict=True):
            if box is None:
                continue
            values, where = paste(opinion.probability, opinion.view, shape, spacing, _overlap(region, shown))
            here = tuple(slice(w.start - r.start, w.stop - r.start) for w, r in zip(where, region, strict=True))
            values *= np.float32(opinion.share)
            probability[here] += values
        return probability, region

    def cuts(self, probability: Floats, view: View) -> bool:
        """Whether a view's border cuts through the mask: then it shows too little."""
        mask = probability > 0.5
        open_axes = [
            a for a, is_sheet in enumerate(sheets(self.array.shape, view, tuple(self.spacing_mm))) if not is_sheet
        ]
        faces = [int(mask.take(end, axis).sum()) for axis in open_axes for end in (0, -1)]
        return bool(max(faces, default=0) > 0.01 * mask[0].size)

    def intensities(self, belief: Belief, share: float) -> Opinion:
        """What the intensities alone say of a shape."""
        return Opinion(likely_by_intensity(self.array, belief, self.spacing_mm, self.prompts), belief.view, share)


def segment_first(scene: Scene) -> Answer:
    """Segment from prompts alone.

    Returns
    -------
    ndarray of float32
        Probabilities on the scan's grid, in a region.
    tuple of slice
        The region; outside it the probability is 0.
    """
    shape, spacing = scene.array.shape, tuple(scene.spacing_mm)
    prompts = with_middles(scene.prompts, scene.spacing_mm)
    scene = replace(scene, prompts=prompts)
    views = ladder(prompts, shape, scene.spacing_mm)
    rays = search_rays(scene.array, middle_of(prompts, scene.spacing_mm), spacing)
    likely, view = look_at_scales(scene, views, rays)
    held = _box_of(prompts.reach(boxes=False), shape)
    first, region = scene.blend([Opinion(likely, view, 1.0)], held)
    close = framing(prompts.reach(), first > 0.5, region, _FILL, scene.spacing_mm)
    if close is None:
        return first, region
    mask = np.zeros(shape, np.uint8)
    mask[region] = first > 0.5
    (again,), _ = scene.ask([close], mask)
    belief = belief_from_rays(rays.best(), prompts, shape, scene.spacing_mm)
    opinions = [Opinion(again, close, 1 - _OPINION_FIRST), scene.intensities(belief, _OPINION_FIRST)]
    return scene.blend(opinions, held)


def look_at_scales(scene: Scene, views: Sequence[View], rays: RaySearch) -> tuple[Floats, View]:
    """The view whose mask is expected to agree best with the lesion, and the probabilities in it.

    Of many views every other one is looked at, and then those beside the best of them; all, where nothing was found.
    """
    expected, probabilities = np.full(len(views), -np.inf), [np.empty(0, np.float32)] * len(views)
    asked = list(range(0, len(views), 2 if len(views) > _FEW_VIEWS else 1))
    while asked:
        found, quality = scene.ask([views[k] for k in asked], None, views[0])
        for k, probability, dice in zip(asked, found, quality, strict=True):
            probabilities[k], expected[k] = probability, expectation(scene, probability, views[k], float(dice), rays)
        best = int(expected.argmax())
        beside = (best - 1, best + 1) if expected[best] > -_NOTHING else range(len(views))
        asked = [k for k in beside if 0 <= k < len(views) and not probabilities[k].size]
    return probabilities[best], views[best]


def expectation(scene: Scene, probability: Floats, view: View, dice: float, rays: RaySearch) -> float:
    """What is to be expected of a view's mask: its estimated Dice, heard with what rays and areas say; a logit.

    Of a mask that holds nothing, less than of all others.
    """
    if not (probability > 0.5).any():
        return -_NOTHING
    spacing, drawn = tuple(scene.spacing_mm), [area for area in scene.prompts.areas if area.positive]
    fits = [area.agreement(probability, view, scene.array.shape, spacing) for area in drawn]
    says = AGREEMENT * rays.agreement(probability, view, spacing) + _AREA_AGREEMENT * float(np.mean(fits or 0.0))
    return float(logit(np.clip(dice, 1e-4, 1 - 1e-4))) + says


def with_middles(prompts: Prompts, spacing_mm: NDArray[np.float64]) -> Prompts:
    """Prompts with a click at the middle of each positive area, where nothing else says what is in the lesion."""
    if prompts.signs.any():
        return prompts
    return with_clicks(prompts, [(area.middle(tuple(spacing_mm)), True) for area in prompts.areas if area.positive])


def with_contradictions(prompts: Prompts, previous: NDArray[np.uint8], spacing_mm: NDArray[np.float64]) -> Prompts:
    """Prompts with clicks where the mask so far contradicts the area that was marked last, if one was."""
    newest = [area for area in prompts.areas if not area.age]
    return with_clicks(
        prompts, [click for area in newest for click in area.contradictions(previous, tuple(spacing_mm))]
    )


def with_clicks(prompts: Prompts, clicks: Sequence[tuple[NDArray[np.float64], bool]]) -> Prompts:
    """Prompts and more clicks, as new as the newest."""
    if not clicks:
        return prompts
    return replace(
        prompts,
        points=np.concatenate([prompts.points, [point for point, _ in clicks]]),
        signs=np.r_[prompts.signs, [sign for _, sign in clicks]],
        ages=np.r_[prompts.ages, np.zeros(len(clicks), np.int64)],
    )


def ladder(prompts: Prompts, shape: Sequence[int], spacing: NDArray[np.float64]) -> list[View]:
    """Views of growing size round the positive points, from a small nodule to the whole scan."""
    held = prompts.positive
    low, high = held.min(0), held.max(0)
    centre = (low + high) / 2 if len(held) > 1 else held[0]
    spread = float(((high - low) * spacing).max())
    narrowest = max(NARROWEST_VOXELS * spacing.min(), 1.4 * spread)
    whole = 1.25 * float((spacing * shape).max())
    widest = max(min(whole, WIDEST_VOXELS * spacing.min()), 1.3 * narrowest)
    n = int(np.clip(np.ceil(np.log(widest / narrowest) / np.log(1.6)) + 1, 2, LADDER_VIEWS))
    return [View(centre, float(e), LADDER_SIZE) for e in np.geomspace(narrowest, widest, n)]


def widths_in_ladder(views: Sequence[View], narrowest: View | None = None) -> Floats:
    """How much wider each view is than the narrowest, the first where none is given: the logarithm."""
    least = (narrowest or views[0]).extent_mm
    return np.log([view.extent_mm / least for view in views]).astype(np.float32)


def framing(
    points: NDArray[np.float64],
    mask: NDArray[np.generic],
    region: Sequence[slice],
    margin: float,
    spacing_mm: NDArray[np.float64],
    size: int = CLOSE_SIZE,
) -> View | None:
    """View that a mask, given in a region, and all points fill up to a margin; None for an empty mask."""
    bounds = _bounds(points, mask, region)
    return None if bounds is None else _framed(*bounds, margin, spacing_mm, size)


def _bounds(
    points: NDArray[np.float64], mask: NDArray[np.generic], region: Sequence[slice]
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Lowest and highest index of a mask, given in a region, and of the points; None for an empty mask."""
    cut = filled_box(mask)
    if cut is None:
        return None
    low = np.array([c.start + part.start - 0.5 for c, part in zip(cut, region, strict=True)])
    high = np.array([c.stop + part.start - 0.5 for c, part in zip(cut, region, strict=True)])
    return np.minimum(low, points.min(0, initial=np.inf)), np.maximum(high, points.max(0, initial=-np.inf))


def _box_of(points: NDArray[np.float64], shape: Sequence[int]) -> Region | None:
    """The box that holds the voxels of the points, and a few round them; None without points."""
    if not len(points):
        return None
    low = np.maximum(np.floor(points.min(0)).astype(int) - _ROUND_POINTS, 0)
    high = np.minimum(np.ceil(points.max(0)).astype(int) + _ROUND_POINTS + 1, shape)
    z, y, x = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return z, y, x


def _overlap(box: Region, other: Region) -> Region:
    """The box that two have in common, which they have."""
    z, y, x = (slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(box, other, strict=True))
    return z, y, x


def _joined(boxes: Sequence[Sequence[slice]]) -> Region:
    """The box that holds several; one voxel where there is none."""
    if not boxes:
        return slice(0, 1), slice(0, 1), slice(0, 1)
    z, y, x = (slice(min(p.start for p in parts), max(p.stop for p in parts)) for parts in zip(*boxes, strict=True))
    return z, y, x


def _framed(
    low: NDArray[np.float64], high: NDArray[np.float64], margin: float, spacing_mm: NDArray[np.float64], size: int
) -> View:
    extent = margin * float(((high - low) * spacing_mm).max())
    return View((low + high) / 2, max(extent, NARROWEST_VOXELS / 2 * float(spacing_mm.min())), size)


def segment_again(scene: Scene, previous: NDArray[np.uint8], region: Region) -> Answer:
    """Correct a mask by the newest prompts; probabilities and region as `segment_first` gives them.

    Parameters
    ----------
    scene : Scene
        The scan and all prompts.
    previous : ndarray of uint8, shape (Z, Y, X)
        The mask so far, 0 and 1.
    region : tuple of slice
        The box that it fills.
    """
    prompts = with_contradictions(scene.prompts, previous, scene.spacing_mm)
    scene = replace(scene, prompts=prompts)
    bounds = _bounds(prompts.reach(), previous[region], region)
    assert bounds is not None
    views = [_framed(*bounds, margin, scene.spacing_mm, CLOSE_SIZE) for margin in _MARGINS]
    probabilities, _ = scene.ask(views, previous)
    seen = [(p, v) for p, v in zip(probabilities, views, strict=True) if not scene.cuts(p, v)]
    if not seen:
        views = [_framed(*bounds, _WIDE, scene.spacing_mm, CLOSE_SIZE)]
        seen = list(zip(scene.ask(views, previous)[0], views, strict=True))
    closest = seen[-1][1]
    belief = belief_of(previous, View(closest.centre, closest.extent_mm, SIZE), scene.spacing_mm)
    opinion = [scene.intensities(belief, _OPINION_LATER)] if (belief.depth_mm > 0).any() else []
    share = (1 - sum(o.share for o in opinion)) / len(seen)
    points = _box_of(prompts.reach(boxes=False), previous.shape)
    held = _joined([box for box in (region, points) if box is not None])
    probability, where = scene.blend([*(Opinion(p, v, share) for p, v in seen), *opinion], held)
    only_what_was_asked(probability, previous[where], prompts)
    only_as_large_as_was_drawn(probability, previous[where], where, prompts, scene.spacing_mm)
    return only_where_it_was_asked(probability, previous[where], where, prompts, scene.spacing_mm), where


def only_what_was_asked(probability: Floats, previous: NDArray[np.uint8], prompts: Prompts) -> None:
    """Keep a correction, in place, to its sense: foreground marked last only adds, background only takes away."""
    newest = prompts.signs[prompts.ages == 0]
    if newest.all() and len(newest):
        np.maximum(probability, _JUST_INSIDE, out=probability, where=previous > 0)
    elif len(newest) and not newest.any():
        probability *= previous


def only_as_large_as_was_drawn(
    probability: Floats,
    previous: NDArray[np.uint8],
    region: Sequence[slice],
    prompts: Prompts,
    spacing_mm: NDArray[np.float64],
) -> None:
    """Keep what a box or lasso round the lesion adds to a mask, in place, to its surroundings."""
    for area in prompts.areas:
        if area.positive and not area.age:
            can_be = previous > 0
            can_be[area.surroundings(region, tuple(spacing_mm))] = True
            np.minimum(probability, np.float32(0.5), out=probability, where=~can_be)


def only_where_it_was_asked(
    probability: Floats,
    previous: NDArray[np.uint8],
    region: Sequence[slice],
    prompts: Prompts,
    spacing_mm: NDArray[np.float64],
) -> Floats:
    """Keep a correction to its place: the part of the mask, old and new, that the newest prompts point at.

    Another lesion in the view stays as it was, and none appears where nobody pointed.
    """
    newest = prompts.points[prompts.ages == 0]
    either = (previous > 0) | (probability > 0.5)
    cut = filled_box(either)
    if cut is None:
        return probability
    start = np.array([part.start for part in region]) + [part.start for part in cut]
    parts, n = cc3d.connected_components(either[cut], connectivity=26, return_N=True)
    is_meant = np.zeros(n + 1, bool)
    reach = max(_NEAR_MM, _NEAR_VOXELS * float(spacing_mm.min()))
    for point in newest:
        ball, near = _ball(np.rint(point - start).astype(int), parts.shape, spacing_mm, reach)
        is_meant[parts[near][ball]] = True
    is_meant[0] = True
    if is_meant.all():
        return probability
    as_it_was = np.where(previous[cut] > 0, _JUST_INSIDE, np.float32(0.5))
    probability[cut] = np.where(is_meant[parts], probability[cut], as_it_was)
    return probability


def obey(
    probability: Floats,
    region: Sequence[slice],
    prompts: Prompts,
    spacing_mm: NDArray[np.float64],
    was: NDArray[np.uint8] | None = None,
) -> NDArray[np.bool_]:
    """Mask of the region in which every prompt has its way, the newest last.

    A box or lasso that says background is empty; what touches one round the lesion ends at it, on its slice, and deep
    in a lasso is lesion: while it is new, for a mask so far (`was`, in the region) has heard it; later, nothing is
    added where it excludes the lesion, unless a newer prompt says so. A positive click that the network left outside
    brings the part round it that it thought about as likely, and at least a small ball; a negative one inside takes a
    small ball.
    """
    mask = probability > 0.5
    start = np.array([s.start for s in region])
    for age in sorted({*prompts.ages.tolist(), *(area.age for area in prompts.areas)}, reverse=True):
        for area in prompts.areas:
            if area.age == age and (was is None or not age):
                area.shape(mask, region, tuple(spacing_mm), was)
            elif area.age == age and was is not None:
                excluded = area.excluded(region)
                if not _is_taken_back(area, excluded, prompts, region):
                    mask &= ~excluded | ((was > 0) & area.positive)
        here = prompts.ages == age
        for point, positive in zip(prompts.points[here], prompts.signs[here], strict=True):
            _obey_point(mask, probability, np.rint(point).astype(int) - start, positive, spacing_mm)
    return mask


def _is_taken_back(area: Area, excluded: NDArray[np.bool_], prompts: Prompts, region: Sequence[slice]) -> bool:
    """Whether a newer prompt says that the lesion is where an area excludes it."""
    start = np.array([part.start for part in region])
    newer = np.rint(prompts.points[prompts.signs & (prompts.ages < area.age)]).astype(int) - start
    seen = newer[((newer >= 0) & (newer < excluded.shape)).all(1)]
    later = [other for other in prompts.areas if other.positive and other.age < area.age]
    meets = any((excluded & other.within(region) & ~other.excluded(region)).any() for other in later)
    return bool(excluded[tuple(seen.T)].any()) or meets


def _obey_point(
    mask: NDArray[np.bool_],
    probability: Floats,
    index: NDArray[np.int64],
    positive: bool,
    spacing_mm: NDArray[np.float64],
) -> None:
    if (index < 0).any() or (index >= mask.shape).any() or mask[tuple(index)] == positive:
        return
    ball, cut = _ball(index, mask.shape, spacing_mm, 1.5 * float(spacing_mm.min()))
    here = float(probability[tuple(index)])
    if positive and here > 0.15:
        parts = cc3d.connected_components(probability > 0.85 * here, connectivity=6)
        mask |= parts == parts[tuple(index)]
    mask[cut][ball] = positive


def _ball(
    index: NDArray[np.int64], shape: Sequence[int], spacing_mm: NDArray[np.float64], radius_mm: float
) -> tuple[NDArray[np.bool_], tuple[slice, ...]]:
    reach = np.floor(radius_mm / spacing_mm).astype(int)
    low = np.maximum(index - reach, 0)
    high = np.maximum(np.minimum(index + reach + 1, shape), low)
    z, y, x = (((np.arange(a, b) - c) * s) ** 2 for a, b, c, s in zip(low, high, index, spacing_mm, strict=True))
    return z[:, None, None] + y[:, None] + x <= radius_mm**2, tuple(slice(a, b) for a, b in zip(low, high, strict=True))


def nothing_without_a_click(name: str, volume: Volume) -> LabelMap:
    """Return an empty mask that says why it is empty."""
    told = f"nothing was segmented: the model '{name}' needs a click into the lesion, or a box round it"
    empty = np.zeros(volume.data.shape, np.uint8)
    return LabelMap(empty, volume.affine, grid=volume.grid, warnings=(told,), metadata=volume.metadata)
