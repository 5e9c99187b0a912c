"""Corrections: strokes, undo and redo, reviewed slices, and Accept, which keeps them for learning."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from napari_medseg.errors import MedSegError
from napari_medseg.imaging.provenance import has_changed
from napari_medseg.session.answers import full_name
from napari_medseg.session.history import Step
from napari_medseg.session.lesions import Region
from napari_medseg.session.runner import Runner, Ticket, explain
from napari_medseg.session.session import Failures, Job
from napari_medseg.session.work import Editor, ScanWork


class SliceState(IntEnum):
    """What was done on one slice; the later names win."""

    UNTOUCHED = 0
    PREDICTED = 1
    CORRECTED = 2
    REVIEWED = 3


class Stores(Protocol):
    """Keeps corrections: `napari_medseg.learning.corrections.CorrectionStore`."""

    def add(self, correction: Any) -> Path:
        """Store one correction and return its folder."""


class CorrectController:
    """What the Correct step does.

    Parameters
    ----------
    editor : Editor
        Makes the undoable steps.
    runner : Runner
        Where corrections are written.
    store : Stores
        Keeps accepted corrections.
    stop : callable
        Stops waiting for the model: an answer that is under way is void after undo.
    failures : Failures, optional
        Where unexpected errors go.

    Attributes
    ----------
    accepted : Signal
        Emits the ScanWork whose correction was stored.
    """

    accepted = Signal(object)

    def __init__(
        self,
        editor: Editor,
        runner: Runner,
        store: Stores,
        *,
        stop: Callable[[], None] = lambda: None,
        failures: Failures | None = None,
    ) -> None:
        self.editor, self.session = editor, editor.session
        self._runner, self._store, self._stop = runner, store, stop
        self._failures = failures or Failures()

    def take_stroke(self, region: Region | None = None, *, touched: NDArray[np.bool_] | None = None) -> None:
        """Take over what the user painted or erased inside a box (anywhere without one): locked from now on."""
        if self.session.work is not None:
            self.editor.absorb(region, touched=touched)

    def undo(self) -> None:
        """Take back the newest click, answer, stroke or table change."""
        self._travel(self.editor.undo, "Undone", "There is nothing to undo.")

    def redo(self) -> None:
        """Do again what was undone last."""
        self._travel(self.editor.redo, "Done again", "There is nothing to redo.")

    def slice_states(self) -> NDArray[np.uint8]:
        """Return one `SliceState` for each slice along the scan's plane of acquisition."""
        work = self.session.work
        if work is None:
            return np.zeros(0, np.uint8)
        states = np.zeros(work.volume.data.shape[work.axis], np.uint8)
        states[sorted(work.labels.predicted_slices)] = SliceState.PREDICTED
        states[sorted(work.labels.corrected_slices)] = SliceState.CORRECTED
        states[sorted(self.session.reviewed)] = SliceState.REVIEWED
        return states

    def toggle_reviewed(self, index: int) -> None:
        """Mark a slice as reviewed, or take the mark back."""
        work = self.session.work
        if work is not None and 0 <= index < work.volume.data.shape[work.axis]:
            self.session.reviewed = self.session.reviewed ^ {index}

    def mark_all_reviewed(self) -> None:
        """Mark every slice as reviewed, or take all marks back when all are."""
        work = self.session.work
        if work is not None:
            every = frozenset(range(work.volume.data.shape[work.axis]))
            self.session.reviewed = frozenset() if self.session.reviewed == every else every

    def accept(self) -> None:
        """Keep the correction for learning: scan, proposed and corrected label maps, reviewed slices, effort."""
        try:
            work = self.editor.work
            self.take_stroke()
            correction = self._correction(work)
        except MedSegError as error:
            self.session.message = str(error)
            return
        self.session.busy = job = Job("Saving the correction")
        self._runner.submit(
            lambda _ticket: self._add(correction, _ticket),
            done=partial(self._on_accepted, work, work.history.last, job),
            failed=partial(self._on_failed, job),
        )

    def _correction(self, work: ScanWork) -> Callable[[], Any]:
        """Return what makes the correction, from copies taken now: later edits do not tear it."""
        reviewed = self.session.reviewed | work.labels.corrected_slices
        n_slices = work.volume.data.shape[work.axis]
        if not self.session.lesions:
            raise MedSegError("There is no lesion to accept: click on one, or paint it.")
        if not reviewed:
            raise MedSegError("No slice is reviewed yet: press R on the slices that are right, or mark all of them.")
        lesions = self.session.lesions
        corrected = work.label_map(lesions)
        fields = {
            "volume": work.volume,
            "corrected": corrected,
            "reviewed": None if len(reviewed) == n_slices else tuple(sorted(reviewed)),
            "axis": work.axis,
            "corrected_voxels": work.labels.locked.copy(),
            "prompts": tuple(prompt for lesion in lesions for prompt in lesion.prompts),
            "model": self._proposer(lesions),
            "seconds": round(work.seconds, 1),
        }
        return partial(_make_correction, work, lesions, fields)

    def _proposer(self, lesions: tuple[Any, ...]) -> str:
        """The version that proposed the newest lesion; where all was painted by hand, the one that could have."""
        proposers = [
            lesion.proposal.model for lesion in lesions if lesion.proposal is not None and lesion.proposal.model
        ]
        if proposers:
            return str(proposers[-1])
        return self.session.model_name if self.session.model is None else full_name(self.session.model)

    def _add(self, make: Callable[[], Any], _ticket: Ticket) -> Path:
        """Runs in the worker."""
        return self._store.add(make())

    def _on_accepted(self, work: ScanWork, last: Step | None, job: Job, folder: Path) -> None:
        self._end(job)
        work.accepted, work.saved = folder, last
        work.seconds = 0.0
        self.accepted.emit(work)
        n_slices = len(self.editor.reviewed_of(work) | work.labels.corrected_slices)
        kept = " The scan's file is not as it was when it was opened; the scan as you saw it was kept."
        note = kept if has_changed(work.volume) else ""
        slices = f"{n_slices} corrected or reviewed slice{'s' if n_slices > 1 else ''}"
        self.session.message = f"Accepted: {slices} will teach the model.{note}"

    def _on_failed(self, job: Job, error: Exception) -> None:
        self._end(job)
        self.session.message = explain(error)
        self._failures.report(error)

    def _end(self, job: Job) -> None:
        if self.session.busy is job:
            self.session.busy = None

    def _travel(self, move: Callable[[], Any], done: str, nothing: str) -> None:
        if self.session.work is None:
            return
        self._stop()
        self.take_stroke()
        step = move()
        self.session.message = f"{done}: {step.text}." if step is not None else nothing


def _make_correction(work: ScanWork, lesions: tuple[Any, ...], fields: dict[str, Any]) -> Any:
    from napari_medseg.learning.corrections import Correction

    proposed = work.proposed_label_map(lesions)
    edited = int(np.count_nonzero(proposed.data != fields["corrected"].data))
    return Correction(proposed=proposed, edited_voxels=edited, **fields)
