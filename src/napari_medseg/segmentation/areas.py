"""Boxes and lassos: parts of the scan that were marked as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import cc3d
import edt
import numpy as np
from numpy.typing import NDArray

from napari_medseg.errors import ModelError
from napari_medseg.imaging.filled_box import filled_box
from napari_medseg.imaging.view import Floats, Index, View, paste

Bools = NDArray[np.bool_]

_FLAT, _TILTED = 0.5, 1.0  # voxels: drawn on one slice, and not on one
_FINE = 0.25  # voxels: how far a lasso may be from the line that was drawn
_WIDER = 0.04
_LOOSE_VOXELS, _LOOSE_LASSO, _LOOSE_BOX, _LOOSEST = 1.5, 0.15, 0.3, 0.5


@dataclass(frozen=True, eq=False)
class Area:
    """A part of the scan that was marked as a whole: a box, or what a lasso encloses on a slice.

    Parameters
    ----------
    low, high : ndarray, shape (3,)
        Continuous array indices of its corners.
    positive : bool
        Whether it holds the lesion, or none of it.
    outline : ndarray, shape (N, 3), optional
        A lasso's points.
    age : int
        How many prompts are newer.
    """

    low: Index
    high: Index
    positive: bool
    outline: Index | None = None
    age: int = 0

    @property
    def flat(self) -> int:
        """The axis along which it is thinnest: the one across the slice that it was drawn on."""
        return int(np.argmin(self.high - self.low))

    @property
    def is_flat(self) -> bool:
        """Whether it was drawn on one slice, beyond which a lesion in it may reach."""
        return bool((self.high == self.low).any())

    @property
    def _at(self) -> int:
        """The slice that it was drawn on, or the middle one of a thick box."""
        return int(np.rint((self.low + self.high)[self.flat] / 2))

    def inside(self, shape: Sequence[int]) -> Area:
        """The part of it that lies in a scan of a shape."""
        last = np.array(shape) - 1
        outline = None if self.outline is None else np.clip(self.outline, 0, last)
        return replace(self, low=np.clip(self.low, 0, last), high=np.clip(self.high, 0, last), outline=outline)

    def within(self, region: Sequence[slice]) -> Bools:
        """Which voxels of a region it holds: a lasso on its slice, a flat box that is positive in all slices."""
        held = np.zeros([part.stop - part.start for part in region], bool)
        if self.outline is not None:
            start, drawn = self._enclosed
            origin = np.array([part.start for part in region])
            low, high = np.maximum(start, origin), np.minimum(start + drawn.shape, origin + held.shape)
            if (low < high).all():
                held[_box(low - origin, high - origin)] = drawn[_box(low - start, high - start)]
            return held
        cut = tuple(
            slice(None)
            if self.positive and a == b
            else slice(max(0, round(a) - part.start), max(0, round(b) + 1 - part.start))
            for a, b, part in zip(self.low, self.high, region, strict=True)
        )
        held[cut] = True
        return held

    def beyond(self, region: Sequence[slice]) -> Bools:
        """Which voxels of a region lie outside of it; of a positive lasso, those on its slice."""
        if self.outline is None or not self.positive:
            return ~self.within(region)
        held = np.zeros([part.stop - part.start for part in region], bool)
        slab = self._cut(region)
        held[slab] = ~self.within(region)[slab]
        return held

    def excluded(self, region: Sequence[slice]) -> Bools:
        """Which voxels of a region it keeps the lesion from: a negative one its own, a positive one those round it."""
        held = np.zeros([part.stop - part.start for part in region], bool)
        slab = self._cut(region) if self.is_flat else (slice(None),) * 3
        within = self.within(region)[slab]
        held[slab] = ~within if self.positive else within
        return held

    def surroundings(self, region: Sequence[slice], spacing_mm: Sequence[float]) -> tuple[slice, ...]:
        """The part of a region where what it is drawn round may be: half as wide again, as long as two of it."""
        spacing = np.array(spacing_mm)
        half = (self.high - self.low) / 2 * spacing
        along = 2.0 if self.is_flat else 0.5
        reach = (half + half.max() * np.where(np.arange(3) == self.flat, along, 0.5)) / spacing
        middle, origin = (self.low + self.high) / 2, np.array([part.start for part in region])
        low, high = np.floor(middle - reach).astype(int), np.ceil(middle + reach).astype(int) + 1
        return _box(np.maximum(low - origin, 0), np.maximum(high - origin, 0))

    def draw(self, channel: Floats, view: View, spacing_mm: Sequence[float]) -> None:
        """Fill the box round it, a little wide, with +1 or -1, throughout the view across the slice it was drawn on."""
        wide = _WIDER * (self.high - self.low)
        a, b = np.sort([view.point_of(each, spacing_mm) for each in (self.low - wide, self.high + wide)], axis=0)
        a, b = np.where(wide > 0, a, -np.inf), np.where(wide > 0, b, np.inf)
        cut = tuple(
            slice(int(np.clip(np.ceil(p), 0, view.size)), int(np.clip(np.floor(q), -1, view.size - 1)) + 1)
            for p, q in zip(a, b, strict=True)
        )
        channel[cut] = 1.0 if self.positive else -1.0

    def middle(self, spacing_mm: Sequence[float]) -> Index:
        """The box's middle, or the place on the slice that lies deepest in the lasso."""
        if self.outline is None:
            return np.asarray((self.low + self.high) / 2)
        start, drawn = self._enclosed
        deepest, _ = _deepest(drawn.squeeze(self.flat), tuple(np.delete(spacing_mm, self.flat)))
        return np.insert(deepest, self.flat, 0) + start

    def agreement(self, probability: Floats, view: View, shape: Sequence[int], spacing_mm: Sequence[float]) -> float:
        """How well a mask in a view fits it on its middle slice, 0 to 1.

        Dice of the mask with what a lasso encloses; for a box, that of the mask's own box with it.
        """
        slab = self._slab(shape)
        values, where = paste(probability, view, shape, spacing_mm, slab)
        mask = values > 0.5
        if self.outline is None:
            cut = filled_box(mask)
            mask[cut or ()] = cut is not None
        total = int(mask.sum()) + int(self.within(slab).sum())
        return 2 * int((mask & self.within(where)).sum()) / max(total, 1)

    def contradictions(self, mask: NDArray[np.generic], spacing_mm: Sequence[float]) -> list[tuple[Index, bool]]:
        """Where a mask of the scan contradicts it most, and whether the lesion is there: none, one or two places.

        On its middle slice, the place deepest in what should be in the mask, and in what should not.
        """
        slab = self._slab(mask.shape)
        held, found = (each.squeeze(self.flat) for each in (self.within(slab), mask[tuple(slab)] != 0))
        meant = _touching(found, held)
        pitch = tuple(np.delete(spacing_mm, self.flat))
        if self.positive:
            parts = [(held & ~found, True, self._looseness(held, pitch)), (meant & ~held, False, _loose(held, pitch))]
        else:
            parts = [(meant & held, False, 0.0)]
        places = [(*_deepest(part, pitch), sign, least) for part, sign, least in parts]
        at = slab[self.flat].start
        return [(np.insert(place, self.flat, at), sign) for place, depth, sign, least in places if depth > least]

    def shape(
        self, mask: Bools, region: Sequence[slice], spacing_mm: Sequence[float], was: NDArray[np.uint8] | None = None
    ) -> None:
        """Shape a mask, given in a region, in place, as the newest word about it.

        A negative area is empty. What touches a positive one ends at it, on the slice that it was drawn on (a thick
        box: everywhere), but for what there was before and did not touch it; what lies deep in a lasso is lesion.
        """
        if not self.positive:
            mask[self.within(region)] = False
            return
        cut = self._cut(region) if self.is_flat else (slice(None),) * 3
        if not mask[cut].size:
            return
        held = self.within(region)[cut]
        meant = _touching(mask[cut], held)
        if was is not None:
            before = was[cut] > 0
            meant &= ~before | _touching(before, held)
        mask[cut] &= held | ~meant
        if self.outline is not None:
            inside, pitch = held.squeeze(self.flat), tuple(np.delete(spacing_mm, self.flat))
            mask[cut] |= np.expand_dims(_depth(inside, pitch) > _loose(inside, pitch), self.flat)

    def _looseness(self, held: Bools, pitch: Sequence[float]) -> float:
        """How deep a part of it may be that the mask misses: a box has corners."""
        return _loose(held, pitch, _LOOSE_LASSO if self.outline is not None else _LOOSE_BOX)

    def _slab(self, shape: Sequence[int]) -> list[slice]:
        """The slice that it was drawn on, or the middle one of a thick box, in a scan of a shape."""
        at = self._at
        return [slice(at, at + 1) if axis == self.flat else slice(0, n) for axis, n in enumerate(shape)]

    def _cut(self, region: Sequence[slice]) -> tuple[slice, ...]:
        """The slice that it was drawn on, within a region; empty where the region does not reach it."""
        at = self._at - region[self.flat].start
        return tuple(slice(max(at, 0), max(at + 1, 0)) if axis == self.flat else slice(None) for axis in range(3))

    @cached_property
    def _enclosed(self) -> tuple[NDArray[np.int64], Bools]:
        """What a lasso encloses, once or several times, or else its line; and where that begins."""
        from scipy.ndimage import binary_fill_holes  # a first click need not wait for these
        from skimage.draw import line as line_between
        from skimage.draw import polygon2mask
        from skimage.measure import approximate_polygon

        assert self.outline is not None
        start, stop = np.rint(self.low).astype(int), np.rint(self.high).astype(int) + 1
        plane = [axis for axis in range(3) if axis != self.flat]
        size = (stop - start)[plane]
        points = approximate_polygon((self.outline - start)[:, plane], _FINE)
        line = np.zeros(size, bool)
        corners = np.rint(points).astype(int)
        for (y0, x0), (y1, x1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            line[line_between(y0, x0, y1, x1)] = True
        inner = binary_fill_holes(line) & ~line
        return start, np.expand_dims(polygon2mask(size, points) | inner if inner.any() else line, self.flat)


def area_of(points: Index, positive: bool, age: int, *, is_lasso: bool) -> Area:
    """The box that two points span, or the lasso through several, on the slice that it was drawn on.

    Raises
    ------
    ModelError
        If a lasso's points do not lie on a slice.
    """
    low, high = points.min(0), points.max(0)
    flat = int(np.argmin(high - low))
    thick = float(high[flat] - low[flat])
    if is_lasso and thick > _TILTED:
        raise ModelError("a lasso lies on one slice of the scan, and this one is tilted: draw it along the scan's axes")
    if is_lasso or thick < _FLAT:
        points = points.copy()
        points[:, flat] = (low[flat] + high[flat]) / 2
    return Area(points.min(0), points.max(0), positive, points if is_lasso else None, age)


def _box(low: NDArray[np.int64], high: NDArray[np.int64]) -> tuple[slice, ...]:
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))


