"""One history of everything that can be undone: clicks, answers, strokes, new and deleted lesions."""

from __future__ import annotations

from dataclasses import dataclass, replace

from napari_medseg.session.labels import BoxEdit
from napari_medseg.session.lesions import Lesion

MAX_STEPS = 200
MAX_BYTES = 512 * 2**20


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """The lesion table as a step found it or left it."""

    lesions: tuple[Lesion, ...]
    active_label: int


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One thing the user can undo.

    Parameters
    ----------
    text : str
        What happened, as a person would say it: ``"click"``.
    before, after : Table
        The lesion table on either side.
    edits : tuple of BoxEdit
        The changes of the label map, oldest first.
    """

    text: str
    before: Table
    after: Table
    edits: tuple[BoxEdit, ...] = ()

    @property
    def n_bytes(self) -> int:
        """Memory that this step holds."""
        return sum(edit.n_bytes for edit in self.edits)


class History:
    """Steps done and undone, the oldest forgotten first."""

    def __init__(self, *, max_steps: int = MAX_STEPS, max_bytes: int = MAX_BYTES) -> None:
        self._done: list[Step] = []
        self._undone: list[Step] = []
        self._max_steps, self._max_bytes = max_steps, max_bytes

    @property
    def last(self) -> Step | None:
        """The step that undo would take back."""
        return self._done[-1] if self._done else None

    @property
    def next(self) -> Step | None:
        """The step that redo would do again."""
        return self._undone[-1] if self._undone else None

    def push(self, step: Step) -> Step:
        """Add a step; whatever was undone before cannot be redone any more."""
        self._done.append(step)
        self._undone.clear()
        while len(self._done) > self._max_steps or (len(self._done) > 1 and self._n_bytes() > self._max_bytes):
            self._done.pop(0)
        return step

    def amend(self, step: Step, edits: tuple[BoxEdit, ...], after: Table) -> Step | None:
        """Let the newest step also have made these changes; None when it is not the newest (then nothing happens)."""
        if step is not self.last or self._undone:
            return None
        self._done[-1] = replace(step, edits=(*step.edits, *edits), after=after)
        return self._done[-1]

    def undo(self) -> Step | None:
        """Return the newest step, now undone."""
        return _move(self._done, self._undone)

    def redo(self) -> Step | None:
        """Return the step undone last, now done again."""
        return _move(self._undone, self._done)

    def _n_bytes(self) -> int:
        return sum(step.n_bytes for step in self._done)


def _move(source: list[Step], target: list[Step]) -> Step | None:
    if not source:
        return None
    target.append(source.pop())
    return target[-1]
