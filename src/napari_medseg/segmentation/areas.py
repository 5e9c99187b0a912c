"""Boxes and lassos: parts of the scan that were marked as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cc3d
import edt
import numpy as np
from numpy.typing import NDArray

from napari_medseg.imaging.filled_box import filled_box
from napari_medseg.imaging.view import Floats, Index, View, paste

_LOOSE_VOXELS, _LOOSE = 1.5, 0.15
_MARGIN = 0.04
_FLAT = 1e-3  # voxels: a box drawn on one slice, whose corners were turned there and back


@dataclass(frozen=True, slots=True, eq=False)
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
        return bool(self.high[self.flat] - self.low[self.flat] < _FLAT)

    def within(self, region: Sequence[slice]) -> NDArray[np.bool_]:
        """Which voxels of a region it holds; a positive one drawn on one slice, in the other slices too."""
        cut = tuple(
            slice(None)
            if self.positive and b - a < _FLAT
            else slice(max(0, round(a) - part.start), max(0, round(b) + 1 - part.start))
            for a, b, part in zip(self.low, self.high, region, strict=True)
        )
        held = np.zeros([part.stop - part.start for part in region], bool)
        if self.outline is None:
            held[cut] = True
        else:
            across = tuple(each if axis == self.flat else slice(None) for axis, each in enumerate(cut))
            held[across] = self._enclosed(self.outline - [part.start for part in region], held.shape)
        return held

    def draw(self, channel: Floats, view: View, spacing_mm: Sequence[float]) -> None:
        """Fill the box round it, a little wide, with +1 or -1, throughout the view across the slice it was drawn on."""
        wide = _MARGIN * (self.high - self.low)
        a, b = np.sort([view.point_of(each, spacing_mm) for each in (self.low - wide, self.high + wide)], axis=0)
        flat = np.abs(self.high - self.low) < _FLAT
        a, b = np.where(flat, -np.inf, a), np.where(flat, np.inf, b)
        cut = tuple(
            slice(int(np.clip(np.ceil(p), 0, view.size)), int(np.clip(np.floor(q), -1, view.size - 1)) + 1)
            for p, q in zip(a, b, strict=True)
        )
        channel[cut] = 1.0 if self.positive else -1.0

    def middle(self, shape: Sequence[int]) -> Index:
        """The box's middle, or the place on the slice that lies deepest in the lasso; in a scan of a shape."""
        middle: Index = (self.low + self.high) / 2
        if self.outline is not None:
            start, stop = np.rint(self.low).astype(int), np.rint(self.high).astype(int) + 1
            held = self.within([slice(int(a), int(b)) for a, b in zip(start, stop, strict=True)])
            deepest, _ = _deepest(held.squeeze(self.flat), (1.0, 1.0))
            middle = np.insert(deepest + np.delete(start, self.flat), self.flat, middle[self.flat])
        return np.clip(middle, 0, np.array(shape) - 1)

    def agreement(self, probability: Floats, view: View, shape: Sequence[int], spacing_mm: Sequence[float]) -> float:
        """How well a mask in a view fits it on its middle slice, 0 to 1.

        Dice of the mask with what a lasso encloses; for a box, that of the mask's own box with it.
        """
        slab = self._middle_slice([slice(0, n) for n in shape])
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
        slab = self._middle_slice([slice(0, n) for n in mask.shape])
        held, found = (each.squeeze(self.flat) for each in (self.within(slab), mask[tuple(slab)] != 0))
        meant = _touching(found, held)
        pitch = tuple(np.delete(spacing_mm, self.flat))
        loose = _looseness(held, pitch) if self.positive else 0.0
        missed = held & ~found if self.outline is not None or not meant.any() else np.zeros_like(held)
        parts = [(missed, True), (meant & ~held, False)] if self.positive else [(meant & held, False)]
        places = [(*_deepest(part, pitch), sign) for part, sign in parts]
        at = slab[self.flat].start
        return [(np.insert(place, self.flat, at), sign) for place, depth, sign in places if depth > loose]

    def shape(self, mask: NDArray[np.bool_], region: Sequence[slice], spacing_mm: Sequence[float]) -> None:
        """Shape a mask, given in a region, in place.

        A negative area is empty. What touches a positive one ends at it, on the slice that it was drawn on (a thick
        box: everywhere), and while it is the newest prompt, what lies deep in a lasso is part of the mask.
        """
        if not self.positive:
            mask[self.within(region)] = False
            return
        slab = self._middle_slice(region) if self.is_flat else region
        cut = tuple(slice(s.start - r.start, s.stop - r.start) for s, r in zip(slab, region, strict=True))
        if not mask[cut].size:
            return
        held = self.within(slab)
        mask[cut] &= held | ~_touching(mask[cut], held)
        if self.outline is not None and not self.age:
            inside, pitch = held.squeeze(self.flat), tuple(np.delete(spacing_mm, self.flat))
            mask[cut] |= np.expand_dims(_depth(inside, pitch) > _looseness(inside, pitch), self.flat)

    def _middle_slice(self, region: Sequence[slice]) -> list[slice]:
        """The region's part on the slice that it was drawn on, or on the middle one of a thick box."""
        at = round(float(self.low[self.flat] + self.high[self.flat]) / 2)
        start, stop = region[self.flat].start, region[self.flat].stop
        one = slice(min(max(at, start), stop), max(min(at + 1, stop), start))
        return [one if axis == self.flat else part for axis, part in enumerate(region)]

    def _enclosed(self, outline: Index, shape: Sequence[int]) -> NDArray[np.bool_]:
        """What the outline encloses in its plane, or else the places of its points; of length 1 across the plane."""
        from skimage.draw import polygon2mask  # a first click need not wait for it

        plane = [axis for axis in range(3) if axis != self.flat]
        size = [shape[axis] for axis in plane]
        held: NDArray[np.bool_] = polygon2mask(size, outline[:, plane])
        if not held.any():
            at = np.rint(outline[:, plane]).astype(int)
            held[tuple(at[((at >= 0) & (at < size)).all(1)].T)] = True
        return np.expand_dims(held, self.flat)


def _touching(mask: NDArray[np.bool_], held: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The parts of a mask that have a voxel in common with another."""
    parts = cc3d.connected_components(mask, connectivity=26 if mask.ndim == 3 else 8)
    is_met = np.zeros(int(parts.max(initial=0)) + 1, bool)
    is_met[parts[held]] = True
    is_met[0] = False
    return np.asarray(is_met[parts])


def _depth(mask: NDArray[np.bool_], pitch: Sequence[float]) -> Floats:
    return np.asarray(edt.edt(np.ascontiguousarray(mask), anisotropy=tuple(pitch), black_border=True))


def _deepest(mask: NDArray[np.bool_], pitch: Sequence[float]) -> tuple[Index, float]:
    """The place deepest in a mask, and its depth."""
    depth = _depth(mask, pitch)
    return np.array(np.unravel_index(depth.argmax(), depth.shape), float), float(depth.max())


def _looseness(held: NDArray[np.bool_], pitch: Sequence[float]) -> float:
    """How far from the lesion's edge a line round it may be drawn."""
    return max(_LOOSE_VOXELS * min(pitch), _LOOSE * float(_depth(held, pitch).max()))
