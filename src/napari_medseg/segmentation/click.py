"""From prompts to a mask: look at several scales, choose, look closer; then correct where the user says so.

The first answer: views of growing size round the click go through the network in one batch; it estimates for each
view how well its mask fits the whole lesion; the best, also by what rays from the click say of its size, is looked at
again in a view that its mask fills. A correction: two views that hold the mask so far and every prompt. Both times
what the intensities alone say has a share in the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from napari_medseg.errors import Cancelled
from napari_medseg.imaging.view import sheets
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.segmentation.intensities import (
    SIZE,
    Belief,
    belief_from_rays,
    belief_of,
    likely_by_intensity,
    middle_of,
)
from napari_medseg.segmentation.rays import RaySearch, search_rays
from napari_medseg.segmentation.views import Prompts, View, in_box, paste, render

Floats = NDArray[np.float32]
Answer = tuple[Floats, tuple[slice, ...]]
Predict = Callable[[Floats, Floats], tuple[Floats, Floats]]

LADDER_SIZE, CLOSE_SIZE = 48, 64
LADDER_VIEWS = 7
NARROWEST_VOXELS, WIDEST_VOXELS = 20.0, 520.0
_MARGINS, _WIDE = (1.7, 1.35), 2.2
_FILL = 1.45
_OPINION_FIRST, _OPINION_LATER = np.float32(0.25), np.float32(0.4)
AGREEMENT = 2.0
_NEAR_MM, _NEAR_VOXELS = 5.0, 2.0
_JUST_INSIDE = np.float32(0.55)


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What is segmented: the scan, its voxel size, the prompts, and how to ask the network."""

    array: NDArray[np.generic]
    spacing_mm: NDArray[np.float64]
    prompts: Prompts
    predict: Predict
    should_stop: Callable[[], bool] | None = None

    def ask(self, views: Sequence[View], previous: NDArray[np.generic] | None) -> tuple[list[Floats], Floats]:
        """Probabilities in each view, and each view's estimated Dice; the narrowest view comes first."""
        if self.should_stop is not None and self.should_stop():
            raise Cancelled("the segmentation was cancelled")
        inputs = np.stack([render(self.array, v, tuple(self.spacing_mm), self.prompts, previous) for v in views])
        probabilities, quality = self.predict(inputs, widths_in_ladder(views))
        return [p * x[-1] for p, x in zip(probabilities, inputs, strict=True)], quality

    def paste(self, probability: Floats, view: View) -> Answer:
        """A view's probabilities on the scan's grid."""
        return paste(probability, view, self.array.shape, tuple(self.spacing_mm))

    def cuts(self, probability: Floats, view: View) -> bool:
        """Whether a view's border cuts through the mask: then it shows too little."""
        mask = probability > 0.5
        open_axes = [
            a for a, is_sheet in enumerate(sheets(self.array.shape, view, tuple(self.spacing_mm))) if not is_sheet
        ]
        faces = [int(mask.take(end, axis).sum()) for axis in open_axes for end in (0, -1)]
        return bool(max(faces, default=0) > 0.01 * mask[0].size)

    def rays(self) -> RaySearch | None:
        """What rays from the click find; None where a box says more of the size than they do."""
        if self.prompts.boxes or not self.prompts.signs.any():
            return None
        return search_rays(self.array, middle_of(self.prompts, self.spacing_mm), tuple(self.spacing_mm))

    def intensities(self, belief: Belief) -> Answer:
        """What the intensities alone say of a shape."""
        likely = likely_by_intensity(self.array, belief, self.spacing_mm, self.prompts)
        return self.paste(likely, belief.view)


