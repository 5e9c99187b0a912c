"""Lesions: one row of the table each, with a label, a name, a colour and the prompts given for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_medseg.errors import MedSegError

if TYPE_CHECKING:
    from napari_medseg.imaging.volume import Confidence
    from napari_medseg.segmentation.prompts import Prompt

MAX_LABEL = 255
# Bright and far apart on grey images; red and green stay free for the prompts.
COLOURS = ("#ffb000", "#3fa7ff", "#ff5fa2", "#7ee081", "#b78bff", "#ff8a4c", "#36d1c4", "#e6e04f", "#c98b5a", "#8ea2ff")

Region = tuple[slice, slice, slice]


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """What a model alone answered for a lesion: a mask inside a box of the scan, and how sure it was round it."""

    region: Region
    mask: NDArray[np.bool_]
    confidence: Confidence | None = None
    model: str = ""


@dataclass(frozen=True, slots=True)
class Lesion:
    """One lesion of the open scan.

    Parameters
    ----------
    label : int
        Its value in the label map, 1 to 255.
    name : str
        What the user calls it.
    colour : str
        ``#rrggbb``.
    visible, locked : bool
        Whether it is drawn; whether predictions and brushes must leave it alone.
    prompts : tuple of Prompt
        What the user told the model about it.
    proposal : Proposal, optional
        The model's last answer, before any correction.
    """

    label: int
    name: str
    colour: str
    visible: bool = True
    locked: bool = False
    prompts: tuple[Prompt, ...] = ()
    proposal: Proposal | None = None


def lesion_of(lesions: Sequence[Lesion], label: int) -> Lesion | None:
    """Return the lesion with this label, where there is one."""
    return next((lesion for lesion in lesions if lesion.label == label), None)


def new_lesion(lesions: Sequence[Lesion], *, label: int | None = None, name: str = "") -> Lesion:
    """Return a lesion with the next free label, name and colour (not yet part of ``lesions``).

    Raises
    ------
    MedSegError
        If all 255 labels are taken.
    """
    taken = {lesion.label for lesion in lesions}
    free = label or next((value for value in range(max(taken, default=0) + 1, MAX_LABEL + 1)), None)
    free = free or next((value for value in range(1, MAX_LABEL + 1) if value not in taken), None)
    if free is None:
        raise MedSegError(f"A scan holds at most {MAX_LABEL} lesions: delete one before you add another.")
    return Lesion(free, name or f"Lesion {free}", COLOURS[(free - 1) % len(COLOURS)])


def replaced(lesions: Sequence[Lesion], label: int, **changes: Any) -> tuple[Lesion, ...]:
    """Return the lesions with some fields of one of them changed."""
    return tuple(replace(lesion, **changes) if lesion.label == label else lesion for lesion in lesions)


def restored(wanted: Sequence[Lesion], current: Sequence[Lesion]) -> tuple[Lesion, ...]:
    """Return ``wanted`` as undo needs it: looks (name, colour, visible, locked) stay as they are now."""
    kept = []
    for lesion in wanted:
        now = lesion_of(current, lesion.label)
        looks = {key: getattr(now, key) for key in ("name", "colour", "visible", "locked")} if now else {}
        kept.append(replace(lesion, **looks))
    return tuple(kept)
