"""Sort the planes of many files into stacks: one stack becomes one volume."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseg.imaging.dicom.geometry import (
    NoGrid,
    SliceGrid,
    distance_along_normal,
    flat_grid,
    name_of,
    slice_grid,
)
from napari_medseg.imaging.dicom.headers import Plane

SamePixels = Callable[[Plane, Plane], bool]

_SAME_COSINE = 1e-3
_SAME_POSITION_MM = 1e-3
# What scanners number when they acquire several blocks of slices in one series.
_BLOCK_MARKS = ("stack", "acquisition")


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Planes that make one volume.

    Parameters
    ----------
    planes : tuple
        In order along the normal; None where a slice is missing.
    affine_ijk : ndarray, shape (4, 4)
        Index ``(column, row, slice, 1)`` to world millimetres, RAS+.
    is_placed : bool
        Whether the planes have a position in the patient.
    label : str
        What tells this stack from others of its series ("echo 2"), or empty.
    warnings : tuple of str
        What had to be assumed.
    """

    planes: tuple[Plane | None, ...]
    affine_ijk: NDArray[np.float64]
    is_placed: bool
    label: str
    warnings: tuple[str, ...]

    @property
    def first(self) -> Plane:
        """The first plane that is there."""
        return next(plane for plane in self.planes if plane is not None)

    @property
    def title(self) -> str:
        """Series description and what tells this volume from others of its series; may be empty."""
        return " - ".join(part for part in (self.first.file.description, self.label) if part)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A series that cannot be opened, and why."""

    series_uid: str
    description: str
    reason: str


def sort_into_stacks(planes: Iterable[Plane], same_pixels: SamePixels) -> tuple[list[Stack], list[Refusal]]:
    """Group planes by series, then by what makes a regular grid.

    Parameters
    ----------
    planes : iterable of Plane
        Of any number of series.
    same_pixels : callable
        Whether two planes store the same pixels; asked only about planes at one position.
    """
    series: dict[Hashable, list[Plane]] = {}
    for plane in planes:
        file = plane.file
        key = file.series_uid or ("", file.study_uid, file.series_number, file.description)
        series.setdefault(key, []).append(plane)
    stacks: list[Stack] = []
    refusals: list[Refusal] = []
    for members in series.values():
        try:
            stacks += _stacks_of_series(members, same_pixels)
        except NoGrid as error:
            refusals.append(Refusal(members[0].file.series_uid, members[0].file.description, str(error)))
    return stacks, refusals


def _stacks_of_series(planes: list[Plane], same_pixels: SamePixels) -> list[Stack]:
    warnings = _check_patients(planes)
    flat = [plane for plane in planes if plane.is_flat]
    placed = [plane for plane in planes if not plane.is_flat and not plane.placement.missing]
    unplaced = [plane for plane in planes if not plane.is_flat and plane.placement.missing]
    if len(planes) == 1:
        flat, unplaced = flat + unplaced, []
    if unplaced:
        raise NoGrid(
            f"{unplaced[0].placement.missing} is missing or wrong in '{name_of(unplaced[0])}', so its slices have no"
            " place: export the series again with complete headers"
        )
    stacks = [_flat_stack(plane) for plane in sorted(flat, key=_flat_order)]
    groups = _same_grid_groups(placed)
    if len(groups) > 1:
        warnings.append(
            f"This series holds {len(groups)} stacks of different orientation, size or spacing; each is its own volume."
        )
    for group in groups:
        stacks += _stacks_of_group(group, same_pixels)
    return [replace(stack, warnings=(*warnings, *stack.warnings)) for stack in stacks]


def _check_patients(planes: list[Plane]) -> list[str]:
    first = planes[0]
    for plane in planes:
        if plane.file.patient.is_other_person(first.file.patient):
            raise NoGrid(
                f"it holds images of two patients under one series UID ('{name_of(first)}' and '{name_of(plane)}'):"
                " put each patient's files into a folder of its own and have the archive corrected"
            )
    if any(plane.file.patient.differs(first.file.patient) for plane in planes):
        return ["The patient's name or birth date is not the same in all files of this series."]
    return []


def _flat_order(plane: Plane) -> tuple[int, str, int]:
    return plane.instance if plane.file.place.n_frames == 1 else 0, str(plane.file.path), plane.frame


def _flat_stack(plane: Plane) -> Stack:
    grid = flat_grid(plane)
    warnings = list(grid.warnings)
    n_frames = plane.file.place.n_frames
    label = ""
    if n_frames > 1:
        label = f"frame {plane.frame + 1}"
        warnings.insert(
            0,
            f"This file holds {n_frames} frames that follow each other in time, not in space: this is frame"
            f" {plane.frame + 1}, and each frame is a volume of its own.",
        )
    if not plane.is_flat:
        warnings.insert(0, f"{plane.placement.missing} is missing or wrong in the header.")
    return Stack(grid.planes, grid.affine_ijk, False, label, tuple(warnings))


def _same_grid_groups(planes: list[Plane]) -> list[list[Plane]]:
    """Planes of one orientation (within header rounding), size, pixel spacing and frame of reference."""
    groups: dict[Hashable, list[Plane]] = {}
    for plane in planes:
        layout = plane.file.layout
        spacing = tuple(round(mm, 3) for mm in plane.placement.spacing_mm or ())
        key = (layout.rows, layout.columns, spacing, plane.file.frame_of_reference_uid)
        groups.setdefault(key, []).append(plane)
    found: list[list[Plane]] = []
    for members in groups.values():
        found += _by_orientation(members)
    return sorted(found, key=len, reverse=True)


def _by_orientation(planes: list[Plane]) -> list[list[Plane]]:
    directions = [(plane.placement.row_direction, plane.placement.column_direction) for plane in planes]
    cosines = np.array(directions, dtype=np.float64).reshape(len(planes), 6)
    left = np.arange(len(planes))
    groups = []
    while len(left):
        near = np.abs(cosines[left] - cosines[left[0]]).max(axis=1) <= _SAME_COSINE
        groups.append([planes[n] for n in left[near]])
        left = left[~near]
    return groups


def _stacks_of_group(planes: list[Plane], same_pixels: SamePixels) -> list[Stack]:
    parts, warnings = _split_repeats(planes, same_pixels)
    stacks = []
    for label, part in parts:
        for name, slab, grid, note in _grids(part):
            both = ", ".join(text for text in (label, name) if text)
            stacks.append(Stack(slab, grid.affine_ijk, True, both, (*warnings, *note, *grid.warnings)))
    return stacks


def _grids(planes: list[Plane]) -> list[tuple[str, tuple[Plane | None, ...], SliceGrid, tuple[str, ...]]]:
    """Put planes on one grid; where they are several blocks that the scanner tells apart, each on its own."""
    try:
        grid = slice_grid(planes)
        return [("", grid.planes, grid, ())]
    except NoGrid:
        for blocks in _blocks(planes):
            try:
                grids = [(name, slice_grid(block)) for name, block in blocks]
            except NoGrid:
                continue
            note = f"This series holds {len(grids)} blocks of slices with a gap between them; each is its own volume."
            return [(name, grid.planes, grid, (note,)) for name, grid in grids]
        raise


def _blocks(planes: list[Plane]) -> Iterator[list[tuple[str, list[Plane]]]]:
    """Ways to split planes by a mark (stack, acquisition) into blocks that lie behind each other."""
    for n, (name, _) in enumerate(planes[0].marks):
        if name not in _BLOCK_MARKS:
            continue
        groups: dict[Hashable, list[Plane]] = {}
        for plane in planes:
            groups.setdefault(plane.marks[n : n + 1], []).append(plane)
        ends = sorted((distance_along_normal(p), id(group)) for group in groups.values() for p in group)
        owners = [owner for _, owner in ends]
        n_changes = sum(a != b for a, b in pairwise(owners))
        if 1 < len(groups) == n_changes + 1 and min(len(group) for group in groups.values()) > 1:
            yield [(_label(group[0], [n]), group) for group in groups.values()]


def _at_same_position(planes: Sequence[Plane]) -> list[list[Plane]]:
    """Planes in order along the normal, those at one position together."""
    together: list[list[Plane]] = []
    last = float("-inf")
    for distance, plane in sorted(((distance_along_normal(p), p) for p in planes), key=lambda pair: pair[0]):
        if distance - last > _SAME_POSITION_MM:
            together.append([])
        together[-1].append(plane)
        last = distance
    return together


def _split_repeats(
    planes: list[Plane], same_pixels: SamePixels
) -> tuple[list[tuple[str, list[Plane]]], tuple[str, ...]]:
    """Split planes that share positions into stacks (echoes, times), and drop plain copies."""
    places = _at_same_position(planes)
    if len(places) == len(planes):
        return [("", planes)], ()
    by_marks = _split_by_marks(planes)
    if by_marks is not None:
        note = f"This series holds {len(by_marks)} volumes of the same place; each is opened on its own."
        return by_marks, (note,)
    kept, n_copies = _without_copies(places, same_pixels)
    warnings = (f"{n_copies} files are copies of other slices and were left out.",) if n_copies else ()
    if all(len(place) == 1 for place in kept):
        return [("", [place[0] for place in kept])], warnings
    counts = {len(place) for place in kept}
    if len(counts) > 1 or len(kept) == 1 or len({plane.instance for plane in planes}) < len(planes) - n_copies:
        first = next(place for place in kept if len(place) > 1)
        raise NoGrid(
            f"two different slices lie at the same position ('{name_of(first[0])}' and '{name_of(first[1])}'):"
            " remove the one that does not belong to this series"
        )
    ranked = [sorted(place, key=lambda plane: plane.instance) for place in kept]
    parts = [(f"volume {rank + 1}", [place[rank] for place in ranked]) for rank in range(counts.pop())]
    note = f"This series holds {len(parts)} volumes of the same place, told apart by their instance numbers alone."
    return parts, (*warnings, note)


def _split_by_marks(planes: list[Plane]) -> list[tuple[str, list[Plane]]] | None:
    """Split by echo, b-value, time, ..., adding one after the other until no two planes share a position."""
    names = [name for name, _ in planes[0].marks]
    n_repeats = max(len(place) for place in _at_same_position(planes))
    used: list[int] = []
    for n in range(len(names)):
        if len({plane.marks[n : n + 1] for plane in planes}) < 2:
            continue
        used.append(n)
        groups: dict[Hashable, list[Plane]] = {}
        for plane in planes:
            groups.setdefault(tuple(plane.marks[m : m + 1] for m in used), []).append(plane)
        if _are_volumes(list(groups.values()), n_repeats):
            ordered = sorted(groups.values(), key=lambda group: _order(group, used))
            return [(_label(group[0], used), group) for group in ordered]
    return None


def _order(group: list[Plane], used: list[int]) -> Any:
    return min(plane.instance for plane in group), [group[0].marks[n][1] for n in used]


def _are_volumes(groups: list[list[Plane]], n_repeats: int) -> bool:
    """Whether a split makes sense: no position twice in a group, and no more groups than positions are repeated.

    A time that is another one in every slice would otherwise make a volume of each slice.
    """
    if any(len(_at_same_position(group)) != len(group) for group in groups):
        return False
    return len(groups) == n_repeats or min(len(group) for group in groups) > 1


def _label(plane: Plane, used: list[int]) -> str:
    parts = []
    for name, value in (plane.marks[n] for n in used):
        shown = (
            value if isinstance(value, str) else " ".join(f"{v:g}" for v in value) if isinstance(value, tuple) else ""
        )
        parts.append(f"{name} {shown.strip('/')}".strip())
    return ", ".join(parts)


def _without_copies(places: list[list[Plane]], same_pixels: SamePixels) -> tuple[list[list[Plane]], int]:
    kept, n_copies = [], 0
    for place in places:
        distinct: list[Plane] = []
        for plane in place:
            if any(same_pixels(plane, other) for other in distinct):
                n_copies += 1
            else:
                distinct.append(plane)
        kept.append(distinct)
    return kept, n_copies
