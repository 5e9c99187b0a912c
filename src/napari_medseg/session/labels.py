"""The working label map: shared with the layer that shows it, with what is known of it and what is locked.

A viewer paints into the array directly. A second array holds what this module knows of it, so that a difference is
the user's own work whoever made it, and a third says which voxels no prediction may change.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseg.imaging.filled_box import filled_box
from napari_medseg.session.lesions import Region


@dataclass(frozen=True, slots=True, eq=False)
class BoxEdit:
    """One change of the label map, with its inverse: a box before and after, and the locks inside it."""

    region: Region
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    locks_before: NDArray[np.bool_]
    locks_after: NDArray[np.bool_]

    @property
    def inverse(self) -> BoxEdit:
        """The change that undoes this one."""
        return BoxEdit(self.region, self.after, self.before, self.locks_after, self.locks_before)

    @property
    def n_bytes(self) -> int:
        """Memory that this change holds."""
        return 4 * self.before.nbytes


class WorkingLabels:
    """The label map that is being worked on.

    Parameters
    ----------
    shape : tuple of int, (Z, Y, X)
        The scan's shape.
    axis : int
        The axis along which slices are reviewed.

    Attributes
    ----------
    data : ndarray of uint8, shape (Z, Y, X)
        The labels; a viewer may write into it, and tells :meth:`absorb` where.
    locked : ndarray of bool, shape (Z, Y, X)
        Voxels that the user painted or erased.
    n_voxels : ndarray of int, shape (256,)
        Voxels of each label.
    """

    def __init__(self, shape: tuple[int, int, int], *, axis: int = 0) -> None:
        self.data: NDArray[np.uint8] = np.zeros(shape, np.uint8)
        self.locked: NDArray[np.bool_] = np.zeros(shape, bool)
        self.axis = axis
        self.n_voxels = np.zeros(256, np.int64)
        self._known: NDArray[np.uint8] = np.zeros(shape, np.uint8)
        self._boxes: dict[int, Region] = {}
        self._filled_per_slice = np.zeros(shape[axis], np.int64)
        self._locked_per_slice = np.zeros(shape[axis], np.int64)

    @property
    def predicted_slices(self) -> frozenset[int]:
        """Slices with any labelled voxel."""
        return frozenset(np.flatnonzero(self._filled_per_slice).tolist())

    @property
    def corrected_slices(self) -> frozenset[int]:
        """Slices with any voxel that the user painted or erased."""
        return frozenset(np.flatnonzero(self._locked_per_slice).tolist())

    def box_of(self, label: int) -> Region | None:
        """Return a box that holds every voxel of a label (it may be larger than needed)."""
        return self._boxes.get(label) if self.n_voxels[label] else None

    def mask_of(self, label: int) -> NDArray[np.uint8]:
        """Return a label's voxels as a mask of the whole scan, a copy."""
        mask = np.zeros(self.data.shape, np.uint8)
        region = self.box_of(label)
        if region is not None:
            mask[region] = self.data[region] == label
        return mask

    def absorb(
        self, region: Region, *, touched: NDArray[np.bool_] | None = None, protected: Iterable[int] = ()
    ) -> BoxEdit | None:
        """Take over what somebody else wrote into ``data`` inside a box: those voxels are locked from now on.

        Parameters
        ----------
        region : tuple of slice
            Where to look.
        touched : ndarray of bool, optional
            Voxels of the box that a stroke ran over: locked even where the stroke changed nothing.
        protected : iterable of int
            Labels that nobody may change: their voxels are put back.

        Returns
        -------
        BoxEdit or None
            The change that was found.
        """
        box = self._differing(region) if touched is None else region
        if box is None:
            return None
        known, data, locked = self._known[box], self.data[box], self.locked[box]
        fresh = known != data
        if touched is not None:
            fresh |= touched & ~locked
        guarded = list(protected)
        if guarded:
            kept = fresh & (np.isin(known, guarded) | np.isin(data, guarded))
            data[kept] = known[kept]
            fresh &= ~kept
        return self._record(box, fresh, data, locked | fresh)

    def merge(
        self, label: int, region: Region, mask: NDArray[np.bool_], *, protected: Iterable[int] = ()
    ) -> BoxEdit | None:
        """Make a lesion look like the model's answer, except where the user painted or another lesion lies."""
        box = union(region, self.box_of(label))
        data = self.data[box]
        wanted = np.zeros(data.shape, bool)
        wanted[relative(region, box)] = mask
        mine = data == label
        free = ~self.locked[box] & (mine | (data == 0))
        guarded = list(protected)
        if guarded:
            free &= ~np.isin(data, guarded)
        after = data.copy()
        after[free & wanted] = label
        after[free & mine & ~wanted] = 0
        edit = self._record(box, after != data, after, self.locked[box])
        tight = filled_box(after == label)
        if tight is not None:
            self._boxes[label] = shifted(tight, box)
        return edit

    def clear(self, label: int) -> BoxEdit | None:
        """Remove a label everywhere, and the locks on its voxels."""
        box = self.box_of(label)
        if box is None:
            return None
        data = self.data[box]
        mine = data == label
        return self._record(box, mine, np.where(mine, np.uint8(0), data), self.locked[box] & ~mine)

    def load(self, data: NDArray[Any], region: Region, locked: NDArray[np.bool_] | None = None) -> BoxEdit | None:
        """Write labels into a box as they are, with their locks."""
        locks = self.locked[region] if locked is None else locked
        after = np.asarray(data, np.uint8)
        return self._record(region, (after != self._known[region]) | (locks != self.locked[region]), after, locks)

    def apply(self, edit: BoxEdit) -> None:
        """Write a change (or an inverse) into all arrays."""
        before = self._known[edit.region]
        self._count(edit.region, before, edit.after, self.locked[edit.region], edit.locks_after)
        self.data[edit.region] = edit.after
        self._known[edit.region] = edit.after
        self.locked[edit.region] = edit.locks_after

    def _differing(self, region: Region) -> Region | None:
        """Return the planes of a box in which somebody else wrote. Plane by plane, as a whole scan is large."""
        known, data = self._known[region], self.data[region]
        planes = [z for z, (a, b) in enumerate(zip(known, data, strict=True)) if not np.array_equal(a, b)]
        if not planes:
            return None
        start = region[0].start
        return slice(start + planes[0], start + planes[-1] + 1), region[1], region[2]

    def _record(
        self, region: Region, changed: NDArray[np.bool_], after: NDArray[np.uint8], locks: NDArray[np.bool_]
    ) -> BoxEdit | None:
        inner = filled_box(changed)
        if inner is None:
            return None
        box = shifted(inner, region)
        before_locks = self.locked[box].copy()
        edit = BoxEdit(box, self._known[box].copy(), after[inner].copy(), before_locks, locks[inner].copy())
        self.apply(edit)
        return edit

    def _count(
        self,
        region: Region,
        before: NDArray[np.uint8],
        after: NDArray[np.uint8],
        locks_before: NDArray[np.bool_],
        locks_after: NDArray[np.bool_],
    ) -> None:
        where = np.nonzero(before != after)
        old, new = before[where], after[where]
        added = np.bincount(new, minlength=256)
        self.n_voxels += added - np.bincount(old, minlength=256)
        for label in np.flatnonzero(added).tolist():
            self._boxes[label] = union(region, self._boxes.get(label))
        gained = (new > 0).astype(np.int8) - (old > 0)
        _tally(self._filled_per_slice[region[self.axis]], where[self.axis], gained)
        where = np.nonzero(locks_before != locks_after)
        if where[0].size:
            _tally(self._locked_per_slice[region[self.axis]], where[self.axis], np.where(locks_after[where], 1, -1))


