"""Click targets: what a user would ask for with a click in a corrected case."""

from __future__ import annotations

from dataclasses import dataclass

import cc3d
import numpy as np
from numpy.typing import NDArray

from napari_medseg.learning.cases import Case
from napari_medseg.learning.click_lessons import ClickLesson
from napari_medseg.learning.held_out import HeldOut
from napari_medseg.segmentation.named import parts_of_one_structure

_SMALLEST = 8
_WIDEST_VIEW = 2.5


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
    large organ is a target of its own. Slices that nobody reviewed between reviewed ones are guessed from the nearest:
    a lesion of which every third slice was corrected is one lesion.
    """
    known = np.where(case.seen, case.truth, 0)
    guessed = between_reviewed(known, case.seen, case.correction.axis)
    parts = cc3d.connected_components(guessed > 0, connectivity=26)
    n = int(parts.max()) + 1
    counted = np.where(known > 0, parts, 0)
    inside = np.bincount(counted[region].ravel() if region else counted.ravel(), minlength=n)
    boxes = cc3d.statistics(parts)["bounding_boxes"]
    targets = []
    for number in np.flatnonzero(inside[1:] >= _SMALLEST) + 1:
        cut = boxes[number]
        mask = parts[cut] == number
        labels, counts = np.unique(guessed[cut][mask], return_counts=True)
        if len(labels) > 1 and not parts_of_one_structure(counts):
            targets += [
                Target(cut, mask & (guessed[cut] == k)) for k, n in zip(labels, counts, strict=True) if n >= _SMALLEST
            ]
        else:
            targets.append(Target(cut, mask))
    return targets


def between_reviewed(labels: NDArray[np.uint8], seen: NDArray[np.bool_], axis: int) -> NDArray[np.uint8]:
    """Labels with every slice between two reviewed ones taken from the nearer of them."""
    reviewed = np.flatnonzero(seen.any(tuple(a for a in range(3) if a != axis)))
    if len(reviewed) < 2 or len(reviewed) == reviewed[-1] - reviewed[0] + 1:
        return labels
    slices = np.arange(labels.shape[axis])
    nearest = reviewed[np.abs(slices[:, None] - reviewed[None]).argmin(1)]
    inner = (slices >= reviewed[0]) & (slices <= reviewed[-1])
    return np.take(labels, np.where(inner, nearest, slices), axis)


def click_lessons(case: Case, held: HeldOut | None = None) -> list[ClickLesson]:
    """The case's click targets with as much of the scan round each as its wide views show.

    Nothing that is held out or was not reviewed counts, and what is held out does not say how large a target is.
    """
    counted = case.seen.copy()
    free = tuple(slice(0, n) for n in case.truth.shape)
    if held is not None:
        counted[held.region] = False
        free = tuple(_left_of(part, n) for part, n in zip(held.region, case.truth.shape, strict=True))
    spacing, lessons = case.volume.spacing_mm, []
    for target in click_targets(case, free) if counted.any() else ():
        reach_mm = _WIDEST_VIEW * max((s.stop - s.start) * d for s, d in zip(target.cut, spacing, strict=True))
        cut = tuple(
            slice(max(0, s.start - int(reach_mm / d) - 1), min(n, s.stop + int(reach_mm / d) + 1))
            for s, n, d in zip(target.cut, case.truth.shape, spacing, strict=True)
        )
        mask = np.zeros(case.truth.shape, bool)
        mask[free] = target.on(case.truth.shape)[free]
        mask = mask[cut]
        if (mask & counted[cut]).sum() >= _SMALLEST:
            lessons.append(ClickLesson(case.volume.data[cut], mask, counted[cut], spacing))
    return lessons


def _left_of(part: slice, n: int) -> slice:
    """What remains of an axis without a part at one of its ends; all of it where the part is all of it."""
    start, stop, _ = part.indices(n)
    if stop - start == n:
        return slice(0, n)
    return slice(stop, n) if start == 0 else slice(0, start)
