"""Compare a scan with a prior one of the same patient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_medseg.errors import Cancelled, EvaluationError
from napari_medseg.evaluation.page import write_csv
from napari_medseg.followup.change import Change, change_between
from napari_medseg.followup.findings import Finding, findings_of
from napari_medseg.followup.matching import Row, State, match
from napari_medseg.followup.people import check_same_person
from napari_medseg.followup.proposing import Segments, propose
from napari_medseg.followup.settings import ChangeSettings, CompareSettings
from napari_medseg.imaging.orientation import describe_grid, same_grid
from napari_medseg.imaging.registration import Registration, register_rigid
from napari_medseg.imaging.volume import LabelMap, Volume

NO_LESION = "No lesion is marked at either visit: only the change map was made. Segment a lesion, then compare again."
_REGISTERED, _CHANGED = 0.6, 0.8


@dataclass(frozen=True, slots=True, eq=False)
class FollowUp:
    """A comparison of two visits.

    Parameters
    ----------
    prior, current : Volume
        The two scans; the prior is registered: its affine says where it lies in the current scan's world.
    registration : Registration
        World of the prior (as in its file) to world of the current scan.
    rows : tuple of Row
        One a lesion.
    change : Change
        What changed voxel by voxel, on the current scan's grid.
    proposed : LabelMap, optional
        Lesions that were marked at the other visit alone, proposed on this one: nobody has confirmed them.
    proposed_on : str
        ``"current"`` or ``"prior"``: which scan they are proposed on; empty without a proposal.
    moved : tuple of int
        Labels of proposed lesions that the model did not find: the other visit's masks, moved.
    notes : tuple of str
        What to know when reading the table, one sentence each.
    """

    prior: Volume
    current: Volume
    registration: Registration
    rows: tuple[Row, ...]
    change: Change
    proposed: LabelMap | None = None
    proposed_on: str = ""
    moved: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """How many lesions are new, grown and so on; states that none is in are left out."""
        states = [row.state.value for row in self.rows]
        return {state: states.count(state) for state in dict.fromkeys(states)}

    @property
    def sentence(self) -> str:
        """The comparison in a sentence."""
        how = f"registered by {self.registration.turn_degrees:.1f}° (similarity {self.registration.similarity:.2f})"
        lesions = ", ".join(f"{n} {state}" for state, n in self.counts().items()) or "no lesion marked"
        return f"'{self.current.name}' against '{self.prior.name}': {lesions}; {how}."

    def as_json(self) -> dict[str, Any]:
        """The same as JSON can hold it."""
        return {
            "prior": self.prior.name,
            "current": self.current.name,
            "prior_to_current_mm": np.round(self.registration.matrix, 6).tolist(),
            "similarity": round(self.registration.similarity, 4),
            "overlap": round(self.registration.overlap, 4),
            "counts": self.counts(),
            "lesions": [row.as_json() for row in self.rows],
            "proposed_on": self.proposed_on,
            "notes": list(self.notes),
        }

    def write_csv(self, path: Path) -> Path:
        """Write the table, a row a lesion; the file is replaced in one step.

        Raises
        ------
        EvaluationError
            If no lesion is marked.
        """
        if not self.rows:
            raise EvaluationError(f"{path.name} was not written: no lesion is marked at either visit")
        return write_csv(path, [row.as_json() for row in self.rows])


def compare_visits(
    prior: Volume,
    current: Volume,
    prior_mask: LabelMap | None = None,
    current_mask: LabelMap | None = None,
    *,
    settings: CompareSettings | None = None,
    change_settings: ChangeSettings | None = None,
    model: Segments | Callable[[], Segments] | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> FollowUp:
    """Register two visits, match their lesions, and map what changed.

    Parameters
    ----------
    prior, current : Volume
        Two scans of one patient.
    prior_mask, current_mask : LabelMap, optional
        Lesions of each visit on its own scan's grid. Where one is not given, the other's are
        proposed there; an empty mask says that there was none.
    settings, change_settings : optional
        Tolerances and thresholds.
    model : optional
        Segments proposals from clicks (or a function that returns such a model, called when it is needed).
    progress : callable
        Told how far the work is, 0 to 1.
    should_stop : callable
        Asked between steps.

    Raises
    ------
    MedSegError
        If the scans name two patients or cannot be laid over each other, or a mask lies on another grid.
    Cancelled
        If ``should_stop`` said so.
    """
    _check(prior, current, prior_mask, current_mask)
    found = register_rigid(prior, current, progress=lambda done: progress(_REGISTERED * done), should_stop=should_stop)
    moved = replace(prior, affine=found.matrix @ prior.affine, grid=None)
    change = change_between(moved, current, change_settings)
    if should_stop():
        raise Cancelled("Stopped.")
    progress(_CHANGED)
    before, now = (findings_of(mask) if mask is not None else () for mask in (prior_mask, current_mask))
    result = FollowUp(moved, current, found, (), change)
    if not before and not now:
        return replace(result, notes=(NO_LESION,))
    if (prior_mask is None) != (current_mask is None):
        result, before, now = _with_proposal(
            result, prior, (before, prior_mask), (now, current_mask), model=model,
            progress=lambda done: progress(_CHANGED + (1 - _CHANGED) * done), should_stop=should_stop,
        )  # fmt: skip
    rows = match(
        before, now, prior_scan=prior, current_scan=current, matrix=found.matrix, settings=settings or CompareSettings()
    )
    return replace(result, rows=tuple(_told(row, result) for row in rows))


def _told(row: Row, result: FollowUp) -> Row:
    """A mask that was only moved is no measurement."""
    proposed = row.current if result.proposed_on == "current" else row.prior
    if not result.proposed_on or not any(each.label in result.moved for each in proposed):
        return row
    return replace(row, state=State.PROPOSED, note="the other visit's mask, moved: not measured at this visit")


def _with_proposal(
    result: FollowUp,
    prior: Volume,
    before: tuple[tuple[Finding, ...], LabelMap | None],
    now: tuple[tuple[Finding, ...], LabelMap | None],
    *,
    model: Segments | Callable[[], Segments] | None,
    progress: Callable[[float], None],
    should_stop: Callable[[], bool],
) -> tuple[FollowUp, tuple[Finding, ...], tuple[Finding, ...]]:
    """Fill in the visit that has no lesions."""
    onto_current = bool(before[0])
    (findings, marked), onto = (before, result.current) if onto_current else (now, prior)
    matrix = result.registration.matrix
    matrix = matrix if onto_current else np.asarray(np.linalg.inv(matrix), np.float64)
    assert marked is not None
    asked = model() if callable(model) else model
    proposed, moved = propose(findings, marked, onto, matrix, model=asked, progress=progress, should_stop=should_stop)
    where = "current" if onto_current else "prior"
    notes = [
        f"The lesions of the {where} scan are proposals made from the other visit: check them before you rely on them."
    ]
    if moved:
        named = _listed([proposed.names[label] for label in moved])
        notes.append(f"Proposed where they were, as the model found no such lesion there: {named}.")
    result = replace(result, proposed=proposed, proposed_on=where, moved=moved, notes=tuple(notes))
    found = findings_of(proposed)
    return result, before[0] or found, now[0] or found


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _check(prior: Volume, current: Volume, prior_mask: LabelMap | None, current_mask: LabelMap | None) -> None:
    flat = [min(volume.data.shape) == 1 for volume in (prior, current)]
    if any(flat):
        which = (
            "are single pictures"
            if all(flat)
            else f"differ: '{(prior if flat[0] else current).name}' is a single picture, the other a volume"
        )
        raise EvaluationError(f"'{prior.name}' and '{current.name}' {which}: compare two volumes")
    if same_grid(prior, current) and np.array_equal(prior.data, current.data):
        raise EvaluationError(f"'{prior.name}' and '{current.name}' are the same scan: choose the prior visit's")
    check_same_person(prior, current)
    for mask, scan in ((prior_mask, prior), (current_mask, current)):
        if mask is not None and not same_grid(mask, scan, tol_mm=0.1):
            called = mask.path.name if mask.path else "the mask"
            raise EvaluationError(
                f"{called} ({describe_grid(mask)}) does not lie on '{scan.name}' ({describe_grid(scan)}): export it on "
                "its scan's own grid first"
            )