def segment_first(scene: Scene) -> Answer:
    """Segment from prompts alone.

    Returns
    -------
    ndarray of float32
        Probabilities on the scan's grid, in a region.
    tuple of slice
        The region; outside it the probability is 0.
    """
    views = ladder(scene.prompts, scene.array.shape, scene.spacing_mm)
    probabilities, quality = scene.ask(views, None)
    rays = scene.rays()
    if rays is not None:
        agreement = [rays.agreement(p, v, tuple(scene.spacing_mm)) for p, v in zip(probabilities, views, strict=True)]
        quality = expit(logit(quality.clip(1e-4, 1 - 1e-4)) + AGREEMENT * np.array(agreement))
    k = choose(probabilities, quality)
    first, region = scene.paste(probabilities[k], views[k])
    mask = np.zeros(scene.array.shape, np.uint8)
    mask[region] = first > 0.5
    close = framing(scene.prompts.points, mask, region, _FILL, scene.spacing_mm)
    if close is None:
        return first, region
    (again,), _ = scene.ask([close], mask)
    answer = scene.paste(again, close)
    if rays is not None:
        belief = belief_from_rays(rays.best(), scene.prompts, scene.array.shape, scene.spacing_mm)
        mix(answer, scene.intensities(belief), _OPINION_FIRST)
    return answer


def ladder(prompts: Prompts, shape: Sequence[int], spacing: NDArray[np.float64]) -> list[View]:
    """Views of growing size round the positive prompts, from a small nodule to the whole scan."""
    corners = [c for low, high, positive in prompts.boxes if positive for c in (low, high)]
    held = np.concatenate([prompts.positive, np.array(corners, float).reshape(-1, 3)])
    low, high = held.min(0), held.max(0)
    centre = (low + high) / 2 if len(held) > 1 else held[0]
    spread = float(((high - low) * spacing).max())
    narrowest = max(NARROWEST_VOXELS * spacing.min(), 1.4 * spread)
    if corners:
        return [View(centre, narrowest * f, LADDER_SIZE) for f in (0.9, 1.15, 1.5)]
    whole = 1.25 * float((spacing * shape).max())
    widest = max(min(whole, WIDEST_VOXELS * spacing.min()), 1.3 * narrowest)
    n = int(np.clip(np.ceil(np.log(widest / narrowest) / np.log(1.6)) + 1, 2, LADDER_VIEWS))
    return [View(centre, float(e), LADDER_SIZE) for e in np.geomspace(narrowest, widest, n)]


def widths_in_ladder(views: Sequence[View]) -> Floats:
    """How much wider each view is than the first: the logarithm."""
    return np.log([v.extent_mm / views[0].extent_mm for v in views]).astype(np.float32)


def choose(probabilities: Sequence[Floats], quality: Floats) -> int:
    """The view whose mask is expected to agree best with the lesion; one that found nothing only if all did."""
    found = [bool((p > 0.5).any()) for p in probabilities]
    return int(np.argmax(np.where(found, quality, -1.0)))


def framing(
    points: NDArray[np.float64],
    mask: NDArray[np.uint8],
    region: Sequence[slice],
    margin: float,
    spacing_mm: NDArray[np.float64],
    size: int = CLOSE_SIZE,
) -> View | None:
    """View that the mask (known to lie in `region`) and all points fill up to a margin; None for an empty mask."""
    bounds = _bounds(points, mask, region)
    return None if bounds is None else _framed(*bounds, margin, spacing_mm, size)


