"""What a user tells the model: clicks, boxes and scribbles, in world millimetres (RAS+)."""

from __future__ import annotations

from dataclasses import dataclass

Point = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Click:
    """A point inside the lesion, or outside it with ``positive=False``."""

    position_mm: Point
    positive: bool = True


@dataclass(frozen=True, slots=True)
class Box:
    """Two opposite corners of a box that holds the lesion (or holds none of it, with ``positive=False``).

    The box's edges run along the scan's own axes. A box drawn on one slice has no thickness across it: the lesion
    may reach beyond that slice.
    """

    corner_mm: Point
    opposite_mm: Point
    positive: bool = True


@dataclass(frozen=True, slots=True)
class Scribble:
    """A line drawn inside the lesion (or outside it, with ``positive=False``), as the points it runs through."""

    points_mm: tuple[Point, ...]
    positive: bool = True


Prompt = Click | Box | Scribble