def whole_region(shape: tuple[int, ...]) -> Region:
    """Return the box of a whole array of three axes."""
    z, y, x = shape
    return slice(0, z), slice(0, y), slice(0, x)


def values_in(data: NDArray[Any]) -> list[int]:
    """Return the labels of a label map in rising order, background left out."""
    found = np.zeros(np.iinfo(data.dtype).max + 1, bool)
    for plane in data:
        found[plane] = True
    return [value for value in np.flatnonzero(found).tolist() if value]


def union(region: Region, other: Region | None) -> Region:
    """Return the smallest box that holds both boxes."""
    if other is None:
        return region
    z, y, x = (slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(region, other, strict=True))
    return z, y, x


def relative(region: Region, outer: Region) -> Region:
    """Return a box in the coordinates of another box that holds it."""
    z, y, x = (slice(a.start - b.start, a.stop - b.start) for a, b in zip(region, outer, strict=True))
    return z, y, x


def shifted(inner: Region, outer: Region) -> Region:
    """Return a box given in another box's coordinates in the scan's coordinates."""
    z, y, x = (slice(a.start + b.start, a.stop + b.start) for a, b in zip(inner, outer, strict=True))
    return z, y, x


def _tally(counts: NDArray[np.int64], slices: NDArray[np.intp], gained: NDArray[Any]) -> None:
    """Add to the counts of slices (a view) what was gained in each of them."""
    counts += np.bincount(slices, weights=gained, minlength=len(counts)).astype(np.int64)
