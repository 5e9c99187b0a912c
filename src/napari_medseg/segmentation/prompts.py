"""What a user tells the model: clicks, boxes, scribbles and lassos, in world millimetres (RAS+)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from napari_medseg.errors import ModelError

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


@dataclass(frozen=True, slots=True)
class Lasso:
    """A line drawn round the lesion on a slice (or round none of it, with ``positive=False``): its points, in order.

    The last point is joined to the first. The slice is one along the scan's own axes; the lesion may reach beyond it.

    Raises
    ------
    ModelError
        If there are fewer than three points.
    """

    points_mm: tuple[Point, ...]
    positive: bool = True

    def __post_init__(self) -> None:
        if len(self.points_mm) < 3:
            raise ModelError("a lasso needs at least three points")


Prompt = Click | Box | Scribble | Lasso
_KINDS: Mapping[str, type[Prompt]] = {"click": Click, "box": Box, "scribble": Scribble, "lasso": Lasso}


def kind_of(prompt: Prompt) -> str:
    """``"click"``, ``"box"``, ``"scribble"`` or ``"lasso"``."""
    return type(prompt).__name__.lower()


def prompt_to(prompt: Prompt) -> dict[str, Any]:
    """Return a prompt as JSON holds it."""
    return {"kind": kind_of(prompt), **asdict(prompt)}


def prompt_from(plain: Mapping[str, Any]) -> Prompt:
    """Return the prompt that JSON holds.

    Raises
    ------
    KeyError, TypeError
        If it is none.
    """
    fields = {key: _tuples(value) for key, value in plain.items() if key != "kind"}
    return _KINDS[plain["kind"]](**fields)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(each) for each in value) if isinstance(value, (list, tuple)) else value