def _bounds(
    points: NDArray[np.float64], mask: NDArray[np.uint8], region: Sequence[slice]
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Lowest and highest index of the mask and the points; None for an empty mask."""
    cut = _filled_part(mask[tuple(region)].view(np.bool_))
    if cut is None:
        return None
    low = np.array([c.start + part.start - 0.5 for c, part in zip(cut, region, strict=True)])
    high = np.array([c.stop + part.start - 0.5 for c, part in zip(cut, region, strict=True)])
    return np.minimum(low, points.min(0, initial=np.inf)), np.maximum(high, points.max(0, initial=-np.inf))


def _framed(
    low: NDArray[np.float64], high: NDArray[np.float64], margin: float, spacing_mm: NDArray[np.float64], size: int
) -> View:
    extent = margin * float(((high - low) * spacing_mm).max())
    return View((low + high) / 2, max(extent, NARROWEST_VOXELS / 2 * float(spacing_mm.min())), size)


def segment_again(scene: Scene, previous: NDArray[np.uint8]) -> Answer:
    """Correct a mask by the newest prompts; probabilities and region as `segment_first` gives them."""
    region = tuple(slice(0, n) for n in previous.shape)
    bounds = _bounds(scene.prompts.points, previous, region)
    if bounds is None:
        return segment_first(scene)
    views = [_framed(*bounds, margin, scene.spacing_mm, CLOSE_SIZE) for margin in _MARGINS]
    probabilities, _ = scene.ask(views, previous)
    seen = [(p, v) for p, v in zip(probabilities, views, strict=True) if not scene.cuts(p, v)]
    if not seen:
        views = [_framed(*bounds, _WIDE, scene.spacing_mm, CLOSE_SIZE)]
        seen = list(zip(scene.ask(views, previous)[0], views, strict=True))
    answer = scene.paste(*seen[0])
    for share, (probability, view) in enumerate(seen[1:], start=2):
        mix(answer, scene.paste(probability, view), np.float32(1 / share))
    closest = seen[-1][1]
    belief = belief_of(previous, View(closest.centre, closest.extent_mm, SIZE), scene.spacing_mm)
    if (belief.depth_mm > 0).any():
        mix(answer, scene.intensities(belief), _OPINION_LATER)
    probability, region = answer
    asked = only_what_was_asked(probability, previous[region], scene.prompts)
    return only_where_it_was_asked(asked, previous[region], region, scene.prompts, scene.spacing_mm), region


def mix(answer: Answer, other: Answer, share: np.float32) -> None:
    """Give another answer its share in an answer, in place; where the other does not reach, it says no."""
    (probability, region), (opinion, where) = answer, other
    both = [(max(a.start, b.start), max(a.start, min(a.stop, b.stop))) for a, b in zip(region, where, strict=True)]
    here = tuple(slice(low - a.start, high - a.start) for (low, high), a in zip(both, region, strict=True))
    there = tuple(slice(low - b.start, high - b.start) for (low, high), b in zip(both, where, strict=True))
    probability *= 1 - share
    if all(high > low for low, high in both):
        probability[here] += share * opinion[there]


def only_what_was_asked(probability: Floats, previous: NDArray[np.uint8], prompts: Prompts) -> Floats:
    """Keep a correction to its sense: foreground marked last only adds to the mask, background only takes away."""
    newest = prompts.signs[prompts.ages == 0]
    if newest.all() and len(newest):
        return np.where(previous > 0, np.maximum(probability, _JUST_INSIDE), probability)
    if len(newest) and not newest.any():
        return np.where(previous > 0, probability, np.float32(0))
    return probability


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
    cut = _filled_part(either)
    if not len(newest) or cut is None:  # a box was marked last: it says itself where
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


def _filled_part(mask: NDArray[np.bool_]) -> tuple[slice, slice, slice] | None:
    """The box round all that is set; None where nothing is."""
    slices = np.flatnonzero(mask.any((1, 2)))
    if not len(slices):
        return None
    plane = np.any(mask[slices[0] : slices[-1] + 1], axis=0)
    z, y, x = (slices, np.flatnonzero(np.any(plane, axis=1)), np.flatnonzero(np.any(plane, axis=0)))
    return slice(z[0], z[-1] + 1), slice(y[0], y[-1] + 1), slice(x[0], x[-1] + 1)


def obey(
    probability: Floats, region: Sequence[slice], prompts: Prompts, spacing_mm: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Mask of the region in which every prompt has its way, the newest click last.

    A box that says background is empty. A positive click that the network left outside brings the part round it that
    it thought about as likely, and at least a small ball; a negative one inside takes a small ball.
    """
    mask = probability > 0.5
    start = np.array([s.start for s in region])
    for box in prompts.boxes:
        if not box[2]:
            mask[in_box(box, region)] = False
    order = np.argsort(-prompts.ages, kind="stable")
    for point, positive in zip(prompts.points[order], prompts.signs[order], strict=True):
        index = np.rint(point).astype(int) - start
        if (index < 0).any() or (index >= mask.shape).any() or mask[tuple(index)] == positive:
            continue
        ball, cut = _ball(index, mask.shape, spacing_mm, 1.5 * float(spacing_mm.min()))
        here = float(probability[tuple(index)])
        if positive and here > 0.15:
            parts = cc3d.connected_components(probability > 0.85 * here, connectivity=6)
            mask |= parts == parts[tuple(index)]
        mask[cut][ball] = positive
    return mask


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
