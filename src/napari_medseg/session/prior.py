"""Compare the open scan with a prior one: registration, what became of each lesion, and where something changed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_medseg.errors import MedSegError
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.session.answers import load
from napari_medseg.session.open import OpenController
from napari_medseg.session.runner import Runner, Ticket, explain
from napari_medseg.session.session import Failures, Job, Segments
from napari_medseg.session.work import ScanWork

if TYPE_CHECKING:
    from napari_medseg.followup.compare import FollowUp
    from napari_medseg.followup.matching import Row
    from napari_medseg.followup.settings import CompareSettings


class PriorController:
    """Compares two open scans.

    Parameters
    ----------
    opening : OpenController
        Knows the open scans with their lesions.
    runner : Runner
        Where the comparison is computed.
    loader : callable
        Loads the model that proposes lesions, by its name.
    failures : Failures, optional
        Where unexpected errors go.

    Attributes
    ----------
    compared : Signal
        There is a new comparison, or none any more.
    found : FollowUp, optional
        The last comparison.
    """

    compared = Signal()

    def __init__(
        self,
        opening: OpenController,
        runner: Runner,
        *,
        loader: Callable[[str], Segments] = load,
        failures: Failures | None = None,
    ) -> None:
        self.opening, self.session = opening, opening.session
        self._runner, self._loader, self._failures = runner, loader, failures or Failures()
        self.found: FollowUp | None = None
        self._scan: Volume | None = None

    @property
    def scan(self) -> Volume | None:
        """The current scan of the last comparison."""
        return self._scan

    def choices(self) -> tuple[Volume, ...]:
        """Open scans that could be the prior of the one that is worked on."""
        return tuple(scan for scan in self.opening.scans if scan is not self.session.volume)

    def compare(self, prior: Volume, settings: CompareSettings | None = None, *, scored: bool = False) -> None:
        """Compare the open scan with a prior one; `compared` tells when it is done, the message what came out.

        ``scored`` adds the Siamese network's change score of each lesion.
        """
        works = {id(work.volume): work for work in self.opening.works}
        current = self.session.work
        if current is None or id(prior) not in works:
            self.session.message = "Open both visits first: the prior, then the current scan."
            return
        self.opening.editor.absorb(text="stroke")
        masks = [self._mask(works[id(prior)]), self._mask(current)]
        model, name = self.session.model, self.session.model_name
        job = Job(f"Comparing with {prior.name}", 0.0, self._cancel)
        self.session.busy = job

        def work(ticket: Ticket) -> FollowUp:
            from napari_medseg.followup.compare import compare_visits

            found = compare_visits(
                prior,
                current.volume,
                *masks,
                settings=settings,
                model=lambda: model or self._loader(name),
                progress=ticket.report,
                should_stop=ticket.should_stop,
            )
            if not scored or not found.rows:
                return found
            from napari_medseg.followup.siamese import with_scores

            return with_scores(found, prior, should_stop=ticket.should_stop)

        self._runner.submit(
            work,
            done=partial(self._on_compared, current),
            failed=self._on_failed,
            on_progress=partial(self._on_progress, job),
        )

    def forget(self) -> None:
        """Drop the comparison."""
        self.found, self._scan = None, None
        self.compared.emit()

    def index_of(self, row: Row) -> tuple[int, int, int] | None:
        """Voxel of the current scan at which a lesion is or was; None outside of it."""
        if self._scan is None:
            return None
        z, y, x = (int(n) for n in np.round(self._scan.index_of(row.position_mm)))
        inside = all(0 <= at < n for at, n in zip((z, y, x), self._scan.data.shape, strict=True))
        return (z, y, x) if inside else None

    def take_proposal(self) -> None:
        """Make the proposed lesions lesions of the scan that they are proposed on."""
        if self.found is None or self.found.proposed is None:
            return
        work = next((each for each in self.opening.works if each.volume is self._scan), None)
        if self.found.proposed_on != "current" or work is None:
            self.session.message = "The lesions are proposed on the prior: open it and mark what you agree with."
            return
        self.opening.choose(work.volume)
        try:
            self.opening.load(self.found.proposed, work)
        except MedSegError as error:
            self.session.message = str(error)
            return
        self.session.message = "The proposed lesions are taken over: correct them, then compare again."

    def export(self, path: Path) -> None:
        """Write the table as CSV."""
        if self.found is None:
            return
        try:
            self.found.write_csv(path)
        except (MedSegError, OSError) as error:
            self.session.message = str(error)
            return
        self.session.message = f"{path.name}: {len(self.found.rows)} lesions, saved."

    def _mask(self, work: ScanWork) -> LabelMap | None:
        """Lesions of a scan; None where none was marked, so that they are proposed."""
        lesions = self.session.lesions if work is self.session.work else work.table.lesions
        return work.label_map(lesions) if work.labels.n_voxels[1:].any() else None

    def _cancel(self) -> None:
        self._runner.cancel()
        self.session.busy = None
        self.session.message = "Stopped."

    def _on_progress(self, job: Job, fraction: float) -> None:
        if self.session.busy is not None and self.session.busy.name == job.name:
            self.session.busy = job.at(fraction)

    def _on_compared(self, work: ScanWork, found: Any) -> None:
        self.session.busy = None
        if not any(each is work for each in self.opening.works):
            return
        self.found, self._scan = found, work.volume
        self.session.message = " ".join((found.sentence, *found.notes))
        self.compared.emit()

    def _on_failed(self, error: Exception) -> None:
        self.session.busy = None
        self.session.message = explain(error)
        self._failures.report(error)
