"""Old and new version side by side on a corrected case, and what corrections took before and after each version."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_medseg.errors import MedSegError
from napari_medseg.learning.corrections_folder import choose_corrections_folder, in_words, is_chosen
from napari_medseg.learning.effort import Effort, MeanEffort, efforts, mean_efforts, write_efforts
from napari_medseg.models.library import CLICK, Library
from napari_medseg.session.runner import Runner, Ticket, explain
from napari_medseg.session.session import Failures, Job, Session

if TYPE_CHECKING:
    from napari_medseg.learning.comparison import Comparison
    from napari_medseg.learning.corrections import CorrectionStore


class CompareController:
    """What is known of the accepted corrections, and two versions on one of them.

    Parameters
    ----------
    session : Session
        The state.
    store : CorrectionStore
        The accepted corrections.
    library : Library
        The versions.
    runner : Runner
        Where the models answer.
    failures : Failures, optional
        Where unexpected errors go.

    Attributes
    ----------
    compared : Signal
        Emits the Comparison that was asked for.
    changed : Signal
        A case was pinned, let teach again or removed, or there are other cases in another folder.
    """

    compared = Signal(object)
    changed = Signal()

    def __init__(
        self,
        session: Session,
        store: CorrectionStore,
        library: Library,
        runner: Runner,
        *,
        failures: Failures | None = None,
    ) -> None:
        self.session, self.store, self.library = session, store, library
        self._runner, self._failures = runner, failures or Failures()

    def cases(self) -> tuple[Effort, ...]:
        """The corrections with what they took, oldest first; their cards are read, nothing else."""
        return efforts(self.store.list())

    def trouble(self) -> str:
        """Why corrections cannot be seen, and what to do; empty where all of them can."""
        return self.store.trouble()

    def means(self) -> tuple[MeanEffort, ...]:
        """What a case took on average, by the version that proposed."""
        return mean_efforts(self.cases())

    def pin(self, correction: str, pinned: bool) -> None:
        """Never let a version in that gets worse on this case, or let the case teach again."""
        try:
            self.store.pin(correction, pinned)
        except (MedSegError, OSError) as error:
            self.session.message = str(error)
            return
        what = "pinned: no new version may get worse on it" if pinned else "no longer pinned: it teaches again"
        self.session.message = f"{correction} is {what}."
        self.changed.emit()

    def remove(self, correction: str) -> None:
        """Let a case teach no more; its folder is kept."""
        try:
            kept = self.store.remove(correction)
        except (MedSegError, OSError) as error:
            self.session.message = str(error)
            return
        self.session.message = f"{correction} teaches no more; it is kept in {kept.parent}."
        self.changed.emit()

    @property
    def folder(self) -> Path:
        """Where corrections are kept."""
        return self.store.root

    @property
    def keeps_elsewhere(self) -> bool:
        """Whether the user chose the folder."""
        return is_chosen()

    def keep_in(self, folder: Path) -> None:
        """Keep corrections in another folder from now on; the old folder stays as it is."""
        try:
            choose_corrections_folder(folder)
        except (MedSegError, OSError) as error:
            self.session.message = str(error)
            return
        self.store.root = folder.resolve()
        n = len(self.store.list())
        there = f"{n} corrected scan{'s are' if n > 1 else ' is'} there already" if n else "there is none yet"
        there = self.trouble() or there
        self.session.message = f"Corrections are kept in {in_words(self.store.root)} from now on; {there}."
        self.changed.emit()

    def export(self, path: Path) -> None:
        """Write what every correction took as CSV."""
        try:
            cases = efforts(self.store.list(superseded=True))
            write_efforts(path, cases)
        except (MedSegError, OSError) as error:
            self.session.message = f"{path} was not written: {error}"
            return
        self.session.message = f"{path.name}: {len(cases)} corrections, saved, verified."

    def versions(self) -> tuple[int, int] | None:
        """The newest version and the one to compare it with: the active one, or the one before. None with only one."""
        try:
            name = self._name
            numbers = [card.version for card in self.library.versions(name)]
            active = self.library.active(name)
        except MedSegError:
            return None
        if len(numbers) < 2:
            return None
        newest = numbers[-1]
        return (active if active != newest else numbers[-2]), newest

    def compare(self, correction: str, versions: tuple[int, int] | None = None) -> None:
        """Let two versions segment a corrected case; `compared` tells when both have answered."""
        chosen = versions or self.versions()
        stored = next((each for each in self.store.list(superseded=True) if each.id == correction), None)
        if chosen is None or stored is None:
            self.session.message = "There is nothing to compare: fine-tune on a correction first."
            return
        try:
            old, new = ((number, self.library.path(self._name, number)) for number in chosen)
        except MedSegError as error:
            self.session.message = str(error)
            return

        def work(ticket: Ticket) -> Comparison:
            from napari_medseg.learning.comparison import compare_versions

            return compare_versions(stored, (old, new), should_stop=ticket.should_stop)

        self.session.busy = Job(f"Versions {old[0]} and {new[0]} on {correction}", None, self._cancel)
        self._runner.submit(work, done=self._on_compared, failed=self._on_failed)

    @property
    def _name(self) -> str:
        chosen = self.session.model_name
        return chosen if chosen in self.library.names() else CLICK

    def _cancel(self) -> None:
        self._runner.cancel()
        self.session.busy = None
        self.session.message = "Stopped."

    def _on_compared(self, comparison: Any) -> None:
        self.session.busy = None
        self.compared.emit(comparison)
        self.session.message = f"{comparison.sentence}."

    def _on_failed(self, error: Exception) -> None:
        self.session.busy = None
        self.session.message = explain(error)
        self._failures.report(error)