def _touching(mask: Bools, held: Bools) -> Bools:
    """The parts of a mask that have a voxel in common with another."""
    parts = cc3d.connected_components(mask, connectivity=26 if mask.ndim == 3 else 8)
    is_met = np.zeros(int(parts.max(initial=0)) + 1, bool)
    is_met[parts[held]] = True
    is_met[0] = False
    return np.asarray(is_met[parts])


def _depth(mask: Bools, pitch: Sequence[float]) -> Floats:
    return np.asarray(edt.edt(np.ascontiguousarray(mask), anisotropy=tuple(pitch), black_border=True))


def _deepest(mask: Bools, pitch: Sequence[float]) -> tuple[Index, float]:
    """The place deepest in a mask, the one nearest to their middle where there are several, and its depth."""
    depth = _depth(mask, pitch)
    deepest = np.argwhere(depth > 0.99 * depth.max())
    nearest = np.abs((deepest - deepest.mean(0)) * pitch).sum(1).argmin() if len(deepest) else None
    return (np.zeros(mask.ndim) if nearest is None else deepest[nearest].astype(float)), float(depth.max(initial=0))


def _loose(held: Bools, pitch: Sequence[float], share: float = _LOOSE_LASSO) -> float:
    """How far from the lesion's edge a line round it may be drawn: by its size, and by voxels."""
    depth = float(_depth(held, pitch).max())
    return min(max(_LOOSE_VOXELS * min(pitch), share * depth), _LOOSEST * depth)
