"""One open scan with the work done on it, and the editor that changes it in undoable steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from napari_medseg.errors import MedSegError
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.session.history import History, Step, Table
from napari_medseg.session.labels import BoxEdit, WorkingLabels, values_in, whole_region
from napari_medseg.session.lesions import Lesion, Region, new_lesion, restored
from napari_medseg.session.session import Session

LONGEST_THOUGHT_S = 30.0


@dataclass(eq=False)
class ScanWork:
    """One open scan and the work done on it.

    Parameters
    ----------
    volume : Volume
        The scan.
    axis : int
        The axis along which the scan was acquired: its slices are reviewed one by one.
    labels : WorkingLabels
        The label map that is being worked on.
    history : History
        What can be undone.
    table, reviewed : Table, frozenset of int
        Where the session was when the user turned to another scan.
    fingerprint : str
        The scan's content in a few letters.
    accepted : Path, optional
        The folder of the last accepted correction.
    saved : Step, optional
        The newest step that is part of the last correction or export.
    seconds : float
        How long the user has worked on the lesions, pauses left out.
    """

    volume: Volume
    axis: int = 0
    labels: WorkingLabels = field(init=False)
    history: History = field(default_factory=History)
    table: Table = field(default_factory=lambda: Table((), 1))
    reviewed: frozenset[int] = frozenset()
    fingerprint: str = ""
    accepted: Path | None = None
    saved: Step | None = None
    seconds: float = 0.0
    touched_at: float = field(default_factory=monotonic)

    def __post_init__(self) -> None:
        shape: tuple[int, int, int] = self.volume.data.shape
        self.labels = WorkingLabels(shape, axis=self.axis)

    def label_map(self, lesions: tuple[Lesion, ...] = ()) -> LabelMap:
        """Return the labels as they are now, a copy on the scan's grid."""
        return self._as_label_map(self.labels.data.copy(), lesions)

    def proposed_label_map(self, lesions: tuple[Lesion, ...]) -> LabelMap:
        """Return what the model alone answered last for each lesion."""
        data = np.zeros(self.volume.data.shape, np.uint8)
        for lesion in lesions:
            if lesion.proposal is not None:
                data[lesion.proposal.region][lesion.proposal.mask] = lesion.label
        return self._as_label_map(data, lesions)

    def _as_label_map(self, data: NDArray[np.uint8], lesions: tuple[Lesion, ...]) -> LabelMap:
        names = {lesion.label: lesion.name for lesion in lesions}
        volume = self.volume
        return LabelMap(data, volume.affine, names, grid=volume.grid, metadata=volume.metadata)

    def note_time(self) -> None:
        """Count the time since the last change as work, unless it was a pause."""
        now = monotonic()
        self.seconds += min(now - self.touched_at, LONGEST_THOUGHT_S)
        self.touched_at = now


class Editor:
    """Changes the open scan's lesions in steps that can be undone. Knows no model, no layer and no widget.

    Parameters
    ----------
    session : Session
        The state to change.

    Attributes
    ----------
    changed : Signal
        Emits the box of the label map that must be drawn again.
    stepped : Signal
        Emits the ScanWork after each step, undo and redo, with the boxes that changed.
    """

    changed = Signal(object)
    stepped = Signal(object, tuple)

    def __init__(self, session: Session) -> None:
        self.session = session

    @property
    def work(self) -> ScanWork:
        """The open scan's work.

        Raises
        ------
        MedSegError
            If no scan is open.
        """
        if self.session.work is None:
            raise MedSegError("Open a scan first.")
        return self.session.work

    @property
    def table(self) -> Table:
        """The lesion table as it is now."""
        return Table(self.session.lesions, self.session.active_label)

    def table_of(self, work: ScanWork) -> Table:
        """Return the lesion table of any scan's work as it is now, whichever scan is open."""
        return self.table if self.session.work is work else work.table

    def reviewed_of(self, work: ScanWork) -> frozenset[int]:
        """Return the slices of any scan's work that are marked as reviewed, whichever scan is open."""
        return self.session.reviewed if self.session.work is work else work.reviewed

    @property
    def protected(self) -> tuple[int, ...]:
        """Labels of the lesions that the user locked."""
        return tuple(lesion.label for lesion in self.session.lesions if lesion.locked)

    def step(self, text: str, *edits: BoxEdit | None, before: Table | None = None) -> Step:
        """Record one undoable step: the edits were made, and the table is as it is now."""
        made = tuple(edit for edit in edits if edit is not None)
        step = self.work.history.push(Step(text, before or self.table, self.table, made))
        self._tell(made)
        return step

    def amend(self, step: Step, *edits: BoxEdit | None, text: str) -> Step:
        """Add edits to a step while it is the newest, else record them as a step of their own."""
        made = tuple(edit for edit in edits if edit is not None)
        amended = self.work.history.amend(step, made, self.table)
        if amended is None:
            return self.step(text, *made)
        self._tell(made)
        return amended

    def absorb(
        self, region: Region | None = None, *, touched: NDArray[np.bool_] | None = None, text: str = "stroke"
    ) -> Step | None:
        """Take over what the user painted inside a box (anywhere without one) as one step; None if nothing changed."""
        labels = self.work.labels
        box = region or whole_region(labels.data.shape)
        edit = labels.absorb(box, touched=touched, protected=self.protected)
        if self.protected:
            self.changed.emit(box)
        if edit is None:
            return None
        before = self.table
        self._add_rows(edit)
        return self.step(text, edit, before=before)

    def undo(self) -> Step | None:
        """Take the newest step back."""
        step = self.work.history.undo()
        if step is not None:
            self._restore(step.before, tuple(edit.inverse for edit in reversed(step.edits)))
        return step

    def redo(self) -> Step | None:
        """Do the step again that was undone last."""
        step = self.work.history.redo()
        if step is not None:
            self._restore(step.after, step.edits)
        return step

    def _add_rows(self, edit: BoxEdit) -> None:
        """Give labels that were painted for the first time a row in the table."""
        known = {lesion.label for lesion in self.session.lesions}
        fresh = [label for label in values_in(edit.after) if label not in known]
        if fresh:
            rows = (new_lesion(self.session.lesions, label=label) for label in fresh)
            self.session.lesions = (*self.session.lesions, *rows)

    def _restore(self, table: Table, edits: tuple[BoxEdit, ...]) -> None:
        for edit in edits:
            self.work.labels.apply(edit)
        self.session.lesions = restored(table.lesions, self.session.lesions)
        self.session.active_label = table.active_label
        self._tell(edits)

    def _tell(self, edits: tuple[BoxEdit, ...]) -> None:
        work = self.work
        work.note_time()
        for edit in edits:
            self.changed.emit(edit.region)
        self.stepped.emit(work, tuple(edit.region for edit in edits))
