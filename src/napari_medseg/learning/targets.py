"""Click targets: what a user would ask for with a click in a corrected case."""

from __future__ import annotations

from dataclasses import dataclass

import cc3d
import numpy as np
from numpy.typing import NDArray

from napari_medseg.learning.cases import Case
from napari_medseg.learning.held_out import HeldOut
from napari_medseg.learning.samples import LabelledScan

_PART_OF_ONE_STRUCTURE = 0.15
_SMALLEST = 8
_WIDEST_VIEW = 4.5


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """What a user would ask for with a click: a mask in a box of the scan's own grid."""

    cut: tuple[slice, ...]
    mask: NDArray[np.bool_]

    def on(self, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """The mask on the whole scan."""
        whole = np.zeros(shape, bool)
        whole[self.cut] = self.mask
        return whole


def click_targets(case: Case, region: tuple[slice, ...] | None = None) -> list[Target]:
    """Connected lesions that reach into a region (anywhere without one).

    Labels that touch are one target where they are parts of one structure (of comparable size); a small lesion in a
    large organ is a target of its own.
    """
    seen = np.where(case.seen, case.truth, 0)
    parts = cc3d.connected_components(seen > 0, connectivity=26)
    inside = np.bincount(parts[region].ravel() if region else parts.ravel(), minlength=int(parts.max()) + 1)
    boxes = cc3d.statistics(parts)["bounding_boxes"]
    targets = []
    for number in np.flatnonzero(inside[1:] >= _SMALLEST) + 1:
        cut = boxes[number]
        mask = parts[cut] == number
        labels, counts = np.unique(seen[cut][mask], return_counts=True)
        if len(labels) > 1 and counts.min() < _PART_OF_ONE_STRUCTURE * counts.max():
            targets += [
                Target(cut, mask & (seen[cut] == k)) for k, n in zip(labels, counts, strict=True) if n >= _SMALLEST
            ]
        else:
            targets.append(Target(cut, mask))
    return targets


def reviewed_scans(case: Case, held: HeldOut | None = None) -> list[LabelledScan]:
    """The case's click targets in the longest run of reviewed slices that is not held out, for clicks.

    Each comes with as much of the scan round it as the widest view of it shows.
    """
    axis = case.correction.axis
    others = tuple(a for a in range(3) if a != axis)
    free = [slice(0, n) for n in case.truth.shape]
    if held is not None:
        free = [_left_of(part, n) for part, n in zip(held.region, case.truth.shape, strict=True)]
    allowed = np.zeros(case.truth.shape[axis], bool)
    allowed[free[axis]] = True
    free[axis] = _longest_run(case.seen.any(others) & allowed)
    spacing, scans = case.volume.spacing_mm, []
    for target in click_targets(case, tuple(free)):
        reach_mm = _WIDEST_VIEW * max((s.stop - s.start) * d for s, d in zip(target.cut, spacing, strict=True))
        cut = tuple(
            slice(max(f.start, s.start - int(reach_mm / d) - 1), min(f.stop, s.stop + int(reach_mm / d) + 1))
            for s, f, d in zip(target.cut, free, spacing, strict=True)
        )
        mask = np.zeros(tuple(c.stop - c.start for c in cut), bool)
        both = [slice(max(s.start, c.start), min(s.stop, c.stop)) for s, c in zip(target.cut, cut, strict=True)]
        into = tuple(slice(b.start - c.start, b.stop - c.start) for b, c in zip(both, cut, strict=True))
        out_of = tuple(slice(b.start - s.start, b.stop - s.start) for b, s in zip(both, target.cut, strict=True))
        mask[into] = target.mask[out_of]
        if mask.sum() >= _SMALLEST:
            scans.append(LabelledScan(case.volume.data[cut], mask, spacing, "corrections", ""))
    return scans


def _left_of(part: slice, n: int) -> slice:
    """What remains of an axis without a part at one of its ends; all of it where the part is all of it."""
    start, stop, _ = part.indices(n)
    if stop - start == n:
        return slice(0, n)
    return slice(stop, n) if start == 0 else slice(0, start)


def _longest_run(flags: NDArray[np.bool_]) -> slice:
    edges = np.flatnonzero(np.diff(np.r_[0, flags.astype(np.int8), 0]))
    starts, stops = edges[::2], edges[1::2]
    k = int(np.argmax(stops - starts))
    return slice(int(starts[k]), int(stops[k]))
